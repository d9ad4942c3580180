// SPDX-License-Identifier: MIT OR Apache-2.0

//! See [`crate::fuzzing`].

pub use super::shaping::fuzzing::text_shaping;
use super::{EndReason, EndpointConfig, NotEncoded, Segmenter, TokenText, Tokenizer, Undecided, Vocabulary};
use crate::token::Token;

/// A file name for each vocabulary format; the first byte of the input selects one.
const NAMES: [&str; 5] = [
    "tokens.txt",
    "vocab.txt",
    "tokenizer.model",
    "tokenizer.json",
    "vocab.json",
];
/// Maximum tokens that are joined to words.
const MAX_TOKENS: usize = 512;

/// Parses `bytes`: a digit that selects a name in [`NAMES`], then the file's contents.
pub fn vocabulary(bytes: &[u8]) {
    let Some((kind, file)) = bytes.split_first() else {
        return;
    };
    let name = NAMES[usize::from(kind.wrapping_sub(b'0')) % NAMES.len()];
    let Some(count) = Vocabulary::count(name, file) else {
        let error = Vocabulary::parse(name, file, 1).expect_err("it cannot be counted");
        assert!(error.to_string().contains(name));
        return;
    };
    let mut vocabulary = Vocabulary::parse(name, file, count).expect("it has as many as were counted");
    assert_eq!(vocabulary.len(), count);
    // If the last token is blank, and only then, it may be included in the count.
    if let Ok(all) = Vocabulary::parse(name, file, count + 1) {
        assert_eq!(all.len(), count + 1);
    }
    assert!(Vocabulary::parse(name, file, count + 2).is_err());
    vocabulary.set_special(Some(count / 2), "<EOU>");
    tokenize(&vocabulary);
    segment(&vocabulary, EndpointConfig::default());
    let pauses = EndpointConfig {
        word: Some(1),
        utterance: Some(3000),
        partials: true,
        partial_stability: 1,
        phrase: Some(4),
        min_word: 100,
        emits_words: true,
        longest_word: Some(20_000),
        max_utterance: Some(100_000),
        max_utterance_chars: Some(40),
    };
    segment(&vocabulary, pauses);
}

/// Divides texts into tokens, some of which are tokens themselves.
fn tokenize(vocabulary: &Vocabulary) {
    let tokenizer = Tokenizer::new(vocabulary);
    let pieces = vocabulary.tokens().iter().filter_map(|token| match token {
        TokenText::Text(text) if text.len() < MAX_TOKENS => Some(text.as_str()),
        _ => None,
    });
    for text in ["", "Ada  Lovelace ", "ﬁ日本<EOU>"].into_iter().chain(pieces.take(8)) {
        for spelling in tokenizer.spellings(text) {
            match tokenizer.encode(&spelling) {
                Ok(ids) => assert!(
                    ids.iter().all(|&id| vocabulary.piece(id).is_some()),
                    "{spelling:?}: {ids:?}"
                ),
                Err(NotEncoded::Unknown(chars)) => assert!(!chars.is_empty(), "{spelling:?}"),
                Err(NotEncoded::TooLong) => {}
            }
        }
    }
}

/// Segments all tokens, in ascending and then in descending order.
fn segment(vocabulary: &Vocabulary, pauses: EndpointConfig) {
    const FRAME: u64 = 1280;
    let mut segmenter = Segmenter::new(FRAME);
    segmenter.set_endpoint_config(pauses);
    let ids = 0..vocabulary.len().min(MAX_TOKENS) + 1;
    let mut frame = 0;
    for id in ids.clone().chain(ids.rev()) {
        let token = Token::of_log_prob(id, frame, -0.5);
        segmenter.token(vocabulary, token);
        // Some frames have several tokens, some none.
        frame += [0, 1, 5][id % 3];
        segmenter.decoded(vocabulary, frame, Undecided::default());
        drain(&mut segmenter, u64::MAX);
    }
    let end = (frame + 1) * FRAME;
    segmenter.end_at(end);
    segmenter.finish(EndReason::EndOfStream);
    drain(&mut segmenter, end);
}

fn drain(segmenter: &mut Segmenter, end: u64) {
    while let Some(event) = segmenter.pop() {
        if let super::Event::Word(word) = event {
            assert!(word.start <= word.end && word.end <= end, "{word:?} of {end} samples");
            assert!(!word.text.is_empty());
        }
    }
}
