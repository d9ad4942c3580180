// SPDX-License-Identifier: MIT OR Apache-2.0

//! Cues of small transcripts.

use std::time::Duration;

use super::*;

const MILLISECOND: u64 = 1_000_000;

/// A cue in milliseconds, with `/` between lines.
type Shown = (u64, u64, String);

fn shown(cue: &Cue) -> Shown {
    (cue.start / MILLISECOND, cue.end / MILLISECOND, cue.lines.join("/"))
}

/// Words of `text` that take `length` ms each, from `start` ms on; `|` is a second of silence.
fn words(text: &str, start: u64, length: u64) -> Vec<(&str, u64, u64)> {
    let mut time = start;
    let mut words = Vec::new();
    for word in text.split(' ') {
        if word == "|" {
            time += 1_000;
            continue;
        }
        words.push((word, time * MILLISECOND, (time + length) * MILLISECOND));
        time += length;
    }
    words
}

/// The cues of `words`, each known when it has ended.
fn cues(rules: CueRules, words: &[(&str, u64, u64)]) -> Vec<Cue> {
    let mut builder = CueBuilder::new(rules).unwrap();
    for &(text, start, end) in words {
        builder.push(text, start, end);
        builder.advance(end);
    }
    builder.finish();
    std::iter::from_fn(|| builder.next_cue()).collect()
}

fn all_shown(rules: CueRules, words: &[(&str, u64, u64)]) -> Vec<Shown> {
    cues(rules, words).iter().map(shown).collect()
}

fn expect(cues: &[(u64, u64, &str)]) -> Vec<Shown> {
    cues.iter()
        .map(|&(start, end, lines)| (start, end, lines.to_owned()))
        .collect()
}

fn narrow(mode: CueMode) -> CueRules {
    CueRules {
        mode,
        columns: 20,
        ..CueRules::default()
    }
}

const SPEECH: &str =
    "The train to New York was late, because snow had covered the tracks. | We waited and then we walked.";

#[test]
fn pop_on_cues_end_with_clauses_and_pauses() {
    assert_eq!(
        all_shown(narrow(CueMode::PopOn), &words(SPEECH, 0, 300)),
        expect(&[
            (0, 2_020, "The train to/New York was late,"),
            (2_100, 3_900, "because snow had/covered the tracks."),
            (4_900, 6_700, "We waited/and then we walked."),
        ])
    );
}

#[test]
fn roll_up_cues_are_lines() {
    assert_eq!(
        all_shown(narrow(CueMode::RollUp), &words(SPEECH, 0, 300)),
        expect(&[
            (0, 833, "The train"),
            (833, 1_666, "The train/to New York"),
            (1_666, 2_499, "to New York/was late,"),
            (2_499, 3_332, "was late,/because snow"),
            (3_332, 4_165, "because snow/had covered"),
            (4_165, 4_998, "had covered/the tracks."),
            (4_998, 6_100, "the tracks./We waited and then"),
            (6_100, 8_200, "We waited and then/we walked."),
        ])
    );
}

#[test]
fn paint_on_cues_are_words() {
    assert_eq!(
        all_shown(
            narrow(CueMode::PaintOn),
            &words("We saw New York and went on | Then home", 0, 300)
        ),
        expect(&[
            (0, 300, "We"),
            (300, 600, "We saw"),
            (600, 900, "We saw New"),
            (900, 1_200, "We saw New York"),
            (1_200, 1_500, "We saw New York and"),
            (1_500, 1_800, "We saw New York and/went"),
            (1_800, 3_020, "We saw New York and/went on"),
            (3_100, 3_400, "Then"),
            (3_400, 5_200, "Then home"),
        ])
    );
}

#[test]
fn paint_on_adds_words_at_their_columns() {
    let cues = cues(narrow(CueMode::PaintOn), &words("We saw the whole of it today", 0, 300));
    let added: Vec<_> = cues.iter().flat_map(|cue| &cue.added).collect();
    let places: Vec<_> = added
        .iter()
        .map(|added| (added.line, added.column, added.text.as_str()))
        .collect();
    assert_eq!(
        places,
        [
            (0, 0, "We"),
            (0, 2, " saw"),
            (0, 6, " the"),
            (0, 10, " whole"),
            (0, 16, " of"),
            (1, 0, "it"),
            (1, 2, " today")
        ]
    );
    assert!(cues[0].clears && cues[1..].iter().all(|cue| !cue.clears));
}

#[test]
fn a_sentence_is_a_cue_if_there_is_time_to_read_it() {
    let rules = CueRules::default();
    assert_eq!(
        all_shown(rules, &words("Nobody had expected that. They went home.", 0, 400)),
        expect(&[
            (0, 1_520, "Nobody had expected that."),
            (1_600, 2_800, "They went home.")
        ])
    );
    // Too short for a cue of its own.
    assert_eq!(
        all_shown(rules, &words("No. They went home.", 0, 400)),
        expect(&[(0, 1_600, "No. They went home.")])
    );
}

#[test]
fn the_end_of_an_utterance_ends_a_cue() {
    let mut builder = CueBuilder::new(CueRules::default()).unwrap();
    builder.push("yes", 0, 1_000 * MILLISECOND);
    builder.end_utterance();
    builder.push("no", 1_000 * MILLISECOND, 2_000 * MILLISECOND);
    builder.finish();
    assert_eq!(builder.next_cue().map(|cue| cue.lines), Some(vec!["yes".into()]));
    assert_eq!(builder.next_cue().map(|cue| cue.lines), Some(vec!["no".into()]));
}

#[test]
fn a_cue_is_out_when_its_delay_has_passed() {
    let rules = CueRules {
        delay: Duration::from_secs(2),
        ..CueRules::default()
    };
    let mut builder = CueBuilder::new(rules).unwrap();
    builder.push("hello", 500 * MILLISECOND, 800 * MILLISECOND);
    builder.advance(2_499 * MILLISECOND);
    assert_eq!(builder.next_cue(), None);
    assert_eq!(builder.stable_until(), 499 * MILLISECOND);
    builder.advance(2_500 * MILLISECOND);
    assert_eq!(
        builder.next_cue().map(|cue| shown(&cue)),
        Some((500, 1_333, "hello".into()))
    );
}

#[test]
fn silence_ends_a_cue_that_might_go_on() {
    // A number may go on, unless it is known that nothing follows.
    let cue = |until| {
        let mut builder = CueBuilder::new(CueRules::default()).unwrap();
        for (text, start, end) in words("it leaves at ten", 0, 500) {
            builder.push(text, start, end);
        }
        builder.advance(until * MILLISECOND);
        builder.next_cue().map(|cue| cue.text())
    };
    assert_eq!(cue(3_001).as_deref(), Some("it leaves at ten"));
    let rules = CueRules {
        delay: Duration::from_secs(2),
        ..CueRules::default()
    };
    let mut builder = CueBuilder::new(rules).unwrap();
    for (text, start, end) in words("it leaves at ten", 0, 500) {
        builder.push(text, start, end);
    }
    builder.advance(2_100 * MILLISECOND);
    assert_eq!(builder.next_cue().map(|cue| cue.text()).as_deref(), Some("it leaves"));
}

#[test]
fn a_word_that_comes_late_is_shown_late() {
    let rules = CueRules {
        delay: Duration::from_secs(1),
        ..CueRules::default()
    };
    let mut builder = CueBuilder::new(rules).unwrap();
    builder.advance(5_000 * MILLISECOND);
    assert_eq!(builder.stable_until(), 4_000 * MILLISECOND);
    builder.push("late", 1_000 * MILLISECOND, 1_200 * MILLISECOND);
    builder.advance(5_000 * MILLISECOND);
    assert_eq!(builder.next_cue().map(|cue| cue.start / MILLISECOND), Some(4_000));
}

#[test]
fn no_cue_begins_before_what_was_put_there() {
    let mut builder = CueBuilder::new(CueRules::default()).unwrap();
    builder.push("hello", 500 * MILLISECOND, 800 * MILLISECOND);
    builder.not_before(550 * MILLISECOND);
    assert_eq!(builder.next_start(), Some(550 * MILLISECOND));
    builder.flush();
    assert_eq!(builder.next_cue().map(|cue| cue.start / MILLISECOND), Some(550));
}

#[test]
fn without_delay_cues_keep_up() {
    // Each word is known when it begins: a cue takes what has been said while the one before it was shown.
    let rules = CueRules {
        delay: Duration::ZERO,
        ..CueRules::default()
    };
    let mut builder = CueBuilder::new(rules).unwrap();
    for (text, start, end) in words("one after another they come and go", 0, 300) {
        builder.push(text, start, end);
        builder.advance(start);
    }
    builder.finish();
    let cues: Vec<_> = std::iter::from_fn(|| builder.next_cue())
        .map(|cue| shown(&cue))
        .collect();
    assert_eq!(
        cues,
        expect(&[
            (0, 833, "one"),
            (913, 2_063, "after another they come"),
            (2_143, 2_976, "and go")
        ])
    );
}

#[test]
fn words_without_text_are_not_counted() {
    let mut builder = CueBuilder::new(CueRules::default()).unwrap();
    let have_text = [" ", "a", "", "b", "\n"].map(|text| builder.push(text, 0, 10));
    assert_eq!(have_text, [false, true, false, true, false]);
    builder.finish();
    let cue = builder.next_cue().unwrap();
    assert_eq!((cue.words, cue.text()), (2, "a b".to_owned()));
}

#[test]
fn cues_begin_before_the_stop() {
    let speech = words(
        "They left home. We waited there for a long time. Then we too left home.",
        0,
        150,
    );
    let all = |mode, stop| {
        let mut builder = CueBuilder::new(narrow(mode)).unwrap();
        builder.set_stop(stop);
        for &(text, start, end) in &speech {
            builder.push(text, start, end);
            builder.advance(start);
        }
        builder.flush();
        std::iter::from_fn(|| builder.next_cue()).collect::<Vec<_>>()
    };
    // Where the last word ends.
    let stop = speech.last().unwrap().2;
    for mode in [CueMode::PopOn, CueMode::RollUp, CueMode::PaintOn] {
        let free = all(mode, None);
        // In paint-on, words that are late go to the screen at once.
        let is_late = free.last().unwrap().start >= stop;
        assert_eq!(is_late, mode != CueMode::PaintOn, "{free:?}");
        let cues = all(mode, Some(stop));
        for pair in cues.windows(2) {
            assert!(pair[0].end <= pair[1].start, "{mode:?} {pair:?}");
        }
        assert!(
            cues.iter().all(|cue| cue.start < stop && cue.start < cue.end),
            "{mode:?} {cues:?}"
        );
        let texts = |cues: &[Cue]| {
            let added = cues.iter().flat_map(|cue| &cue.added);
            let texts: Vec<String> = added.map(|added| added.text.trim().to_owned()).collect();
            texts.join(" ")
        };
        assert_eq!(texts(&cues), texts(&free), "{mode:?}");
    }
}

#[test]
fn a_stop_does_not_change_cues_long_before_it() {
    let words = words(SPEECH, 0, 300);
    let rules = narrow(CueMode::PopOn);
    let mut builder = CueBuilder::new(rules).unwrap();
    builder.set_stop(Some(60_000 * MILLISECOND));
    for &(text, start, end) in &words {
        builder.push(text, start, end);
        builder.advance(end);
    }
    builder.finish();
    let stopped: Vec<Cue> = std::iter::from_fn(|| builder.next_cue()).collect();
    assert_eq!(stopped, cues(rules, &words));
}

#[test]
fn cues_say_by_how_much_they_are_delayed() {
    let mut builder = CueBuilder::new(CueRules::default()).unwrap();
    builder.push("hello.", 500 * MILLISECOND, 800 * MILLISECOND);
    builder.not_before(550 * MILLISECOND);
    builder.end_utterance();
    builder.push("again", 900 * MILLISECOND, 1_300 * MILLISECOND);
    builder.finish();
    let cues: Vec<Cue> = std::iter::from_fn(|| builder.next_cue()).collect();
    let delayed: Vec<u64> = cues.iter().map(|cue| cue.delayed / MILLISECOND).collect();
    // The second one waits only for the first one to be read.
    assert!(cues[1].start > 900 * MILLISECOND, "{cues:?}");
    assert_eq!(delayed, [50, 0]);
}

#[test]
fn new_rules_keep_the_gap_after_the_last_cue() {
    for mode in [CueMode::PopOn, CueMode::PaintOn, CueMode::RollUp] {
        let mut builder = CueBuilder::new(narrow(CueMode::RollUp)).unwrap();
        builder.push("hello", 500 * MILLISECOND, 800 * MILLISECOND);
        builder.flush();
        let before = builder.next_cue().unwrap();
        builder.set_rules(narrow(mode)).unwrap();
        builder.push("again", 800 * MILLISECOND, 1_300 * MILLISECOND);
        builder.finish();
        let cue = builder.next_cue().unwrap();
        let gap = if mode == CueMode::RollUp { 0 } else { 80 * MILLISECOND };
        assert_eq!((cue.start, cue.clears), (before.end + gap, true), "{mode:?}");
        assert_eq!(cue.text(), "again");
    }
    let mut builder = CueBuilder::new(CueRules::default()).unwrap();
    let wrong = CueRules {
        lines: 0,
        ..CueRules::default()
    };
    assert!(builder.set_rules(wrong).is_err());
    assert_eq!(builder.rules(), &CueRules::default());
}

#[test]
fn a_reset_builder_is_as_new() {
    let mut builder = CueBuilder::new(narrow(CueMode::PaintOn)).unwrap();
    builder.push("hello", 500 * MILLISECOND, 800 * MILLISECOND);
    builder.advance(60_000 * MILLISECOND);
    builder.push("again", 60_000 * MILLISECOND, 60_800 * MILLISECOND);
    builder.reset();
    assert_eq!(
        (builder.next_cue(), builder.stable_until(), builder.horizon()),
        (None, 0, 0)
    );
    builder.push("new", 0, 100 * MILLISECOND);
    builder.finish();
    assert_eq!(builder.next_cue().map(|cue| cue.lines), Some(vec!["new".into()]));
}
