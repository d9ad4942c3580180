// SPDX-License-Identifier: MIT OR Apache-2.0

//! Raw 16-bit little-endian mono samples, from standard input.

use std::io::{self, Read};

use super::BLOCK;
use crate::Result;

/// Raw 16-bit little-endian mono samples.
pub struct RawPcm<R> {
    reader: R,
    bytes: Vec<u8>,
    /// Bytes at the start of `bytes` that belong to an incomplete sample.
    pending: usize,
}

impl<R: Read> RawPcm<R> {
    pub fn new(reader: R) -> Self {
        Self {
            reader,
            bytes: vec![0; 2 * BLOCK],
            pending: 0,
        }
    }

    /// Adds the next samples to `mono`, none at the end. Does not wait for a full block: the input may be live.
    pub fn read(&mut self, mono: &mut Vec<f32>) -> Result<()> {
        while mono.is_empty() {
            let got = match self.reader.read(&mut self.bytes[self.pending..]) {
                Ok(0) => break,
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(format!("cannot read standard input: {error}").into()),
            };
            let all = self.pending + got;
            let (samples, rest) = self.bytes[..all].as_chunks::<2>();
            mono.extend(
                samples
                    .iter()
                    .map(|&sample| f32::from(i16::from_le_bytes(sample)) / 32_768.0),
            );
            self.pending = rest.len();
            self.bytes.copy_within(all - self.pending..all, 0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns one byte more in each call, so that samples are split in all ways.
    struct Dribble(Vec<u8>, usize);

    impl Read for Dribble {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 += 1;
            let n = self.1.min(self.0.len()).min(buffer.len());
            for (to, from) in buffer.iter_mut().zip(self.0.drain(..n)) {
                *to = from;
            }
            Ok(n)
        }
    }

    #[test]
    fn raw_samples_survive_any_cut() {
        let bytes: Vec<u8> = (0..1000_i16).flat_map(i16::to_le_bytes).collect();
        let mut raw = RawPcm::new(Dribble(bytes, 0));
        let (mut all, mut block) = (Vec::new(), Vec::new());
        loop {
            block.clear();
            raw.read(&mut block).unwrap();
            if block.is_empty() {
                break;
            }
            all.extend(block.iter().map(|sample| (sample * 32_768.0) as i16));
        }
        assert_eq!(all, (0..1000).collect::<Vec<i16>>());
    }
}
