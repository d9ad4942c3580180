// SPDX-License-Identifier: MIT OR Apache-2.0

use proptest::prelude::*;

use super::*;

/// Samples per word.
const WORD: u64 = 1000;

fn words(text: &str) -> Vec<Word> {
    let word = |(index, text): (u64, &str)| Word {
        text: text.into(),
        start: index * WORD,
        end: (index + 1) * WORD,
        confidence: 0.5,
        spoken: Vec::new(),
    };
    (0..).zip(text.split(' ')).map(word).collect()
}

fn shaper(language: &str, shaping: TextShaping, punctuates: bool) -> Shaper {
    let mut shaper = Shaper::default();
    shaper.set_language(language);
    shaper.set(Arc::new(shaping), punctuates);
    shaper
}

/// What `shaping` makes of `text`: words that are passed on together are in brackets, those held back until the end last.
fn shape(shaping: &TextShaping, text: &str) -> String {
    shape_in("en-US", shaping, text)
}

fn shape_in(language: &str, shaping: &TextShaping, text: &str) -> String {
    let mut shaper = shaper(language, shaping.clone(), false);
    let texts = |words: Vec<Word>| words.into_iter().map(|word| word.text).collect::<Vec<_>>().join(" ");
    let passed = words(text).into_iter().map(|word| texts(shaper.push(word)));
    let mut passed: Vec<String> = passed.collect();
    passed.push(texts(shaper.flush()));
    passed.retain(|words| !words.is_empty());
    passed.iter().map(|words| format!("[{words}]")).collect()
}

fn numbers() -> TextShaping {
    TextShaping {
        inverse_text_normalization: true,
        ..TextShaping::default()
    }
}

fn replacing(list: &str) -> TextShaping {
    TextShaping {
        replacements: Some(Arc::new(Replacements::parse(list).unwrap())),
        ..TextShaping::default()
    }
}

fn masking(list: &str, action: ProfanityAction) -> TextShaping {
    TextShaping {
        profanity: Some(ProfanityFilter {
            list: Arc::new(ProfanityList::parse(list).unwrap()),
            action,
        }),
        ..TextShaping::default()
    }
}

#[test]
fn nothing_is_done_by_default() {
    assert_eq!(
        shape(&TextShaping::default(), "i have twenty one"),
        "[i][have][twenty][one]"
    );
}

#[test]
fn numbers_wait_only_until_they_are_certain() {
    let shape = |text| shape(&numbers(), text);
    assert_eq!(shape("take twenty one apples home"), "[take][21 apples][home]");
    assert_eq!(shape("one hundred and five people"), "[105 people]");
    assert_eq!(shape("two cats"), "[two cats]");
    assert_eq!(shape("three point one four"), "[3.14]");
    assert_eq!(shape("the twenty first, of may"), "[the][21st, of][may]");
    assert_eq!(shape("seven nine four"), "[7 9 4]");
    assert_eq!(shape("It is twenty. Two more"), "[It][is][20.][Two more]");
    assert_eq!(shape("no number here"), "[no][number][here]");
}

#[test]
fn numbers_that_were_passed_on_too_early_belong_to_those_after_them() {
    // A bar is where words have to be passed on.
    let shape = |text: &str| {
        let mut shaper = shaper("en", numbers(), false);
        let mut out = Vec::new();
        for word in words(text) {
            out.extend(match word.text.as_str() {
                "|" => shaper.flush(),
                _ => shaper.push(word),
            });
        }
        out.extend(shaper.flush());
        out.into_iter().map(|word| word.text).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(shape("call seven three | nine | two now"), "call 7 3 9 2 now");
    assert_eq!(shape("twenty | one | two"), "20 one 2");
    assert_eq!(shape("seven three | cats two | dogs"), "7 3 cats two dogs");
    assert_eq!(shape("seven three. | two dogs"), "7 3. two dogs");
}

#[test]
fn numbers_follow_the_language() {
    assert_eq!(
        shape_in("de", &numbers(), "ich habe einundzwanzig katzen"),
        "[ich][habe][21 katzen]"
    );
    assert_eq!(shape_in("fr-CA", &numbers(), "quatre-vingt dix chats"), "[90 chats]");
    assert_eq!(shape_in("ja", &numbers(), "twenty one"), "[twenty][one]");
    let mut shaper = shaper("ja", numbers(), false);
    shaper.report_language("en-US");
    assert_eq!(shaper.push(words("twenty").remove(0)), []);
    assert_eq!(shaper.flush()[0].text, "20");
}

#[test]
fn replacements_hold_back_only_what_may_match() {
    let list = "gee streamer => GStreamer\n\\bnew york( city)?\\b => NYC\n(\\d+) percent => $1 %\num => \n";
    let shape = |text| shape(&replacing(list), text);
    assert_eq!(
        shape("use gee streamer in new york now"),
        "[use][GStreamer][in][NYC now]"
    );
    assert_eq!(shape("in new york city"), "[in][NYC]");
    assert_eq!(shape("gee i am new here"), "[gee i][am][new here]");
    assert_eq!(shape("20 percent"), "[20 %]");
    assert_eq!(shape("and um, then"), "[and][then]");
    // They match anywhere, unless they say otherwise.
    assert_eq!(shape("the ogee streamers"), "[the][oGStreamers]");
}

#[test]
fn first_of_several_replacements_counts_and_its_text_is_not_replaced_again() {
    assert_eq!(shape(&replacing("a b => x\nb c => y\nx => z"), "a b c x"), "[x][c][z]");
    assert_eq!(shape(&replacing("a+ b => x\na b c => y"), "a b c"), "[x c]");
}

#[test]
fn replacements_of_spaces_join_words() {
    assert_eq!(shape(&replacing("(a|b)+ => x"), "a b c"), "[x][x][c]");
    assert_eq!(shape(&replacing("a\\s => x"), "a b a"), "[xb][a]");
    assert_eq!(shape(&replacing("\\sb\\s => -"), "a b c d"), "[a-c][d]");
    assert_eq!(shape(&replacing("\\s => "), "a b"), "[ab]");
}

#[test]
fn a_pattern_without_end_holds_no_more_than_the_limit() {
    let text = vec!["a"; 2 * MAX_HELD].join(" ");
    let mut shaper = shaper("en", replacing("a.*z => x"), false);
    let mut passed = 0;
    for word in words(&text) {
        passed += shaper.push(word).len();
    }
    assert_eq!(passed, 2 * MAX_HELD);
}

#[test]
fn profanity_is_masked_as_whole_words_of_the_language() {
    let list = "drat\n# Comment\n[en]\nblast it\n[de]\nMist\n";
    let mask = |action, language, text| shape_in(language, &masking(list, action), text);
    assert_eq!(
        mask(ProfanityAction::Mask, "en-US", "Drat, dratted mist!"),
        "[****,][dratted][mist!]"
    );
    assert_eq!(
        mask(ProfanityAction::MaskTail, "en", "blast it drat"),
        "[b**** i*][d***]"
    );
    assert_eq!(mask(ProfanityAction::Mask, "de", "mist blast it"), "[****][blast][it]");
    assert_eq!(
        mask(ProfanityAction::Remove, "en", "oh drat, blast it. yes"),
        "[oh][yes]"
    );
    assert_eq!(mask(ProfanityAction::Mask, "eng", "blast it"), "[blast][it]");
}

#[test]
fn profanity_of_any_script_is_masked() {
    let list = "scheiße\nblödmann\nчёрт\n";
    let mask = |text| shape(&masking(list, ProfanityAction::Mask), text);
    assert_eq!(
        mask("SCHEISSE Scheiße BLÖDMANN Чёрт."),
        "[SCHEISSE][*******][********][****.]"
    );
}

#[test]
fn sentences_begin_with_a_capital() {
    let capitalize = |text: &str, language: &str| {
        let shaping = TextShaping {
            capitalize: Capitalize::Sentences,
            ..TextShaping::default()
        };
        let mut shaper = shaper(language, shaping, text.contains('.'));
        let mut out = Vec::new();
        for utterance in text.split(" / ") {
            let (utterance, ending) = match utterance.strip_suffix('~') {
                Some(cut) => (cut, EndReason::Limit),
                None => (utterance, EndReason::Pause),
            };
            out.extend(words(utterance).into_iter().flat_map(|word| shaper.push(word)));
            shaper.end_utterance(ending);
        }
        out.into_iter().map(|word| word.text).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(capitalize("hello there / i'm here", "en"), "Hello there I'm here");
    assert_eq!(capitalize("so do i / ill / id", "en-GB"), "So do I Ill Id");
    assert_eq!(capitalize("a long~ / sentence / next", "en"), "A long sentence Next");
    assert_eq!(
        capitalize("so. \u{201c}yes.\u{201d} / it is / not done. ok", "en"),
        "So. \u{201c}Yes.\u{201d} It is not done. Ok"
    );
    assert_eq!(
        capitalize("42 is it / école / ich und i", "fr"),
        "42 is it École Ich und i"
    );
    assert_eq!(capitalize("is it? yes! no", "en"), "Is it? Yes! No");
    assert_eq!(
        capitalize("**** the dog / […] the cat / i saw […] dog", "en"),
        "**** the dog […] the cat I saw […] dog"
    );
}

#[test]
fn words_of_low_confidence_are_masked_once_or_dropped() {
    let filtered = |action| {
        let min_confidence = Some(ConfidenceFilter { min: 0.6, action });
        let mut shaper = shaper(
            "en",
            TextShaping {
                min_confidence,
                ..TextShaping::default()
            },
            false,
        );
        let mut out = Vec::new();
        for (mut word, confidence) in words("a b c d e").into_iter().zip([0.9, 0.1, 0.2, 0.6, 0.59]) {
            word.confidence = confidence;
            out.extend(shaper.push(word).into_iter().map(|word| word.text));
        }
        out.join(" ")
    };
    assert_eq!(filtered(LowConfidence::Mask), "a […] d […]");
    assert_eq!(filtered(LowConfidence::Drop), "a d");
}

#[test]
fn steps_work_on_what_those_before_made() {
    let shaping = TextShaping {
        capitalize: Capitalize::Sentences,
        replacements: Some(Arc::new(Replacements::parse(r"(\d+) percent => $1 blast").unwrap())),
        ..numbers()
    };
    let shaping = TextShaping {
        profanity: masking("blast", ProfanityAction::Mask).profanity,
        ..shaping
    };
    assert_eq!(
        shape(&shaping, "about twenty one percent of it"),
        "[About][21 *****][of][it]"
    );
}

#[test]
fn times_of_new_words_are_those_of_the_old_ones() {
    let times = |shaping: &TextShaping, text: &str| {
        let mut shaper = shaper("en", shaping.clone(), false);
        let mut out: Vec<Word> = words(text).into_iter().flat_map(|word| shaper.push(word)).collect();
        out.append(&mut shaper.flush());
        out.into_iter()
            .map(|word| (word.text, word.start, word.end))
            .collect::<Vec<_>>()
    };
    let word = |text: &str, start, end| (text.to_owned(), start, end);
    assert_eq!(
        times(&numbers(), "take twenty one apples"),
        [
            word("take", 0, 1000),
            word("21", 1000, 3000),
            word("apples", 3000, 4000)
        ]
    );
    assert_eq!(
        times(&replacing("a b => c d"), "a b"),
        [word("c", 0, 1000), word("d", 1000, 2000)]
    );
    assert_eq!(
        times(&replacing("abc => a bc d"), "abc"),
        [word("a", 0, 250), word("bc", 250, 749), word("d", 749, 1000)]
    );
}

#[test]
fn words_that_may_have_been_shown_are_not_joined() {
    let mut shaper = shaper("en", numbers(), false);
    let texts = |words: Vec<Word>| words.into_iter().map(|word| word.text).collect::<Vec<_>>();
    let words: [Word; 4] = words("twenty one thirty two").try_into().unwrap();
    let [twenty, one, thirty, two] = words;
    assert!(shaper.push(twenty).is_empty());
    shaper.separate_until(one.start + 1);
    assert_eq!(texts(shaper.push(one)), ["20", "one"]);
    assert!(shaper.push(thirty).is_empty());
    assert!(shaper.push(two).is_empty());
    assert_eq!(texts(shaper.flush()), ["32"]);
}

#[test]
fn words_know_what_was_decoded() {
    let decoded = |shaping: TextShaping, text: &str| {
        let mut shaper = shaper("en", shaping, false);
        let mut out: Vec<Word> = words(text).into_iter().flat_map(|word| shaper.push(word)).collect();
        out.append(&mut shaper.flush());
        let decoded = |word: &Word| {
            word.decoded()
                .iter()
                .map(|word| word.text.clone())
                .collect::<Vec<_>>()
                .join(" ")
        };
        out.iter().map(decoded).collect::<Vec<_>>()
    };
    assert_eq!(
        decoded(numbers(), "take twenty one apples"),
        ["take", "twenty one", "apples"]
    );
    assert_eq!(decoded(replacing("21 => x y\nz => w"), "21 z"), ["21", "21", "z"]);
    let both = TextShaping {
        replacements: replacing("21 apples => fruit").replacements,
        ..numbers()
    };
    assert_eq!(decoded(both, "twenty one apples"), ["twenty one apples"]);
}

#[test]
fn alternatives_are_rewritten_as_a_whole() {
    let shaping = TextShaping {
        profanity: masking("drat", ProfanityAction::Mask).profanity,
        capitalize: Capitalize::Sentences,
        ..numbers()
    };
    let mut shaper = shaper("en", shaping, false);
    // What has to do with the times of words has not with those of alternatives.
    shaper.separate_until(1_000_000);
    shaper.push(words("go").remove(0));
    let words = [("take", 0.9), ("twenty", 0.9), ("one", 0.9), ("drat", 0.9)];
    assert_eq!(shaper.rewrite(&words), "Take 21 ****");
    assert_eq!(shaper.rewrite(&[]), "");
    shaper.end_utterance(EndReason::Limit);
    assert_eq!(shaper.rewrite(&words), "take 21 ****");
}

#[test]
fn start_of_what_is_held_is_known() {
    let mut shaper = shaper(
        "en",
        TextShaping {
            replacements: replacing("a b c => x").replacements,
            ..numbers()
        },
        false,
    );
    let mut words = words("z a b twenty").into_iter();
    let mut held = || {
        shaper.push(words.next().unwrap());
        shaper.held_start()
    };
    assert_eq!(
        [held(), held(), held(), held()],
        [None, Some(WORD), Some(WORD), Some(WORD)]
    );
}

#[test]
fn wrong_lines_are_named() {
    let error = |list: &str| Replacements::parse(list).unwrap_err().to_string();
    for (list, expected) in [
        (
            "a => b\nc",
            "replacements, line 2: \"c\" is not a replacement; expected PATTERN => REPLACEMENT",
        ),
        (
            "(a => b",
            "replacements, line 1: \"(a\": it is not a valid regular expression: unclosed group",
        ),
        (
            "a* => b",
            "replacements, line 1: \"a*\": it matches nothing or the empty text",
        ),
        ("^a => b", "replacements, line 1: \"^a\": it has an anchor"),
        (
            "a => $1",
            "replacements, line 1: \"$1\" has $1, but the expression has no such group",
        ),
        ("(?<x>a) => ${y}", "has ${y}, but the expression has no such group"),
        (r"(\w{1000}){1000} => b", "too"),
        ("a => b\u{1b}c", "control characters"),
    ] {
        let error = error(list);
        assert!(error.contains(expected), "{list}: {error}");
    }
    let error = ProfanityList::parse("ok\n--").unwrap_err().to_string();
    assert_eq!(
        error,
        "profanity list, line 2: \"--\": it has no word; expected a word or phrase, or a language such as [en]"
    );
    let many = "a => b\n".repeat(10_001);
    assert!(
        Replacements::parse(&many)
            .unwrap_err()
            .to_string()
            .contains("line 10001: expected at most 10000")
    );
}

fn any_word() -> impl Strategy<Value = String> {
    let word = prop::sample::select(
        &[
            "one", "twenty", "hundred", "and", "point", "a", "b", "ab", "É.", "x,", "–", "drat",
        ][..],
    );
    word.prop_map(str::to_owned)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// However words are passed on, together they are what the whole text becomes at once, and times never go back.
    #[test]
    fn words_passed_on_are_those_of_the_whole(texts in prop::collection::vec(any_word(), 1..20)) {
        let shaping = TextShaping {
            replacements: replacing("a b => x y z\nab => \n(one|20) É => $1 e").replacements,
            profanity: masking("drat", ProfanityAction::Remove).profanity,
            ..numbers()
        };
        let input = words(&texts.join(" "));
        let end = input.last().unwrap().end;
        let mut shaper = shaper("en", shaping.clone(), false);
        let preview = shaper.preview(input.iter().cloned());
        let mut found: Vec<Word> = Vec::new();
        for word in input {
            let start = word.start;
            found.append(&mut shaper.push(word));
            // What was promised not to change.
            let held = shaper.held_start().unwrap_or(start + WORD);
            prop_assert!(found.iter().all(|word| word.end <= held));
        }
        found.append(&mut shaper.flush());
        prop_assert_eq!(&found, &preview);
        let mut at = 0;
        for word in &found {
            prop_assert!(word.start >= at && word.end > word.start && word.end <= end, "{:?}", found);
            prop_assert!(!word.text.is_empty() && !word.text.contains(' '));
            at = word.end;
        }
    }
}
