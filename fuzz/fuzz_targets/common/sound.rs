// SPDX-License-Identifier: MIT OR Apache-2.0

//! Audio that is described by a few bytes of input, because its content matters less than how it is delivered.

use std::{path::PathBuf, sync::LazyLock};

use arbitrary::Arbitrary;

/// A file of the test data.
pub fn data(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/data")
        .join(path)
}

/// Speech, and noise at full scale.
static CLIPS: LazyLock<Vec<Vec<i16>>> = LazyLock::new(|| {
    let names = ["u1_command", "u2_digits", "u4_heldvoice", "e4_noise3s"];
    names
        .map(|name| {
            let clip = hound::WavReader::open(data(&format!("wav/{name}.wav"))).expect("a clip of the test data");
            clip.into_samples()
                .map(|sample| sample.expect("a complete clip"))
                .collect()
        })
        .into()
});

#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Sound {
    Silence,
    /// A clip, repeated, from this tenth of a second on.
    Clip {
        clip: u8,
        from: u8,
    },
    Noise {
        seed: u16,
        loudness: i16,
    },
    /// A square wave with a period of about this many samples.
    Square {
        period: u8,
        loudness: i16,
    },
    Constant(i16),
}

impl Sound {
    pub fn samples(self, count: usize) -> Vec<i16> {
        match self {
            Self::Silence => vec![0; count],
            Self::Clip { clip, from } => {
                let clip = &CLIPS[usize::from(clip) % CLIPS.len()];
                let from = usize::from(from) * 1_600 % clip.len();
                clip.iter().cycle().skip(from).take(count).copied().collect()
            }
            Self::Noise { seed, loudness } => {
                // Marsaglia's xorshift.
                let mut state = u32::from(seed) << 1 | 1;
                let mut next = || {
                    state ^= state << 13;
                    state ^= state >> 17;
                    state ^= state << 5;
                    (state >> 16) as i16
                };
                let scaled = |noise: i16| (i32::from(noise) * i32::from(loudness) / 32_768) as i16;
                (0..count).map(|_| scaled(next())).collect()
            }
            Self::Square { period, loudness } => {
                let half = usize::from(period) / 2 + 1;
                let sample = |at: usize| {
                    if at / half % 2 == 0 {
                        loudness
                    } else {
                        loudness.saturating_neg()
                    }
                };
                (0..count).map(sample).collect()
            }
            Self::Constant(sample) => vec![sample; count],
        }
    }
}
