// SPDX-License-Identifier: MIT OR Apache-2.0

//! The front end against NeMo's own mel, and against itself for every way of cutting the audio.

use crate::common::{CLIPS, Goldens, clip};
use nemostt::features::{FrontEnd, FrontEndConfig};
use proptest::prelude::*;

/// Mel frames of `samples`, fed in pieces of the sizes in `cuts` (over and over).
fn mel(samples: &[f32], cuts: &[usize]) -> Vec<Vec<f32>> {
    let mut front_end = FrontEnd::new(FrontEndConfig::nemo(80));
    let mut frames = Vec::new();
    let mut keep = |frame: &[f32]| -> Result<(), std::convert::Infallible> {
        frames.push(frame.to_vec());
        Ok(())
    };
    let mut rest = samples;
    for &cut in cuts.iter().cycle() {
        let (piece, after) = rest.split_at(cut.min(rest.len()));
        front_end.accept(piece, &mut keep).unwrap();
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    front_end.finish(&mut keep).unwrap();
    frames
}

#[test]
fn every_clip_agrees_with_nemo() {
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
    println!("largest difference to NeMo: {worst:e}");
}

#[test]
fn one_sample_at_a_time_gives_the_same_bits() {
    let samples = clip("e6_odd");
    assert_eq!(mel(&samples, &[1]), mel(&samples, &[samples.len()]));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn any_cut_gives_the_same_bits(
        length in 0_usize..9_000,
        cuts in prop::collection::vec(1_usize..5_000, 1..12),
    ) {
        let samples = clip("u1_command");
        let samples = &samples[..length];
        prop_assert_eq!(mel(samples, &cuts), mel(samples, &[length.max(1)]));
    }
}
