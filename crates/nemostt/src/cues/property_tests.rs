// SPDX-License-Identifier: MIT OR Apache-2.0

//! What holds for any words, however late they come: no rule is broken, no word is lost or repeated, no cue is late.

use std::time::Duration;

use proptest::prelude::*;
use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

use super::{
    piece::pieces,
    timing::{MAX_LAG, PAUSE},
    *,
};

const MILLISECOND: u64 = 1_000_000;
/// How long after its end a live word is known at the latest.
const LATENCY: u64 = 600 * MILLISECOND;

/// A word, and how it comes.
#[derive(Debug, Clone)]
struct Spoken {
    text: String,
    start: u64,
    end: u64,
    /// When it is known.
    known: u64,
    /// The first word of a name of two words, which another word follows.
    begins_name: bool,
    ends_utterance: bool,
}

/// A cue, and what was known when it was completed.
#[derive(Debug, Clone)]
struct Completed {
    cue: Cue,
    /// The horizon before, and after.
    before: u64,
    horizon: u64,
    /// `stable_until` before.
    stable: u64,
    /// When its first word, or part of a word, begins.
    spoken: u64,
}

fn texts() -> impl Strategy<Value = (Vec<String>, bool)> {
    let one = |text: &str| (vec![text.to_owned()], false);
    prop_oneof![
        12 => "[a-z]{1,9}".prop_map(|text| (vec![text], false)),
        2 => "[a-z]{1,6}[.,?]".prop_map(|text| (vec![text], false)),
        3 => "[A-Z][w-z]{2}".prop_flat_map(|first| ("[A-Z][w-z]{2}", "[q-z]{3,4}").prop_map(move |(last, next)| {
            (vec![first.clone(), last, next], true)
        })),
        1 => "[a-zé日]{10,70}".prop_map(|text| (vec![text], false)),
        1 => Just(one("the")),
        1 => Just(one("and")),
        1 => Just(one("10 000")),
        1 => Just(one("e\u{301}e\u{301} \u{7}")),
        1 => Just(one("")),
    ]
}

/// Up to 60 words at random paces, with random pauses and delays.
fn speech() -> impl Strategy<Value = Vec<Spoken>> {
    let length = prop_oneof![8 => 40_u64..600, 1 => 1_u64..20, 1 => 600_u64..9_000];
    let pause = prop_oneof![6 => Just(0_u64), 4 => 0_u64..300, 1 => 300_u64..6_000];
    let delay = prop_oneof![4 => 0_u64..600, 1 => 0_u64..5_000];
    let word = (texts(), length, pause, delay, prop::bool::weighted(0.05));
    prop::collection::vec(word, 0..30).prop_map(|words| {
        let (mut time, mut known) = (0, 0);
        let mut spoken = Vec::new();
        for ((texts, is_name), length, pause, delay, ends) in words {
            time += pause * MILLISECOND;
            let count = texts.len();
            for (index, text) in texts.into_iter().enumerate() {
                let start = time;
                time += length * MILLISECOND;
                known = (time + delay * MILLISECOND).max(known);
                spoken.push(Spoken {
                    text,
                    start,
                    end: time,
                    known,
                    begins_name: is_name && index == 0,
                    ends_utterance: ends && index + 1 == count,
                });
            }
        }
        spoken
    })
}

fn rules(mode: CueMode) -> impl Strategy<Value = CueRules> {
    let durations = (1_u64..2_000, 0_u64..8_000);
    let delay = prop_oneof![1 => Just(0_u64), 4 => 0_u64..8_000];
    (1_usize..4, 8_usize..50, durations, 0_u32..40, 0_u64..500, delay).prop_map(
        move |(lines, columns, (min, more), reading_speed, gap, delay)| CueRules {
            mode,
            lines,
            columns,
            min_duration: Duration::from_millis(min),
            max_duration: Duration::from_millis(min + more),
            reading_speed,
            gap: Duration::from_millis(gap),
            delay: Duration::from_millis(delay),
        },
    )
}

/// The cues of `words`. Time advances in steps of `step`; if `live`, words that are not known in time are late.
fn run(rules: CueRules, words: &[Spoken], step: u64, live: bool) -> Vec<Completed> {
    let mut builder = CueBuilder::new(rules).unwrap();
    let mut completed = Vec::new();
    let parts = words
        .iter()
        .flat_map(|word| pieces(&word.text, word.start, word.end, rules.columns));
    let starts: Vec<u64> = parts
        .flat_map(|part| vec![part.start; part.text.chars().count()])
        .collect();
    let mut taken = 0;
    let mut collect = |builder: &mut CueBuilder, before: u64, stable: u64, horizon: u64| {
        while let Some(cue) = builder.next_cue() {
            let spoken = starts[taken];
            taken += cue
                .added
                .iter()
                .map(|added| without_spaces(&added.text).chars().count())
                .sum::<usize>();
            completed.push(Completed {
                cue,
                before,
                horizon,
                stable,
                spoken,
            });
        }
    };
    let (mut next, mut now) = (0, 0);
    while next < words.len() {
        now += step;
        while next < words.len() && words[next].known <= now {
            builder.push(&words[next].text, words[next].start, words[next].end);
            if words[next].ends_utterance {
                builder.end_utterance();
            }
            next += 1;
        }
        // No word begins before the next one that is not known yet.
        let known = words.get(next).map_or(now, |word| word.start.min(now));
        let promised = if live { now.saturating_sub(LATENCY) } else { 0 };
        let (before, stable) = (builder.horizon(), builder.stable_until());
        builder.advance(known.max(promised));
        let horizon = builder.horizon();
        collect(&mut builder, before, stable, horizon);
    }
    let (before, stable) = (builder.horizon(), builder.stable_until());
    builder.finish();
    collect(&mut builder, before, stable, u64::MAX);
    completed
}

fn ns(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

fn without_spaces(text: &str) -> String {
    text.chars()
        .filter(|char| !char.is_whitespace() && !char.is_control())
        .collect()
}

/// Everything that never gives way.
fn assert_rules(rules: &CueRules, words: &[Spoken], completed: &[Completed]) {
    let said: String = words.iter().map(|word| without_spaces(&word.text)).collect();
    let added = completed.iter().flat_map(|completed| &completed.cue.added);
    let shown: String = added.map(|added| without_spaces(&added.text)).collect();
    assert_eq!(shown, said, "a word is lost or repeated");
    // Words without text are not counted.
    let counted: usize = completed.iter().map(|completed| completed.cue.words).sum();
    let with_text = words.iter().filter(|word| !without_spaces(&word.text).is_empty());
    assert_eq!(counted, with_text.count(), "{words:?}");

    for Completed {
        cue, before, stable, ..
    } in completed
    {
        assert!((1..=rules.lines).contains(&cue.lines.len()), "{cue:?}");
        for line in &cue.lines {
            assert!((1..=rules.columns).contains(&line.width()), "{cue:?}");
            assert_eq!(line.trim(), line, "{cue:?}");
        }
        assert!(cue.start < cue.end, "{cue:?}");
        assert!(cue.start >= *stable, "{cue:?} begins before {stable}");
        assert!(
            cue.start + ns(rules.delay) >= *before,
            "{cue:?} was due before {before}"
        );
    }
    for pair in completed.windows(2) {
        let (a, b) = (&pair[0].cue, &pair[1].cue);
        let gap = match rules.mode {
            CueMode::PopOn => ns(rules.gap),
            CueMode::PaintOn if b.clears => ns(rules.gap),
            CueMode::RollUp | CueMode::PaintOn => 0,
        };
        assert!(a.end + gap <= b.start, "{a:?} {b:?}");
    }
}

/// Everything from a clear screen to the next: start, end, characters to be read, and the index of its last cue. Line
/// breaks are not counted, because a word may be broken there.
fn blocks(rules: &CueRules, completed: &[Completed]) -> Vec<(u64, u64, u64, usize)> {
    let count = |lines: &[&str]| {
        lines
            .iter()
            .map(|line| line.graphemes(true).count() as u64)
            .sum::<u64>()
    };
    let mut blocks: Vec<(u64, u64, u64, usize)> = Vec::new();
    for (index, Completed { cue, .. }) in completed.iter().enumerate() {
        let added: Vec<&str> = cue.added.iter().map(|added| added.text.as_str()).collect();
        let lines: Vec<&str> = cue.lines.iter().map(String::as_str).collect();
        match blocks
            .last_mut()
            .filter(|_| rules.mode == CueMode::PaintOn && !cue.clears)
        {
            Some(block) => {
                block.1 = cue.end;
                block.2 = count(&lines);
                block.3 = index;
            }
            None => blocks.push((cue.start, cue.end, count(&added), index)),
        }
    }
    blocks
}

/// Durations, and when synchrony and the reading speed give way. `honest`: no word was late.
fn assert_times(rules: &CueRules, completed: &[Completed], honest: bool) {
    let start_of = |index: usize| completed.get(index).map(|completed| completed.spoken);
    let gap = if rules.mode == CueMode::RollUp {
        0
    } else {
        ns(rules.gap)
    };
    for (start, end, characters, last) in blocks(rules, completed) {
        let duration = end - start;
        assert!(duration >= ns(rules.min_duration), "{:?}", completed[last]);
        assert!(duration <= ns(rules.max_duration), "{:?}", completed[last]);
        let reading = match rules.reading_speed {
            0 => 0,
            speed => characters * 1_000 * MILLISECOND / u64::from(speed),
        };
        if duration < reading && duration < ns(rules.max_duration) {
            let known = completed[last].horizon.min(start_of(last + 1).unwrap_or(u64::MAX));
            assert!(
                end + gap >= known.saturating_add(MAX_LAG),
                "{:?} is too short to read, but the next one at {known} would not be late",
                completed[last]
            );
        }
    }
    for pair in completed.windows(2).filter(|_| honest) {
        let soonest = pair[0].cue.start + ns(rules.min_duration) + gap;
        let latest = soonest.max(pair[1].spoken + MAX_LAG);
        assert!(pair[1].cue.start <= latest, "{pair:?} lags");
    }
}

/// Names are in one line, unless the rest was not known in time.
fn assert_names(words: &[Spoken], completed: &[Completed], live: bool) {
    for (index, word) in words.iter().enumerate().filter(|(_, word)| word.begins_name) {
        let name = [&word.text, " ", &words[index + 1].text].concat();
        let lines = || completed.iter().flat_map(|completed| &completed.cue.lines);
        let is_whole = lines().any(|line| line.contains(&name));
        let is_alone = lines().any(|line| *line == word.text);
        let next = &words[index + 1];
        let is_parted = next.start > word.end + PAUSE;
        // By then, it seemed that nothing follows.
        let is_late = live && next.known > word.end + PAUSE + LATENCY;
        assert!(
            is_whole || is_alone || is_parted || is_late,
            "{name} is broken: {completed:?}"
        );
    }
}

/// Properties of each mode, for words that are known in time and words that are not.
fn assert_all(rules: &CueRules, words: &[Spoken], step: u64) {
    for live in [false, true] {
        let completed = run(*rules, words, step * MILLISECOND, live);
        assert_rules(rules, words, &completed);
        assert_times(rules, &completed, !live);
        if rules.mode != CueMode::PaintOn {
            assert_names(words, &completed, live);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn pop_on_keeps_the_rules(rules in rules(CueMode::PopOn), words in speech(), step in 1_u64..1_500) {
        assert_all(&rules, &words, step);
    }

    #[test]
    fn roll_up_keeps_the_rules(rules in rules(CueMode::RollUp), words in speech(), step in 1_u64..1_500) {
        assert_all(&rules, &words, step);
    }

    #[test]
    fn paint_on_keeps_the_rules(rules in rules(CueMode::PaintOn), words in speech(), step in 1_u64..1_500) {
        assert_all(&rules, &words, step);
    }

    #[test]
    fn all_words_begin_before_a_stop(
        rules in prop_oneof![rules(CueMode::PopOn), rules(CueMode::RollUp), rules(CueMode::PaintOn)],
        words in speech(),
        silence in 1_u64..3_000,
    ) {
        let Some(last) = words.last() else { return Ok(()) };
        let stop = last.start + silence * MILLISECOND;
        let mut builder = CueBuilder::new(rules).unwrap();
        builder.set_stop(Some(stop));
        for word in &words {
            builder.push(&word.text, word.start, word.end);
            builder.advance(word.start);
        }
        builder.flush();
        let cues: Vec<Cue> = std::iter::from_fn(|| builder.next_cue()).collect();
        let shown: String = cues.iter().flat_map(|cue| &cue.added).map(|added| without_spaces(&added.text)).collect();
        let said: String = words.iter().map(|word| without_spaces(&word.text)).collect();
        prop_assert_eq!(shown, said);
        for pair in cues.windows(2) {
            prop_assert!(pair[0].end <= pair[1].start, "{:?}", pair);
        }
        for cue in &cues {
            prop_assert!(cue.start < stop && cue.start < cue.end, "{:?} is after {}", cue, stop);
        }
    }

    #[test]
    fn steps_do_not_change_words(words in speech(), steps in (1_u64..1_500, 1_u64..1_500)) {
        let text = |step| {
            let completed = run(CueRules::default(), &words, step * MILLISECOND, false);
            completed.iter().map(|completed| completed.cue.text().replace('\n', " ")).collect::<Vec<_>>().join(" ")
        };
        prop_assert_eq!(text(steps.0), text(steps.1));
    }
}
