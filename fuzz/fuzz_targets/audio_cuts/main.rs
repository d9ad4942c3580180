// SPDX-License-Identifier: MIT OR Apache-2.0

//! Audio in blocks of random sizes, with resets, snapshots and ends between them: the output must be identical, bit for
//! bit, to that of a stream that gets the same audio in a single block.

#![no_main]

#[path = "../common/sound.rs"]
mod sound;

mod models;
mod speaker;

use arbitrary::Arbitrary;
use nemostt::{EndReason, EndpointConfig, Snapshot};
use libfuzzer_sys::fuzz_target;
use models::Choice;
use sound::Sound;
use speaker::{Account, Speaker};

/// Limit of samples per run. Audio beyond it is dropped.
const MOST: usize = 64_000;

#[derive(Debug, Arbitrary)]
struct Case {
    model: Choice,
    /// Whether events are collected after each call, and their times checked against the bounds that the stream
    /// reported before.
    watches: bool,
    acts: Vec<Act>,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Act {
    /// Audio in one call, or in calls of `cut + 1` samples.
    Speak {
        sound: Sound,
        count: u16,
        cut: Option<u16>,
        as_integers: bool,
    },
    /// Collects this many events.
    Take(u8),
    EndpointConfig(Rules),
    Language(u8),
    Save(u8),
    Restore(u8),
    /// Resets the stream.
    Reset,
    Pad(u16),
    Finish(u16, u8),
    /// Continues with the other stream.
    Switch,
}

/// [`EndpointConfig`] with small numbers, which are the ones that have an effect.
#[derive(Debug, Clone, Copy, Arbitrary)]
struct Rules {
    word: Option<u8>,
    utterance: Option<u8>,
    partials: bool,
    min_word: u16,
    longest_word: Option<u8>,
    max_utterance: Option<u16>,
    max_utterance_chars: Option<u8>,
}

impl From<Rules> for EndpointConfig {
    fn from(rules: Rules) -> Self {
        Self {
            word: rules.word.map(u64::from),
            utterance: rules.utterance.map(u64::from),
            partials: rules.partials,
            min_word: rules.min_word.into(),
            longest_word: rules.longest_word.map(u64::from),
            max_utterance: rules.max_utterance.map(u64::from),
            max_utterance_chars: rules.max_utterance_chars.map(usize::from),
            ..Self::default()
        }
    }
}

fn ending(number: u8) -> EndReason {
    [EndReason::Pause, EndReason::EndOfStream, EndReason::Request][usize::from(number) % 3]
}

fn run(case: &Case) {
    let recognizer = models::get(case.model);
    let new = || Speaker::new(&recognizer, case.watches);
    let mut speakers = [new(), new()];
    let mut saved: [Option<(Snapshot, Account)>; 2] = [None, None];
    let (mut current, mut heard) = (0, 0);
    for &act in &case.acts {
        let speaker = &mut speakers[current];
        match act {
            Act::Speak {
                sound,
                count,
                cut,
                as_integers,
            } => {
                let count = usize::from(count).min(MOST - heard);
                heard += count;
                let samples = sound.samples(count);
                for piece in samples.chunks(cut.map_or(MOST, |cut| usize::from(cut) + 1)) {
                    speaker.accept(piece, as_integers);
                }
            }
            Act::Take(count) => speaker.take(count.into()),
            Act::EndpointConfig(rules) => speaker.set_endpoint_config(rules.into()),
            Act::Language(number) => speaker.set_language(models::language(number)),
            Act::Save(slot) => {
                let slot = &mut saved[usize::from(slot) % 2];
                // A reused snapshot keeps its allocations.
                let (mut snapshot, _) = slot.take().unwrap_or_default();
                let account = speaker.save(&mut snapshot);
                *slot = Some((snapshot, account));
            }
            Act::Restore(slot) => {
                if let Some((snapshot, account)) = &saved[usize::from(slot) % 2] {
                    speaker.restore(snapshot, account);
                }
            }
            Act::Reset => {
                speaker.check(&recognizer);
                speaker.reset();
            }
            Act::Pad(padding) => speaker.pad(padding.into()),
            Act::Finish(padding, number) => speaker.finish(padding.into(), ending(number)),
            Act::Switch => current = 1 - current,
        }
    }
    for speaker in &mut speakers {
        speaker.finish(0, EndReason::EndOfStream);
        speaker.check(&recognizer);
    }
}

fuzz_target!(|case: Case| run(&case));
