// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the pauses of a stream mean for its beam.

use crate::{decode::CommitPolicy, text::EndpointConfig};

/// Age in seconds at which the first undecided token is decided, where words are emitted one by one.
const MAX_UNDECIDED: u64 = 2;

/// When tokens are decided that some hypotheses do not have. Without pauses, that is only at the end of a turn and of the stream.
pub(super) fn commit_policy<'a>(
    pauses: &EndpointConfig,
    (frame_samples, sample_rate): (u64, u64),
    ends_turn: &'a dyn Fn(usize) -> bool,
) -> CommitPolicy<'a> {
    let frames = |samples: u64| samples.div_ceil(frame_samples.max(1));
    let emits_words = pauses.emits_words || pauses.word.is_some() || pauses.longest_word.is_some();
    let longest = frames(MAX_UNDECIDED * sample_rate);
    let oldest = [
        pauses.longest_word,
        emits_words.then_some(longest),
        pauses.max_utterance.map(frames),
    ];
    let has_pauses = emits_words || pauses.utterance.is_some();
    CommitPolicy {
        word: pauses.word,
        utterance: pauses.utterance,
        oldest: oldest.into_iter().flatten().min(),
        // Nothing has been said: the output goes on without waiting for what is improbable.
        idle: has_pauses.then_some(longest.min(pauses.longest_word.unwrap_or(longest))),
        longest_word: pauses.longest_word,
        ends_turn: Some(ends_turn),
    }
}
