// SPDX-License-Identifier: MIT OR Apache-2.0

//! See [`crate::fuzzing`].

use super::{EndReason, EndpointConfig, Segmenter, Vocabulary};
use crate::token::Token;

/// A file name for each vocabulary format; the first byte of the input selects one.
const NAMES: [&str; 5] = [
    "tokens.txt",
    "vocab.txt",
    "tokenizer.model",
    "tokenizer.json",
    "vocab.json",
];
/// Most tokens that are turned into words.
const MOST: usize = 512;

/// Parses `bytes`: a digit that selects a name in [`NAMES`], then the file's contents.
pub fn vocabulary(bytes: &[u8]) {
    let Some((kind, file)) = bytes.split_first() else {
        return;
    };
    let name = NAMES[usize::from(kind.wrapping_sub(b'0')) % NAMES.len()];
    let Some(labels) = Vocabulary::count(name, file) else {
        let error = Vocabulary::parse(name, file, 1).expect_err("it cannot be counted");
        assert!(error.to_string().contains(name));
        return;
    };
    let mut vocabulary = Vocabulary::parse(name, file, labels).expect("it holds as many as were counted");
    assert_eq!(vocabulary.len(), labels);
    // If the last token is blank, and only then, it may be included in the count.
    if let Ok(all) = Vocabulary::parse(name, file, labels + 1) {
        assert_eq!(all.len(), labels + 1);
    }
    assert!(Vocabulary::parse(name, file, labels + 2).is_err());
    vocabulary.mark(Some(labels / 2), "<EOU>");
    say(&vocabulary, EndpointConfig::default());
    let pauses = EndpointConfig {
        word: Some(1),
        utterance: Some(3000),
        partials: true,
        min_word: 100,
        longest_word: Some(20_000),
        max_utterance: Some(100_000),
        max_utterance_chars: Some(40),
    };
    say(&vocabulary, pauses);
}

/// Turns all tokens into words, in ascending and then in descending order.
fn say(vocabulary: &Vocabulary, pauses: EndpointConfig) {
    const FRAME: u64 = 1280;
    let mut transcript = Segmenter::new(FRAME);
    transcript.set_endpoint_config(pauses);
    let labels = 0..vocabulary.len().min(MOST) + 1;
    let mut frame = 0;
    for id in labels.clone().chain(labels.rev()) {
        let token = Token {
            id,
            frame,
            log_prob: -0.5,
        };
        transcript.token(vocabulary, token);
        // Some frames have several tokens, some none.
        frame += [0, 1, 5][id % 3];
        transcript.decoded(frame);
        drain(&mut transcript, u64::MAX);
    }
    let end = (frame + 1) * FRAME;
    transcript.end_at(end);
    transcript.finish(EndReason::EndOfStream);
    drain(&mut transcript, end);
}

fn drain(transcript: &mut Segmenter, end: u64) {
    while let Some(event) = transcript.pop() {
        if let super::Event::Word(word) = event {
            assert!(word.start <= word.end && word.end <= end, "{word:?} of {end} samples");
            assert!(!word.text.is_empty());
        }
    }
}
