// SPDX-License-Identifier: MIT OR Apache-2.0

//! Greedy CTC: the best token of each frame, with repeats collapsed and blanks dropped.

use super::argmax::argmax;
use crate::token::Token;

/// Greedy CTC over a stream; repeats are also collapsed across chunks.
#[derive(Debug, Clone)]
pub(crate) struct Ctc {
    blank: usize,
    /// Best token of the previous frame; blank at the start.
    previous: usize,
}

/// The state of a [`Ctc`] between chunks.
#[derive(Debug, Default)]
pub(crate) struct CtcSnapshot {
    previous: usize,
}

impl Ctc {
    /// A decoder at the start of a stream, for a model whose last id, `blank`, is the blank.
    pub(crate) fn new(blank: usize) -> Self {
        Self { blank, previous: blank }
    }

    /// Decodes the first `frames` rows of `log_probs`, \[T, blank + 1\]; the first row is encoder frame `first_frame`.
    pub(crate) fn decode(&mut self, log_probs: &[f32], frames: usize, first_frame: u64, mut emit: impl FnMut(Token)) {
        for (row, frame) in log_probs.chunks_exact(self.blank + 1).take(frames).zip(first_frame..) {
            let id = argmax(row);
            if id != self.blank && id != self.previous {
                let log_prob = row[id];
                emit(Token { id, frame, log_prob });
            }
            self.previous = id;
        }
    }

    /// Resets to the start of a stream.
    pub(crate) fn reset(&mut self) {
        self.previous = self.blank;
    }

    /// Copies what [`reset`](Self::reset) sets.
    pub(crate) fn save(&self, snapshot: &mut CtcSnapshot) {
        snapshot.previous = self.previous;
    }

    /// Restores the state saved in `snapshot`.
    pub(crate) fn restore(&mut self, snapshot: &CtcSnapshot) {
        self.previous = snapshot.previous;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows in which the given ids score best; the tokens are 0 to 2, blank is 3.
    fn rows(best: &[usize]) -> Vec<f32> {
        let row = |&id: &usize| (0..4).map(move |i| if i == id { -0.1 } else { -3.0 });
        best.iter().flat_map(row).collect()
    }

    fn ids(ctc: &mut Ctc, best: &[usize], first_frame: u64) -> Vec<(usize, u64)> {
        let mut found = Vec::new();
        ctc.decode(&rows(best), best.len(), first_frame, |t| found.push((t.id, t.frame)));
        found
    }

    #[test]
    fn repeats_collapse_unless_separated_by_blank() {
        let mut ctc = Ctc::new(3);
        assert_eq!(ids(&mut ctc, &[3, 1, 1, 3, 1, 2, 2], 10), [(1, 11), (1, 14), (2, 15)]);
    }

    #[test]
    fn repeats_collapse_across_chunks() {
        let mut ctc = Ctc::new(3);
        assert_eq!(ids(&mut ctc, &[1], 0), [(1, 0)]);
        assert_eq!(ids(&mut ctc, &[1, 2], 1), [(2, 2)]);
        ctc.reset();
        assert_eq!(ids(&mut ctc, &[2], 0), [(2, 0)]);
    }

    #[test]
    fn rows_beyond_frames_are_ignored() {
        let mut found = 0;
        Ctc::new(3).decode(&rows(&[0, 1, 2]), 1, 0, |_| found += 1);
        assert_eq!(found, 1);
    }
}
