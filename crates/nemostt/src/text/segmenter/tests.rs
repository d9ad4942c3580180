// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tests of what the segmenter emits, and when.

use super::*;

const TOKENS: &str = "▁one 0\n▁two 1\nth 2\n<EOU> 3\n<EOB> 4\n<de-DE> 5\n";

/// Feeds tokens in chunks of 4 frames and lists the events of each chunk: `w:` word, `p:` partial, `u:` utterance, `l:`
/// language, `t:` turn.
fn events_by_chunk(endpoint_config: EndpointConfig, tokens: &[(usize, u64)], chunks: u64) -> Vec<String> {
    let vocabulary = Vocabulary::parse("tokens.txt", TOKENS.as_bytes(), 6).unwrap();
    let mut segmenter = Segmenter::new(1280);
    segmenter.set_endpoint_config(endpoint_config);
    let mut lines = Vec::new();
    for chunk in 0..chunks {
        for &(id, frame) in tokens.iter().filter(|(_, frame)| frame / 4 == chunk) {
            let log_prob = 0.0;
            segmenter.token(&vocabulary, Token::of_log_prob(id, frame, log_prob));
        }
        segmenter.decoded(4 * (chunk + 1));
        note(&mut lines, chunk, &mut segmenter);
    }
    segmenter.finish(EndReason::EndOfStream);
    note(&mut lines, chunks, &mut segmenter);
    lines
}

fn note(lines: &mut Vec<String>, chunk: u64, segmenter: &mut Segmenter) {
    while let Some(event) = segmenter.pop() {
        lines.extend(match event {
            Event::Token(_) => None,
            Event::Language(language) => Some(format!("{chunk} l:{language}")),
            Event::Turn(ending) => Some(format!("{chunk} t:{}", ending.name())),
            Event::Word(word) => Some(format!("{chunk} w:{}", word.text)),
            Event::Partial(partial) => Some(format!("{chunk} p:{}", partial.utterance.text())),
            Event::Utterance(utterance) => Some(format!("{chunk} u{}:{}", utterance.id, utterance.text())),
        });
    }
}

#[test]
fn default_config_ends_words_at_the_next_and_utterances_at_the_end() {
    let found = events_by_chunk(EndpointConfig::default(), &[(0, 1), (1, 9), (2, 30)], 10);
    assert_eq!(found, ["2 w:one", "10 w:twoth", "10 u0:one twoth"]);
}

#[test]
fn short_pause_ends_word_and_long_pause_ends_utterance() {
    let endpoint_config = EndpointConfig {
        word: Some(3),
        utterance: Some(10),
        ..Default::default()
    };
    let found = events_by_chunk(endpoint_config, &[(0, 0), (1, 20)], 8);
    assert_eq!(found, ["0 w:one", "2 u0:one", "5 w:two", "7 u1:two"]);
}

#[test]
fn pause_within_one_chunk_ends_utterance() {
    let endpoint_config = EndpointConfig {
        utterance: Some(2),
        ..Default::default()
    };
    assert_eq!(
        events_by_chunk(endpoint_config, &[(0, 0), (1, 3)], 1),
        ["0 w:one", "0 u0:one", "1 w:two", "1 u1:two"]
    );
    // The rest of a word belongs to the word, no matter how late it is.
    assert_eq!(
        events_by_chunk(endpoint_config, &[(0, 0), (2, 3)], 1),
        ["1 w:oneth", "1 u0:oneth"]
    );
}

#[test]
fn partials_include_the_word_in_progress() {
    let endpoint_config = EndpointConfig {
        partials: true,
        ..Default::default()
    };
    let found = events_by_chunk(endpoint_config, &[(0, 1), (1, 5), (2, 6)], 4);
    assert_eq!(
        found,
        ["0 p:one", "1 w:one", "1 p:one twoth", "4 w:twoth", "4 u0:one twoth"]
    );
}

#[test]
fn special_tokens_end_utterances_and_add_no_text() {
    let found = events_by_chunk(EndpointConfig::default(), &[(0, 0), (3, 1), (4, 4), (1, 5), (4, 6)], 2);
    assert_eq!(
        found,
        [
            "0 w:one",
            "0 u0:one",
            "0 t:end-of-utterance",
            "1 t:end-of-backchannel",
            "1 w:two",
            "1 u1:two",
            "1 t:end-of-backchannel"
        ]
    );
}

#[test]
fn language_applies_until_the_next_one() {
    let vocabulary = Vocabulary::parse("tokens.txt", TOKENS.as_bytes(), 6).unwrap();
    let mut segmenter = Segmenter::new(1280);
    for (id, frame) in [(0, 0), (3, 1), (1, 2), (5, 3), (3, 4), (0, 5)] {
        let log_prob = 0.0;
        segmenter.token(&vocabulary, Token::of_log_prob(id, frame, log_prob));
    }
    segmenter.finish(EndReason::EndOfStream);
    let events = std::iter::from_fn(|| segmenter.pop());
    let languages: Vec<Option<String>> = events
        .filter_map(|event| match event {
            Event::Utterance(utterance) => Some(utterance.language),
            _ => None,
        })
        .collect();
    assert_eq!(languages, [None, Some("de-DE".into()), Some("de-DE".into())]);
}

/// The words of `tokens` with their times in eighths of a frame, in a stream of `samples` samples that is decoded at
/// its end.
fn timed(min_word: u64, tokens: &[(usize, u64)], samples: u64) -> Vec<(String, u64, u64)> {
    let vocabulary = Vocabulary::parse("tokens.txt", TOKENS.as_bytes(), 6).unwrap();
    let mut segmenter = Segmenter::new(1280);
    segmenter.set_endpoint_config(EndpointConfig {
        min_word,
        ..Default::default()
    });
    segmenter.end_at(samples);
    for &(id, frame) in tokens {
        let log_prob = 0.0;
        segmenter.token(&vocabulary, Token::of_log_prob(id, frame, log_prob));
    }
    segmenter.finish(EndReason::EndOfStream);
    let words = std::iter::from_fn(|| segmenter.pop()).filter_map(|event| match event {
        Event::Word(word) => Some((word.text, word.start / 160, word.end / 160)),
        _ => None,
    });
    words.collect()
}

fn word(text: &str, start: u64, end: u64) -> (String, u64, u64) {
    (text.into(), start, end)
}

#[test]
fn words_of_one_frame_share_it() {
    assert_eq!(
        timed(0, &[(0, 1), (0, 2), (1, 2), (2, 4), (0, 6)], 1 << 20),
        [
            word("one", 8, 16),
            word("one", 16, 20),
            word("twoth", 20, 40),
            word("one", 48, 56)
        ]
    );
}

#[test]
fn last_words_move_back_to_fit_into_the_stream() {
    // The stream ends in the middle of frame 3: the last word moves back to keep a full frame.
    assert_eq!(
        timed(0, &[(0, 0), (1, 3)], 3 * 1280 + 640),
        [word("one", 0, 8), word("two", 20, 28)]
    );
    // All were decoded in the silence after the end: they share the whole stream.
    assert_eq!(
        timed(0, &[(0, 5), (1, 6), (0, 9)], 2 * 1280 + 480),
        [word("one", 0, 6), word("two", 6, 12), word("one", 12, 19)]
    );
}

#[test]
fn min_word_extends_words_up_to_the_next_word() {
    assert_eq!(
        timed(1600, &[(0, 0), (1, 1), (0, 3)], 4 * 1280 + 160),
        [word("one", 0, 8), word("two", 8, 18), word("one", 24, 33)]
    );
}

#[test]
fn min_word_does_not_extend_words_beyond_decoded_frames() {
    let endpoint_config = EndpointConfig {
        word: Some(1),
        min_word: 1 << 20,
        ..Default::default()
    };
    let vocabulary = Vocabulary::parse("tokens.txt", TOKENS.as_bytes(), 6).unwrap();
    let mut segmenter = Segmenter::new(1280);
    segmenter.set_endpoint_config(endpoint_config);
    for (id, frame, frames) in [(0, 0, 4), (1, 4, 8)] {
        let log_prob = 0.0;
        segmenter.token(&vocabulary, Token::of_log_prob(id, frame, log_prob));
        segmenter.decoded(frames);
    }
    let times: Vec<(u64, u64)> = std::iter::from_fn(|| segmenter.pop())
        .filter_map(|event| match event {
            Event::Word(word) => Some((word.start / 1280, word.end / 1280)),
            _ => None,
        })
        .collect();
    assert_eq!(times, [(0, 3), (4, 7)]);
}

#[test]
fn word_that_begins_in_the_last_frame_waits_for_the_next_frame() {
    let found = events_by_chunk(EndpointConfig::default(), &[(0, 3), (3, 3), (1, 5), (3, 7)], 2);
    assert_eq!(
        found,
        [
            "1 w:one",
            "1 u0:one",
            "1 t:end-of-utterance",
            "1 w:two",
            "1 u1:two",
            "1 t:end-of-utterance"
        ]
    );
}

#[test]
fn longest_word_splits_words() {
    let endpoint_config = EndpointConfig {
        longest_word: Some(6),
        partials: true,
        ..Default::default()
    };
    let found = events_by_chunk(endpoint_config, &[(0, 0), (2, 2), (2, 6), (2, 9), (1, 11)], 4);
    assert_eq!(
        found,
        [
            "0 p:oneth",
            "1 w:onethth",
            "1 p:onethth",
            "2 w:th",
            "2 p:onethth th two",
            "4 w:two",
            "4 u0:onethth th two"
        ]
    );
}

#[test]
fn max_utterance_cuts_at_the_best_gap() {
    let endpoint_config = EndpointConfig {
        max_utterance: Some(20 * 1280),
        ..Default::default()
    };
    // At 11/20 a gap of 5.4 frames is enough, at 16/20 one of 2.4.
    let found = events_by_chunk(
        endpoint_config,
        &[(0, 0), (1, 5), (0, 10), (1, 15), (0, 16), (1, 18), (0, 19)],
        5,
    );
    let utterances: Vec<&String> = found.iter().filter(|line| line.contains(" u")).collect();
    assert_eq!(utterances, ["4 u0:one two one", "5 u1:two one two one"]);
    let found = events_by_chunk(endpoint_config, &[(0, 0), (1, 4), (0, 11)], 4);
    assert_eq!(found, ["1 w:one", "2 w:two", "3 u0:one two", "4 w:one", "4 u1:one"]);
}

#[test]
fn max_utterance_chars_limits_text_without_max_utterance() {
    let endpoint_config = EndpointConfig {
        max_utterance_chars: Some(12),
        ..Default::default()
    };
    // "one two one" has 11 characters: at 11/12, a gap of 2 frames is enough.
    let tokens = [(0, 0), (1, 1), (0, 2), (1, 3), (0, 4), (1, 7)];
    let found = events_by_chunk(endpoint_config, &tokens, 2);
    let utterances: Vec<&String> = found.iter().filter(|line| line.contains(" u")).collect();
    assert_eq!(utterances, ["1 u0:one two one", "2 u1:two one", "2 u2:two"]);
}

#[test]
fn word_longer_than_the_limit_is_its_own_utterance() {
    let endpoint_config = EndpointConfig {
        max_utterance_chars: Some(4),
        ..Default::default()
    };
    let found = events_by_chunk(endpoint_config, &[(0, 0), (1, 1), (2, 2), (0, 3)], 2);
    assert_eq!(
        found,
        ["0 w:one", "0 u0:one", "0 w:twoth", "1 u1:twoth", "2 w:one", "2 u2:one"]
    );
}

#[test]
fn partials_start_the_next_utterance_once_it_is_certain() {
    let endpoint_config = EndpointConfig {
        partials: true,
        max_utterance_chars: Some(8),
        ..Default::default()
    };
    let found = events_by_chunk(endpoint_config, &[(0, 0), (1, 1), (0, 4), (2, 9)], 3);
    assert_eq!(
        found,
        [
            "0 w:one",
            "0 p:one two",
            "1 w:two",
            "1 u0:one two",
            "1 p:one",
            "2 p:oneth",
            "3 w:oneth",
            "3 u1:oneth"
        ]
    );
}

#[test]
fn utterance_is_in_progress_from_its_first_token_to_its_end() {
    let vocabulary = Vocabulary::parse("tokens.txt", TOKENS.as_bytes(), 6).unwrap();
    let mut segmenter = Segmenter::new(1280);
    assert!(segmenter.utterance_start().is_none());
    let token = |segmenter: &mut Segmenter, id, frame| {
        let log_prob = 0.0;
        segmenter.token(&vocabulary, Token::of_log_prob(id, frame, log_prob));
    };
    token(&mut segmenter, 0, 0);
    assert!(segmenter.utterance_start().is_some());
    let mut copy = segmenter.clone();
    token(&mut segmenter, 3, 0);
    assert!(
        segmenter.utterance_start().is_some(),
        "the word waits for the end of its frame"
    );
    segmenter.decoded(2);
    assert!(segmenter.utterance_start().is_none());
    copy.finish(EndReason::EndOfStream);
    assert!(copy.utterance_start().is_none());
}

/// Numbers in digits.
fn in_digits(endpoint_config: EndpointConfig, tokens: &[(usize, u64)], chunk: u64) -> Vec<String> {
    let pieces = "▁twenty 0\n▁one 1\n▁men 2\n<EOU> 3\n";
    let vocabulary = Vocabulary::parse("tokens.txt", pieces.as_bytes(), 4).unwrap();
    let mut segmenter = Segmenter::new(1280);
    segmenter.set_endpoint_config(endpoint_config);
    let shaping = TextShaping {
        inverse_text_normalization: true,
        ..TextShaping::default()
    };
    segmenter.set_language("en-US");
    segmenter.set_shaping(&Arc::new(shaping), vocabulary.punctuates());
    let mut lines = Vec::new();
    for frame in 0..40 {
        for &(id, _) in tokens.iter().filter(|&&(_, at)| at == frame) {
            segmenter.token(&vocabulary, Token::of_log_prob(id, frame, 0.0));
        }
        if (frame + 1) % chunk == 0 {
            segmenter.decoded(frame + 1);
            note(&mut lines, frame, &mut segmenter);
            let start = tokens.iter().find(|_| lines.is_empty()).map(|(_, first)| first * 1280);
            assert!(frame < tokens[0].1 + 1 || start.is_none() || segmenter.pending_start() == start);
        }
    }
    segmenter.finish(EndReason::EndOfStream);
    note(&mut lines, 40, &mut segmenter);
    lines
}

#[test]
fn shaped_words_wait_for_the_next_one_for_as_long_as_allowed() {
    let endpoint_config = EndpointConfig {
        word: Some(4),
        phrase: Some(6),
        utterance: Some(20),
        partials: true,
        ..Default::default()
    };
    let found = in_digits(endpoint_config, &[(0, 1), (1, 4), (2, 6), (0, 7)], 2);
    let expected = [
        "1 p:20",
        "5 p:21",
        "7 w:21",
        "7 w:men",
        "7 p:21 men 20",
        "13 w:20",
        "27 u0:21 men 20",
    ];
    assert_eq!(found, expected);
    // Also within a chunk.
    let words = |phrase, chunk| {
        let found = in_digits(
            EndpointConfig {
                phrase,
                ..endpoint_config
            },
            &[(0, 1), (1, 9)],
            chunk,
        );
        let words = found.iter().filter_map(|line| line.split_once(" w:"));
        words.map(|(_, word)| word.to_owned()).collect::<Vec<_>>()
    };
    for chunk in [1, 4, 20] {
        assert_eq!(words(Some(6), chunk), ["20", "one"], "chunks of {chunk} frames");
        assert_eq!(words(Some(14), chunk), ["21"], "chunks of {chunk} frames");
        assert_eq!(words(None, chunk), ["21"], "chunks of {chunk} frames");
    }
    let found = in_digits(EndpointConfig::default(), &[(0, 1), (3, 2), (1, 3)], 4);
    assert_eq!(
        found,
        ["3 w:20", "3 u0:20", "3 t:end-of-utterance", "40 w:one", "40 u1:one"]
    );
}
