// SPDX-License-Identifier: MIT OR Apache-2.0

//! Damaged settings beside a sound model.

use std::fs;

use super::{damage::damage_file, hear, random::Random};
use crate::common::{clip, data};

/// All that can be said.
const SOUND: &str = r#"{"format": 1, "layout": "nemo", "class": "EncDecHybridRNNTCTCBPEModel",
 "preprocessor": {"sample_rate": 16000, "window_size": 0.025, "window_stride": 0.01, "window": "hann",
                  "n_fft": 512, "features": 80, "normalize": "NA", "preemph": 0.97},
 "lookaheads": [0, 1, 6, 13], "labels": 128,
 "special": {"end_of_utterance": 24, "end_of_backchannel": 25},
 "prompt": {"dictionary": {"en-US": 0}, "auto": 101, "size": 128},
 "decoders": ["rnnt", "ctc"], "precision": "fp32",
 "nemo_version": "2.7.3", "source": "model.nemo", "licence": "cc-by-4.0"}"#;

#[test]
fn damaged_sidecars_are_refused_or_used() {
    // By hand: more of them.
    let count = std::env::var("NEMOSTT_SIDECARS").map_or(40, |count| count.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(data("layouts/nemo")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, directory.path().join(path.file_name().unwrap())).unwrap();
    }
    let second = &clip("u2_digits")[..16_000];
    let load = |text: &[u8]| {
        fs::write(directory.path().join("nemostt.json"), text).unwrap();
        hear(directory.path(), second, None)
    };
    assert_eq!(load(SOUND.as_bytes()).unwrap(), "ran");
    let (mut ran, mut refused) = (0, 0);
    for number in 0..count {
        let mut text = SOUND.as_bytes().to_vec();
        damage_file(&mut text, &mut Random(number));
        match load(&text) {
            Ok(heard) => {
                assert_eq!(heard, "ran", "{}", String::from_utf8_lossy(&text));
                ran += 1;
            }
            Err(_) => refused += 1,
        }
    }
    println!("{ran} ran, {refused} were refused");
    assert!(ran > 0 && refused > 0, "{ran} ran, {refused} were refused");
}
