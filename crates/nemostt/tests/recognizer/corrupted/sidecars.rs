// SPDX-License-Identifier: MIT OR Apache-2.0

//! A corrupt `nemostt.json` with a valid model.

use std::fs;

use super::{damage::damage_file, random::Random, transcribe};
use crate::common::{clip, data};

/// A file with all fields.
const VALID: &str = r#"{"format": 1, "layout": "nemo", "class": "EncDecHybridRNNTCTCBPEModel",
 "preprocessor": {"sample_rate": 16000, "window_size": 0.025, "window_stride": 0.01, "window": "hann",
                  "n_fft": 512, "features": 80, "normalize": "NA", "preemph": 0.97},
 "lookaheads": [0, 1, 6, 13], "labels": 128,
 "special": {"end_of_utterance": 24, "end_of_backchannel": 25},
 "prompt": {"dictionary": {"en-US": 0}, "auto": 101, "size": 128},
 "decoders": ["rnnt", "ctc"], "precision": "fp32",
 "nemo_version": "2.7.3", "source": "model.nemo", "licence": "cc-by-4.0"}"#;

#[test]
fn corrupt_sidecars_are_rejected_or_used() {
    // Can be set to try more of them.
    let count = std::env::var("NEMOSTT_SIDECARS").map_or(40, |count| count.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(data("layouts/nemo")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, directory.path().join(path.file_name().unwrap())).unwrap();
    }
    let second = &clip("u2_digits")[..16_000];
    let load = |text: &[u8]| {
        fs::write(directory.path().join("nemostt.json"), text).unwrap();
        transcribe(directory.path(), second, None)
    };
    assert_eq!(load(VALID.as_bytes()).unwrap(), "ran");
    let (mut ran, mut rejected) = (0, 0);
    for number in 0..count {
        let mut text = VALID.as_bytes().to_vec();
        damage_file(&mut text, &mut Random(number));
        match load(&text) {
            Ok(outcome) => {
                assert_eq!(outcome, "ran", "{}", String::from_utf8_lossy(&text));
                ran += 1;
            }
            Err(_) => rejected += 1,
        }
    }
    println!("{ran} ran, {rejected} were rejected");
    assert!(ran > 0 && rejected > 0, "{ran} ran, {rejected} were rejected");
}
