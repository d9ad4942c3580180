// SPDX-License-Identifier: MIT OR Apache-2.0

//! Property tests: what holds for the words and utterances of any token sequence.

use proptest::{collection::vec, option, prelude::*, sample::select};

use std::sync::Arc;

use super::{
    Capitalize, EndpointConfig, Event, ProfanityAction, ProfanityFilter, ProfanityList, Replacements, Segmenter,
    TextShaping, Utterance, Vocabulary, Word,
};
use crate::token::Token;

const FRAME: u64 = 1280;
/// Samples of the last decoded frame that have arrived.
const ARRIVED: u64 = 200;
const VOCABULARY: &str =
    "<unk> 0\n▁one 1\n▁two 2\nth 3\n, 4\n▁ 5\n<0xC3> 6\n<0xA9> 7\n<EOU> 8\n<de-DE> 9\n<en-GB> 10\n";

/// Ids below `TEXT` are text, those below `BYTES` text and bytes, those below `ANY` any token.
const TEXT: usize = 6;
const BYTES: usize = 8;
const ANY: usize = 11;

fn vocabulary() -> Vocabulary {
    Vocabulary::parse("tokens.txt", VOCABULARY.as_bytes(), ANY).unwrap()
}

/// Tokens with ids below `ids`, many of them in the same frame.
fn tokens(ids: usize) -> impl Strategy<Value = Vec<Token>> {
    let steps = select(vec![0, 0, 0, 0, 1, 1, 2, 3, 7, 30]);
    vec((0..ids, steps), 0..60).prop_map(|tokens| {
        let mut frame = 0;
        let to_token = |(id, step)| {
            frame += step;
            let log_prob = -0.1;
            Token::of_log_prob(id, frame, log_prob)
        };
        tokens.into_iter().map(to_token).collect()
    })
}

fn limits() -> impl Strategy<Value = EndpointConfig> {
    let min_word = select(vec![0, 100, 1000, 4000]);
    let max_utterance = option::of(select(vec![1, 4000, 20_000, 60_000]));
    (min_word, max_utterance, option::of(1_usize..40)).prop_map(|(min_word, max_utterance, max_utterance_chars)| {
        EndpointConfig {
            partials: true,
            min_word,
            max_utterance,
            max_utterance_chars,
            ..Default::default()
        }
    })
}

fn endpoint_configs() -> impl Strategy<Value = EndpointConfig> {
    let frames = || option::of(0_u64..12);
    (limits(), frames(), frames(), frames()).prop_map(|(limits, word, utterance, longest_word)| EndpointConfig {
        word,
        utterance,
        longest_word,
        ..limits
    })
}

/// How a stream is decoded, and where it ends.
#[derive(Debug, Clone, Copy)]
struct Plan {
    chunk: u64,
    /// Frames decoded when the end becomes known.
    known_at: u64,
    end: u64,
}

fn plans() -> impl Strategy<Value = Plan> {
    (1_u64..15, 0_u64..150, 0_u64..3000).prop_map(|(chunk, known_at, more)| Plan {
        chunk,
        known_at,
        end: known_at.saturating_sub(1) * FRAME + ARRIVED + more,
    })
}

/// Decodes everything; also checks that no word begins before a sample that was reported as stable.
fn events(endpoint_config: EndpointConfig, tokens: &[Token], plan: Plan) -> Vec<Event> {
    shaped_events(&Arc::default(), endpoint_config, tokens, plan)
}

/// As [`events`], with words changed by `shaping`.
fn shaped_events(
    shaping: &Arc<TextShaping>,
    endpoint_config: EndpointConfig,
    tokens: &[Token],
    plan: Plan,
) -> Vec<Event> {
    let vocabulary = vocabulary();
    let mut segmenter = Segmenter::new(FRAME);
    segmenter.set_language("en-US");
    segmenter.set_shaping(shaping, vocabulary.punctuates());
    segmenter.set_endpoint_config(endpoint_config);
    let mut events = Vec::new();
    let (mut frames, mut stable) = (0, 0);
    let last = tokens.last().map_or(0, |token| token.frame + 1);
    loop {
        if frames == plan.known_at {
            segmenter.end_at(plan.end);
        }
        if frames >= last.max(plan.known_at) {
            segmenter.finish(super::EndReason::EndOfStream);
        }
        let next = match frames + plan.chunk {
            next if frames < plan.known_at => next.min(plan.known_at),
            next => next,
        };
        if frames < last.max(plan.known_at) {
            for &token in tokens.iter().filter(|token| (frames..next).contains(&token.frame)) {
                segmenter.token(&vocabulary, token);
            }
            segmenter.decoded(next);
        }
        while let Some(event) = segmenter.pop() {
            if let Event::Word(word) = &event {
                assert!(word.start >= stable, "{word:?} after {stable}");
            }
            events.push(event);
        }
        if frames >= last.max(plan.known_at) {
            assert!(segmenter.utterance_start().is_none());
            return events;
        }
        frames = next;
        if frames <= plan.known_at {
            stable = segmenter.pending_start().unwrap_or((frames - 1) * FRAME);
        }
    }
}

fn words(events: &[Event]) -> Vec<Word> {
    let word = |event: &Event| match event {
        Event::Word(word) => Some(word.clone()),
        _ => None,
    };
    events.iter().filter_map(word).collect()
}

fn utterances(events: &[Event]) -> Vec<Utterance> {
    let utterance = |event: &Event| match event {
        Event::Utterance(utterance) => Some(utterance.clone()),
        _ => None,
    };
    events.iter().filter_map(utterance).collect()
}

fn texts(words: &[Word]) -> Vec<&str> {
    words.iter().map(|word| word.text.as_str()).collect()
}

/// The words that the tokens spell, if only tokens complete words.
fn reading(tokens: &[Token]) -> Vec<String> {
    let vocabulary = vocabulary();
    let mut bytes = Vec::new();
    for token in tokens {
        match vocabulary.piece(token.id).unwrap() {
            super::TokenText::Text(text) => bytes.extend(text.replace('▁', " ").bytes()),
            super::TokenText::Byte(byte) => bytes.push(*byte),
            super::TokenText::Unknown => bytes.extend(" \u{2047} ".bytes()),
            super::TokenText::Control(_) => {}
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    text.split_whitespace().map(str::to_owned).collect()
}

fn assert_in_order(words: &[Word], end: u64) {
    assert!(words.iter().all(|word| word.start < word.end), "{words:?}");
    assert!(words.windows(2).all(|pair| pair[0].end <= pair[1].start), "{words:?}");
    assert!(
        words.last().is_none_or(|word| word.end <= end),
        "{words:?} beyond {end}"
    );
}

fn assert_within(utterance: &Utterance, endpoint_config: &EndpointConfig) {
    let length = utterance.end() - utterance.start();
    let chars = utterance.text().chars().count();
    assert!(
        utterance.words.len() == 1
            || length <= endpoint_config.max_utterance.unwrap_or(u64::MAX)
                && chars <= endpoint_config.max_utterance_chars.unwrap_or(usize::MAX),
        "{length} samples, {chars} characters: {utterance:?}"
    );
}

/// Reference implementation of the utterance limits, with all words known in advance.
fn by_the_rule(words: &[Word], endpoint_config: &EndpointConfig) -> Vec<Vec<Word>> {
    let mut found: Vec<Vec<Word>> = Vec::new();
    for word in words {
        let ends = found.last().is_some_and(|utterance| {
            let text = [&texts(utterance)[..], &[&word.text]].concat().join(" ");
            let length = (word.end - utterance[0].start) as f64;
            let fraction = f64::max(
                length / endpoint_config.max_utterance.unwrap_or(u64::MAX) as f64,
                text.chars().count() as f64 / endpoint_config.max_utterance_chars.unwrap_or(usize::MAX) as f64,
            );
            let gap = (word.start - utterance[utterance.len() - 1].end) as f64;
            fraction > 1.0 || fraction >= 0.5 && gap >= 6.0 * FRAME as f64 * 2.0 * (1.0 - fraction)
        });
        match found.last_mut() {
            Some(utterance) if !ends => utterance.push(word.clone()),
            _ => found.push(vec![word.clone()]),
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn words_are_not_empty_and_never_overlap(
        tokens in tokens(ANY),
        endpoint_config in endpoint_configs(),
        plan in plans(),
    ) {
        let events = events(endpoint_config, &tokens, plan);
        let words = words(&events);
        assert_in_order(&words, plan.end);
        let utterances = utterances(&events);
        let of_utterances = utterances.iter().flat_map(|utterance| utterance.words.clone());
        prop_assert_eq!(of_utterances.collect::<Vec<_>>(), words);
        prop_assert!(utterances.iter().map(|utterance| utterance.id).eq(0..utterances.len() as u64));
        for utterance in &utterances {
            assert_within(utterance, &endpoint_config);
        }
        for event in &events {
            if let Event::Partial(partial) = event {
                assert_in_order(&partial.utterance.words, u64::MAX);
                assert_within(&partial.utterance, &endpoint_config);
                prop_assert_eq!(partial.stability.len(), partial.utterance.words.len());
            }
        }
    }

    #[test]
    fn words_spell_their_tokens(tokens in tokens(BYTES), limits in limits(), plan in plans()) {
        let words = words(&events(limits, &tokens, plan));
        prop_assert_eq!(texts(&words), reading(&tokens));
    }

    #[test]
    fn pauses_and_split_words_lose_no_text(
        tokens in tokens(TEXT),
        endpoint_config in endpoint_configs(),
        plan in plans(),
    ) {
        let words = words(&events(endpoint_config, &tokens, plan));
        prop_assert_eq!(texts(&words).concat(), reading(&tokens).concat());
    }

    #[test]
    fn min_word_is_respected_where_there_is_room(tokens in tokens(BYTES), limits in limits(), plan in plans()) {
        // A lone `▁` takes its share of a frame, even if no word follows from it.
        let tokens: Vec<Token> = tokens.into_iter().filter(|token| token.id != 5).collect();
        let words = words(&events(limits, &tokens, plan));
        let nexts = words.iter().skip(1).map(|word| word.start).chain([plan.end]);
        for (word, next) in words.iter().zip(nexts) {
            prop_assert!(word.end - word.start >= limits.min_word || word.end == next, "{:?}", words);
        }
    }

    #[test]
    fn events_do_not_depend_on_chunk_size(tokens in tokens(ANY), limits in limits(), plan in plans()) {
        let lasting = |chunk| {
            let mut events = events(limits, &tokens, Plan { chunk, ..plan });
            events.retain(|event| !matches!(event, Event::Token(_) | Event::Partial(_)));
            // Utterances may be emitted earlier, as soon as they are certain to have ended.
            let utterances = utterances(&events);
            events.retain(|event| !matches!(event, Event::Utterance(_)));
            (events, utterances)
        };
        let by_frame = lasting(1);
        prop_assert_eq!(&by_frame, &lasting(plan.chunk));
        prop_assert_eq!(&by_frame, &lasting(1000));
    }

    #[test]
    fn shaped_words_keep_their_order_and_what_was_promised(
        tokens in tokens(ANY),
        endpoint_config in endpoint_configs(),
        plan in plans(),
        action in select(vec![ProfanityAction::Mask, ProfanityAction::Remove]),
    ) {
        let shaping = TextShaping {
            inverse_text_normalization: true,
            replacements: Some(Arc::new(Replacements::parse("one two|two one, => x y z\n1 one => \nth => th th").unwrap())),
            profanity: Some(ProfanityFilter { list: Arc::new(ProfanityList::parse("é\n[de]\none oneth").unwrap()), action }),
            capitalize: Capitalize::Sentences,
            ..TextShaping::default()
        };
        let events = shaped_events(&Arc::new(shaping), endpoint_config, &tokens, plan);
        let words = words(&events);
        assert_in_order(&words, plan.end);
        let utterances = utterances(&events);
        let of_utterances = utterances.iter().flat_map(|utterance| utterance.words.clone());
        prop_assert_eq!(of_utterances.collect::<Vec<_>>(), words);
        for utterance in &utterances {
            assert_within(utterance, &endpoint_config);
        }
        for event in &events {
            if let Event::Partial(partial) = event {
                assert_in_order(&partial.utterance.words, u64::MAX);
                assert_within(&partial.utterance, &endpoint_config);
            }
        }
    }

    #[test]
    fn utterances_match_the_reference(tokens in tokens(BYTES), limits in limits(), chunk in 1_u64..15) {
        let plan = Plan { chunk, known_at: 2000, end: 2000 * FRAME };
        let events = events(limits, &tokens, plan);
        let utterances = utterances(&events).into_iter().map(|utterance| utterance.words);
        prop_assert_eq!(utterances.collect::<Vec<_>>(), by_the_rule(&words(&events), &limits));
    }

    #[test]
    fn split_words_keep_characters_whole(tokens in tokens(BYTES), longest in 1_u64..20, plan in plans()) {
        let endpoint_config = EndpointConfig { longest_word: Some(longest), ..Default::default() };
        let words = words(&events(endpoint_config, &tokens, plan));
        assert_in_order(&words, plan.end);
        prop_assert_eq!(texts(&words).concat(), reading(&tokens).concat());
    }
}
