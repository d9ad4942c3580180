// SPDX-License-Identifier: MIT OR Apache-2.0

//! Language models compared with NeMo's, and files that are refused.

use super::*;

/// A case of `tests/data/beam/lm.json`.
#[derive(serde::Deserialize)]
struct Case {
    lm: String,
    tokens: usize,
    /// The tokens one after the other, and before each the scores of all and of the end.
    walk: Vec<usize>,
    scores: Vec<Vec<f32>>,
    finals: Vec<f32>,
}

fn data(name: &str) -> std::path::PathBuf {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/beam");
    Path::new(data).join(name)
}

#[test]
fn scores_are_those_of_nemo() {
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(data("lm.json")).unwrap()).unwrap();
    assert!(cases.len() >= 4);
    for case in cases {
        let model = LanguageModel::read(&data(&case.lm), case.tokens, &Cancellation::default()).unwrap();
        let mut context = model.start();
        let mut scores = vec![0.0; case.tokens];
        for ((&token, expected), &end) in case.walk.iter().zip(&case.scores).zip(&case.finals) {
            model.scores(context, &mut scores);
            for (a, b) in scores.iter().zip(expected) {
                assert!((a - b).abs() < 2e-5, "{}: {a} and {b}", case.lm);
            }
            let own = model.end(context);
            assert!(
                (own - end).abs() < 2e-5 * end.abs().max(1.0),
                "{}: {own} and {end}",
                case.lm
            );
            context = model.next(context, token);
        }
    }
}

/// A bigram model of the tokens `d` (0) and `e` (1).
const BIGRAMS: &str = "\\data\\\nngram 1=4\nngram 2=2\n\n\\1-grams:\n-99\t<s>\t-0.5\n-1\t</s>\n-0.5\td\t-0.25\n-0.75\te\t-0.1\n\n\
    \\2-grams:\n-0.25\t<s> d\n-0.3\td e\n\n\\end\\\n";

#[test]
fn back_off_weights_are_added_where_there_is_no_longer_ngram() {
    let model = LanguageModel::parse(BIGRAMS.as_bytes(), 2).unwrap();
    let ten = std::f32::consts::LN_10;
    let mut scores = [0.0; 2];
    model.scores(model.start(), &mut scores);
    assert_eq!(scores.map(|score| (score / ten * 100.0).round()), [-25.0, -125.0]);
    let after = model.next(model.start(), 0);
    model.scores(after, &mut scores);
    assert_eq!(scores.map(|score| (score / ten * 100.0).round()), [-75.0, -30.0]);
    assert_eq!((model.end(after) / ten * 100.0).round(), -125.0);
    assert_eq!(model.order(), 2);
}

#[test]
fn broken_files_are_refused_with_line_and_cure() {
    let changed = |from: &str, to: &str| {
        assert!(BIGRAMS.contains(from));
        BIGRAMS.replacen(from, to, 1).into_bytes()
    };
    let binary = b"mmap lm http://kheafield.com/code format version 5\n\0\xff\xfe".to_vec();
    for (text, expected) in [
        (Vec::new(), "not an ARPA file"),
        (binary, "KenLM's binary"),
        (vec![0xff, 0xfe, 0x00], "not an ARPA file"),
        (vec![b'x'; 10_000], "line 1: it has more than 4096 bytes"),
        (
            changed("ngram 2=2", "ngram 3=2"),
            "line 3: it is of 3-grams, expected 2-grams",
        ),
        (changed("ngram 2=2", "ngram 2"), "line 3: expected `ngram 2=`"),
        (changed("ngram 2=2", "ngram 2=99999999999"), "Prune it"),
        (changed("ngram 2=2", "ngram 2=18446744073709551615"), "Prune it"),
        (changed("ngram 2=2", "ngram 2=3"), "line 15: expected a weight"),
        (changed("\\end\\\n", ""), ""),
        (changed("-0.3\td e", "-0.3\te e"), ""),
        (
            changed("-0.5\td\t-0.25", "nan\td\t-0.25"),
            "line 8: \"nan\" is not a number from -10000 to 10000",
        ),
        (
            changed("-0.5\td\t-0.25", "-0.5\td\t1e37"),
            "line 8: \"1e37\" is not a number from -10000 to 10000",
        ),
        (
            changed("-0.5\td\t-0.25", "0.5\td\t-0.25"),
            "line 8: weight 0.5 is the logarithm of a probability above 1",
        ),
        (changed("-0.5\td\t-0.25", "0\td\t0.25"), ""),
        (changed("\\data\\", "\u{feff}\\data\\"), ""),
        (changed("\\data\\", " \\data\\ "), ""),
        (
            (3..=13)
                .fold(BIGRAMS.to_owned(), |text, order| {
                    let last = format!("ngram {}=2\n", order - 1);
                    text.replace(&last, &format!("{last}ngram {order}=2\n"))
                })
                .into_bytes(),
            "line 14: the model has 13-grams, expected at most 12-grams. Make one of a lower order (lmplz -o)",
        ),
        (
            changed("-0.5\td\t-0.25", "-0.5\thello\t-0.25"),
            "line 8: 'h' (U+0068) is not one of",
        ),
        (
            changed("-0.5\td\t-0.25", "-0.5\tded\t-0.25"),
            "line 8: it has 3 symbols, expected 1",
        ),
        (
            changed("-0.5\td\t-0.25", "-0.5\te\t-0.25"),
            "line 9: it was there before",
        ),
        (
            changed("-0.25\t<s> d", "-0.25\tf d"),
            "line 12: 'f' (U+0066) is not one of",
        ),
        (changed("-99\t<s>\t-0.5", "-99\t<unk>\t-0.5"), "it has no unigram <s>"),
        (
            changed("-0.25\t<s> d", "-0.25\td <s>"),
            "line 12: the start of a sentence",
        ),
    ] {
        let result = LanguageModel::parse(&text, 2);
        match result {
            Ok(_) => assert!(expected.is_empty(), "{expected}"),
            Err(error) => assert!(!expected.is_empty() && error.contains(expected), "{expected}: {error}"),
        }
    }
}

#[test]
fn reading_can_be_cancelled() {
    let cancellation = Cancellation::default();
    cancellation.cancel();
    let result = LanguageModel::read(&data("random_5.arpa"), 5, &cancellation);
    assert!(matches!(result, Err(Error::Cancelled)));
}

/// A text that never ends, after which a check whether reading was cancelled says so from the third time on.
fn read_endless(start: &str, rest: u8) -> String {
    let checks = std::cell::Cell::new(0);
    let is_cancelled = || {
        checks.set(checks.get() + 1);
        checks.get() > 2
    };
    let text = std::io::Read::chain(start.as_bytes(), std::io::repeat(rest));
    arpa::read(std::io::BufReader::new(text), 2, is_cancelled).unwrap_err()
}

#[test]
fn files_that_never_end_can_be_cancelled() {
    let sections = BIGRAMS.find("\\1-grams").unwrap();
    for start in ["", &BIGRAMS[..sections], &BIGRAMS[..BIGRAMS.find("-0.3").unwrap()]] {
        assert_eq!(read_endless(start, b'\n'), "cancelled", "{start:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn only_regular_files_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("model.arpa");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    for (path, expected) in [(pipe.as_path(), "a named pipe"), (Path::new("/dev/zero"), "a device")] {
        let result = LanguageModel::read(path, 2, &Cancellation::default());
        let Err(Error::Read { source, .. }) = result else {
            panic!("{path:?}")
        };
        assert!(source.to_string().contains(expected), "{source}");
    }
}

#[test]
fn changed_files_are_refused_or_give_scores() {
    let original = std::fs::read(data("random_5.arpa")).unwrap();
    let mut state = 1_u32;
    let mut next = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    const INSERTED: &[u8] = b"\t\n =\\-9<>de";
    let mut accepted = 0;
    for _ in 0..3_000 {
        let mut text = original.clone();
        for _ in 0..=next(3) {
            let at = next(text.len());
            match next(4) {
                0 => text[at] = next(256) as u8,
                1 => drop(text.remove(at)),
                2 => text.insert(at, INSERTED[next(INSERTED.len())]),
                // A line again, or lines in another order.
                _ => text.extend_from_within(at..(at + 30).min(original.len() - 3).max(at)),
            }
        }
        if let Ok(model) = LanguageModel::parse(&text, 5) {
            accepted += 1;
            let (mut context, mut scores) = (model.start(), [0.0; 5]);
            for _ in 0..20 {
                model.scores(context, &mut scores);
                assert!(!model.end(context).is_nan());
                context = model.next(context, next(6));
            }
        }
    }
    assert!(accepted > 100, "{accepted}");
}

#[test]
fn incomplete_files_are_refused() {
    for end in 0..BIGRAMS.find("\td e").unwrap() {
        assert!(LanguageModel::parse(&BIGRAMS.as_bytes()[..end], 2).is_err(), "{end}");
    }
}
