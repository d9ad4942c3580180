// SPDX-License-Identifier: MIT OR Apache-2.0

//! The clip in blocks, as a live source delivers them, repeated without end.

use std::time::Duration;

/// Duration of a block.
pub const BLOCK: Duration = Duration::from_millis(10);

/// Speech in blocks of [`BLOCK`].
pub struct Clip {
    samples: Vec<f32>,
    /// Samples per block.
    block: usize,
}

impl Clip {
    /// `samples` must be at least one block.
    pub fn new(mut samples: Vec<f32>, rate: u32) -> Self {
        let block = (f64::from(rate) * BLOCK.as_secs_f64()) as usize;
        samples.truncate(samples.len() / block * block);
        Self { samples, block }
    }

    /// Block `index`, counted on over the end of the clip.
    pub fn block(&self, index: usize) -> &[f32] {
        let start = index % self.len() * self.block;
        &self.samples[start..start + self.block]
    }

    /// The block at which stream `index` of `count` begins: they are spread over the clip, so that they do not all
    /// decode the same word at the same time.
    pub fn position(&self, index: usize, count: usize) -> usize {
        index * self.len() / count
    }

    /// Number of blocks.
    fn len(&self) -> usize {
        self.samples.len() / self.block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_repeat_and_positions_are_spread() {
        let samples: Vec<f32> = (0..325).map(|sample| sample as f32).collect();
        let clip = Clip::new(samples.clone(), 8000);
        assert_eq!(clip.block(1), &samples[80..160]);
        assert_eq!(clip.block(4), clip.block(0));
        assert_eq!([0, 1, 2].map(|index| clip.position(index, 3)), [0, 1, 2]);
        assert_eq!([0, 7].map(|index| clip.position(index, 8)), [0, 3]);
    }
}
