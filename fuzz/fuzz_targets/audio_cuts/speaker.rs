// SPDX-License-Identifier: MIT OR Apache-2.0

//! A stream with a record of its inputs, from which they can be replayed to another stream with the audio in one block.

use nemostt::{EndReason, Error, Event, EndpointConfig, Recognizer, Snapshot, Stream, Word, chunker::Window};

/// A change of settings that applies from a sample on.
#[derive(Debug, Clone, PartialEq)]
enum Change {
    EndpointConfig(EndpointConfig),
    Language(&'static str),
}

/// All inputs of a stream since its start, and the events collected from it.
#[derive(Debug, Clone, Default)]
pub struct Account {
    samples: Vec<i16>,
    /// Changes with the samples and padding before them.
    changes: Vec<(usize, u64, Change)>,
    /// Changes after the end.
    later: Vec<Change>,
    padding: u64,
    is_ended: bool,
    finished: Option<EndReason>,
    /// Events collected so far.
    events: Vec<Event>,
    /// Hash of all windows and encoder outputs.
    digest: u64,
}

impl Account {
    fn observe(&mut self, window: &Window<'_>, outputs: &[f32]) {
        let sizes = [window.drop_frames as u32, window.outputs as u32];
        let values = window.frames.iter().chain(outputs).map(|value| value.to_bits());
        // FNV-1a over 32-bit words.
        self.digest = sizes.into_iter().chain(values).fold(self.digest, |digest, value| {
            (digest ^ u64::from(value)).wrapping_mul(0x100_0000_01b3)
        });
    }
}

pub struct Speaker {
    stream: Stream,
    account: Account,
    watches: bool,
}

impl Speaker {
    pub fn new(recognizer: &Recognizer, watches: bool) -> Self {
        Self {
            stream: recognizer.stream().expect("memory for a stream"),
            account: Account::default(),
            watches,
        }
    }

    /// `as_integers`: pass the samples as integers instead of floats. The encoder cannot be observed then, but the
    /// result must be the same.
    pub fn accept(&mut self, samples: &[i16], as_integers: bool) {
        let promise = (self.stream.stable_until(), self.stream.utterance_stable_until());
        let (stream, account) = (&mut self.stream, &mut self.account);
        let floats: Vec<f32> = samples.iter().map(|&sample| f32::from(sample) / 32_768.0).collect();
        let result = match as_integers && !self.watches {
            true => stream.accept_s16(samples.iter().copied()),
            false => stream.accept_observed(&floats, &mut |window, outputs| account.observe(window, outputs)),
        };
        if self.account.is_ended {
            let nothing_was_asked = as_integers && samples.is_empty() && !self.watches;
            assert!(
                matches!(result, Err(Error::Finished)) || nothing_was_asked,
                "{result:?}"
            );
            return;
        }
        result.expect("audio is accepted");
        self.account.samples.extend(samples);
        assert_eq!(self.stream.samples(), self.account.samples.len() as u64);
        self.keep(promise);
    }

    /// Checks that the bounds of stable output do not decrease and, if events are watched, that no event starts before
    /// them.
    fn keep(&mut self, (stable_until, utterance_stable_until): (u64, u64)) {
        assert!(self.stream.stable_until() >= stable_until, "stable_until decreased");
        if !self.watches {
            return;
        }
        let known = self.account.events.len();
        self.take(usize::MAX);
        for event in &self.account.events[known..] {
            match event {
                Event::Word(word) => assert!(word.start >= stable_until, "{word:?} after {stable_until}"),
                Event::Utterance(utterance) => {
                    assert!(
                        utterance.start() >= utterance_stable_until,
                        "{utterance:?} after {utterance_stable_until}"
                    );
                }
                _ => {}
            }
        }
    }

    pub fn take(&mut self, count: usize) {
        let events = std::iter::from_fn(|| self.stream.next_event());
        self.account.events.extend(events.take(count));
    }

    pub fn set_endpoint_config(&mut self, pauses: EndpointConfig) {
        self.stream.set_endpoint_config(pauses);
        self.change(Change::EndpointConfig(pauses));
    }

    pub fn set_language(&mut self, language: &'static str) {
        if self.stream.set_language(language).is_ok() {
            self.change(Change::Language(language));
        }
    }

    fn change(&mut self, change: Change) {
        let account = &mut self.account;
        match account.finished {
            None => account.changes.push((account.samples.len(), account.padding, change)),
            Some(_) => account.later.push(change),
        }
    }

    pub fn save(&self, snapshot: &mut Snapshot) -> Account {
        self.stream.save(snapshot);
        self.account.clone()
    }

    pub fn restore(&mut self, snapshot: &Snapshot, account: &Account) {
        self.stream.restore(snapshot).expect("a snapshot of this model");
        self.account = account.clone();
    }

    /// Resets the stream. Its settings are kept, so the new record begins with them.
    pub fn reset(&mut self) {
        self.stream.reset();
        let before = std::mem::take(&mut self.account);
        let changes = before.changes.into_iter().map(|(_, _, change)| change);
        for change in changes.chain(before.later) {
            self.change(change);
        }
        assert_eq!(self.stream.samples(), 0);
    }

    pub fn pad(&mut self, padding: u64) {
        let promise = (self.stream.stable_until(), self.stream.utterance_stable_until());
        let result = self.stream.pad(padding);
        if self.account.finished.is_some() {
            assert!(matches!(result, Err(Error::Finished)), "{result:?}");
            return;
        }
        result.expect("silence is accepted");
        self.account.is_ended = true;
        self.account.padding += padding;
        self.keep(promise);
    }

    pub fn finish(&mut self, padding: u64, ending: EndReason) {
        let promise = (self.stream.stable_until(), self.stream.utterance_stable_until());
        let result = self.stream.finish_with_reason(ending, padding);
        if self.account.finished.is_some() {
            assert!(matches!(result, Err(Error::Finished)), "{result:?}");
            return;
        }
        result.expect("a stream can be finished");
        self.account.is_ended = true;
        self.account.padding += padding;
        self.account.finished = Some(ending);
        self.keep(promise);
    }

    /// Compares a finished stream with a new one that gets the same input in one block.
    pub fn check(&mut self, recognizer: &Recognizer) {
        let Some(ending) = self.account.finished else { return };
        self.take(usize::MAX);
        let account = &self.account;
        let mut whole = Speaker::new(recognizer, self.watches);
        let (mut from, mut padded) = (0, 0);
        for (at, padding, change) in &account.changes {
            whole.accept_before(*at, account, &mut from);
            if *padding > padded {
                whole.stream.pad(padding - padded).expect("silence is accepted");
                padded = *padding;
            }
            match change {
                Change::EndpointConfig(pauses) => whole.stream.set_endpoint_config(*pauses),
                Change::Language(language) => whole.stream.set_language(language).expect("accepted before"),
            }
        }
        whole.accept_before(account.samples.len(), account, &mut from);
        whole
            .stream
            .finish_with_reason(ending, account.padding - padded)
            .expect("a stream can be finished");
        whole.take(usize::MAX);
        let mut events = account.events.iter().zip(&whole.account.events);
        if let Some((actual, expected)) = events.find(|(actual, expected)| actual != expected) {
            panic!("{actual:?} is {expected:?} in one block");
        }
        assert_eq!(account.events.len(), whole.account.events.len());
        if self.watches {
            assert_eq!(account.digest, whole.account.digest, "another window or output");
        }
        assert_valid(&account.events, account.samples.len() as u64);
    }

    fn accept_before(&mut self, at: usize, account: &Account, from: &mut usize) {
        let block = &account.samples[*from..at];
        if !block.is_empty() {
            self.accept(block, false);
        }
        *from = at;
    }
}

/// Asserts that words have a duration, do not overlap and end within the audio, and that each is in exactly one
/// utterance. Words last at least one sample, so if there are more words than samples they can extend beyond the audio.
fn assert_valid(events: &[Event], end: u64) {
    let is_word = |event: &&Event| matches!(event, Event::Word(_));
    let end = end + events.iter().filter(is_word).count() as u64;
    let (mut words, mut spoken): (Vec<Word>, Vec<Word>) = Default::default();
    for event in events {
        match event {
            Event::Word(word) => {
                let after = words.last().map_or(0, |word| word.end);
                assert!(
                    after <= word.start && word.start < word.end && word.end <= end,
                    "{word:?} after {after} of {end}"
                );
                words.push(word.clone());
            }
            Event::Utterance(utterance) => {
                assert!(!utterance.words.is_empty());
                spoken.extend_from_slice(&utterance.words);
            }
            _ => {}
        }
    }
    assert_eq!(words, spoken);
}
