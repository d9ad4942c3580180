// SPDX-License-Identifier: MIT OR Apache-2.0

//! The front end compared with NeMo's mel features, and with itself for different buffer sizes.

use crate::common::{CLIPS, Goldens, clip};
use nemostt::features::{FrontEnd, FrontEndConfig};
use proptest::prelude::*;

/// Mel frames of `samples`, fed in blocks of the sizes in `cuts`, repeated.
fn mel(samples: &[f32], cuts: &[usize]) -> Vec<Vec<f32>> {
    let mut front_end = FrontEnd::new(FrontEndConfig::nemo(80));
    let mut frames = Vec::new();
    let mut keep = |frame: &[f32]| -> Result<(), std::convert::Infallible> {
        frames.push(frame.to_vec());
        Ok(())
    };
    let mut rest = samples;
    for &cut in cuts.iter().cycle() {
        let (block, after) = rest.split_at(cut.min(rest.len()));
        front_end.accept(block, &mut keep).unwrap();
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    front_end.finish(&mut keep).unwrap();
    frames
}

#[test]
fn mel_matches_nemo_for_every_clip() {
    let mut goldens = Goldens::open("mel");
    let mut worst: f32 = 0.0;
    for name in CLIPS {
        let expected = goldens.mel(name);
        let frames = mel(&clip(name), &[1600]);
        assert_eq!(frames.len(), expected.ncols(), "{name}");
        for (t, frame) in frames.iter().enumerate() {
            for (m, value) in frame.iter().enumerate() {
                let difference = (value - expected[[m, t]]).abs();
                assert!(
                    difference < 1e-3,
                    "{name}: frame {t}, band {m}: {value} and {}",
                    expected[[m, t]]
                );
                worst = worst.max(difference);
            }
        }
    }
    println!("largest difference from NeMo: {worst:e}");
}

#[test]
fn one_sample_at_a_time_is_bit_exact() {
    let samples = clip("e6_odd");
    assert_eq!(mel(&samples, &[1]), mel(&samples, &[samples.len()]));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn any_buffer_sizes_are_bit_exact(
        length in 0_usize..9_000,
        cuts in prop::collection::vec(1_usize..5_000, 1..12),
    ) {
        let samples = clip("u1_command");
        let samples = &samples[..length];
        prop_assert_eq!(mel(samples, &cuts), mel(samples, &[length.max(1)]));
    }
}
