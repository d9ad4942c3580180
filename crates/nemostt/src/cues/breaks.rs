// SPDX-License-Identifier: MIT OR Apache-2.0

//! How good a place between two words is to end a line or a cue.
//!
//! Guidelines agree: after punctuation, before conjunctions and prepositions, and not between words that belong
//! together, such as an article and its noun or the parts of a name (Netflix's [Timed Text Style Guide], "Line
//! Treatment"; BBC's [Subtitle Guidelines], "Break at natural points"). The lists of words are English; in other
//! languages, punctuation, names and numbers decide.
//!
//! [Timed Text Style Guide]: https://partnerhelp.netflixstudios.com/hc/en-us/articles/215758617
//! [Subtitle Guidelines]: https://www.bbc.co.uk/accessibility/forproducts/guides/subtitles/

/// Cost of a break after a sentence.
const SENTENCE: u32 = 0;
/// After a clause: a comma, colon, semicolon or dash.
const CLAUSE: u32 = 2;
/// Before a conjunction.
const CONJUNCTION: u32 = 4;
/// Before a preposition.
const PREPOSITION: u32 = 5;
/// Anywhere else.
const OTHER: u32 = 8;
/// Between a word such as an article and the one that it belongs to.
const AFTER_FUNCTION_WORD: u32 = 14;
/// Within a word that is longer than a line.
const WITHIN_WORD: u32 = 30;
/// Within a name or a number: only if nothing else is possible.
pub(super) const WITHIN_NAME: u32 = 10_000;

const CONJUNCTIONS: [&str; 19] = [
    "and", "but", "or", "nor", "so", "yet", "because", "although", "though", "while", "when", "where", "which", "who",
    "that", "if", "unless", "until", "than",
];
const PREPOSITIONS: [&str; 30] = [
    "about", "above", "across", "after", "against", "along", "among", "around", "at", "before", "behind", "below",
    "between", "by", "during", "for", "from", "in", "into", "of", "on", "over", "through", "to", "toward", "towards",
    "under", "with", "within", "without",
];
/// Articles, possessives, pronouns and auxiliary verbs: what follows belongs to them.
const FUNCTION_WORDS: [&str; 36] = [
    "a", "an", "the", "this", "these", "those", "my", "your", "his", "her", "its", "our", "their", "i", "you", "he",
    "she", "it", "we", "they", "is", "are", "was", "were", "be", "been", "has", "have", "had", "will", "would", "can",
    "could", "not", "no", "very",
];
/// Words within a name that are not capitalized.
const NAME_PARTICLES: [&str; 18] = [
    "of", "van", "von", "de", "da", "di", "del", "della", "der", "den", "la", "le", "du", "dos", "bin", "al", "ter",
    "ten",
];
/// Their period does not end a sentence, and a name follows.
const TITLES: [&str; 10] = ["mr", "mrs", "ms", "dr", "st", "prof", "sen", "rep", "gen", "capt"];
/// Their period does not end a sentence.
const ABBREVIATIONS: [&str; 6] = ["e.g", "i.e", "vs", "approx", "cf", "viz"];
const NUMERALS: [&str; 33] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
    "thirty",
    "forty",
    "fifty",
    "sixty",
    "seventy",
    "eighty",
    "ninety",
    "hundred",
    "thousand",
    "million",
    "billion",
    "trillion",
];
/// What belongs to the number before it.
const UNITS: [&str; 16] = [
    "percent", "%", "am", "pm", "a.m", "p.m", "o'clock", "km", "m", "cm", "kg", "g", "mph", "dollars", "euros",
    "pounds",
];

/// Cost of a break before word `at` of `words`. `continues`: it is a part of the word before it.
pub(super) fn cost(words: &[&str], at: usize, continues: bool) -> u32 {
    let (Some(&before), Some(&after)) = (words.get(at.wrapping_sub(1)), words.get(at)) else {
        return OTHER;
    };
    if continues {
        return WITHIN_WORD;
    }
    if is_within_name(words, at) {
        return WITHIN_NAME;
    }
    match end_of(before) {
        End::Sentence => return SENTENCE,
        End::Clause => return CLAUSE,
        End::Open => {}
    }
    let after = bare(after);
    let before = bare(before);
    if FUNCTION_WORDS.contains(&before.as_str()) || PREPOSITIONS.contains(&before.as_str()) {
        AFTER_FUNCTION_WORD
    } else if CONJUNCTIONS.contains(&after.as_str()) {
        CONJUNCTION
    } else if PREPOSITIONS.contains(&after.as_str()) {
        PREPOSITION
    } else {
        OTHER
    }
}

/// Cost of a break after `last`, if the word that follows is not known yet.
pub(super) fn cost_of_open_end(last: &str) -> u32 {
    match end_of(last) {
        End::Sentence => SENTENCE,
        End::Clause => CLAUSE,
        End::Open if is_capitalized(last) || is_title(last) || is_number(last) => WITHIN_NAME,
        End::Open => cost(&[last, ""], 1, false),
    }
}

/// Whether a sentence ends with `word`.
pub(super) fn ends_sentence(word: &str) -> bool {
    end_of(word) == End::Sentence
}

/// Whether word `at` of `words` belongs to the name or number of the word before it.
pub(super) fn is_within_name(words: &[&str], at: usize) -> bool {
    let word = |index: usize| words.get(index).copied().unwrap_or_default();
    let Some(before) = at.checked_sub(1).map(word) else {
        return false;
    };
    let after = word(at);
    if is_title(before) && is_capitalized(after) {
        return true;
    }
    if end_of(before) != End::Open && !is_initial(before) {
        return false;
    }
    if is_number(before) && (is_number(after) || UNITS.contains(&bare(after).as_str())) {
        return true;
    }
    let ends_open = |index: usize| end_of(word(index)) == End::Open;
    let (previous, next) = (at.checked_sub(2).map(word).unwrap_or_default(), word(at + 1));
    let is_particle = |word: &str| NAME_PARTICLES.contains(&word);
    if is_particle(after) && is_capitalized(before) {
        return is_capitalized(next) || is_particle(next) && is_capitalized(word(at + 2));
    }
    if is_particle(before) && ends_open(at.wrapping_sub(2)) {
        let first = at.checked_sub(3).map(word).unwrap_or_default();
        let begun = is_capitalized(previous) || is_particle(previous) && is_capitalized(first);
        return begun && (is_capitalized(after) || is_particle(after) && is_capitalized(next));
    }
    // In text that is all capitals, they say nothing.
    let is_mixed = [before, after].iter().any(|word| word.chars().any(char::is_lowercase)) || is_initial(before);
    is_mixed && is_capitalized(before) && is_capitalized(after)
}

/// How a word ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    Clause,
    Sentence,
}

fn end_of(word: &str) -> End {
    let closed = word.trim_end_matches(['"', '\'', '”', '’', '»', ')', ']']);
    match closed.chars().next_back() {
        Some('.') if is_title(word) || is_initial(word) || ABBREVIATIONS.contains(&bare(word).as_str()) => End::Open,
        Some('.' | '?' | '!' | '…' | '。' | '？' | '！') => End::Sentence,
        Some(',' | ';' | ':' | '–' | '—' | '、' | '，') => End::Clause,
        _ => End::Open,
    }
}

/// `word` in lower case, without punctuation around it.
fn bare(word: &str) -> String {
    word.trim_matches(|char: char| !char.is_alphanumeric() && char != '%')
        .to_lowercase()
}

fn is_title(word: &str) -> bool {
    TITLES.contains(&bare(word).as_str()) && word.chars().next().is_some_and(char::is_uppercase)
}

/// Whether it is the initial of a name: a capital and a period.
fn is_initial(word: &str) -> bool {
    let mut chars = word.chars();
    chars.next().is_some_and(char::is_uppercase) && chars.as_str() == "."
}

/// Whether it is capitalized as names are, and not only because it begins a sentence.
fn is_capitalized(word: &str) -> bool {
    let first = word.chars().find(|char| char.is_alphanumeric());
    if !first.is_some_and(char::is_uppercase) {
        return false;
    }
    let bare = bare(word);
    let is_pronoun = bare.starts_with("i'") || bare.starts_with("i’");
    is_initial(word)
        || !is_pronoun
            && ![&FUNCTION_WORDS[..], &CONJUNCTIONS, &PREPOSITIONS]
                .iter()
                .any(|list| list.contains(&bare.as_str()))
}

fn is_number(word: &str) -> bool {
    let digits = word.trim_start_matches(|char: char| !char.is_alphanumeric());
    let bare = bare(word);
    digits.chars().next().is_some_and(|first| first.is_ascii_digit())
        || bare.split('-').all(|part| NUMERALS.contains(&part))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The costs of all breaks within `text`.
    fn costs(text: &str) -> Vec<u32> {
        let words: Vec<&str> = text.split(' ').collect();
        (1..words.len()).map(|at| cost(&words, at, false)).collect()
    }

    #[test]
    fn a_break_at_the_end_of_a_clause_is_cheapest() {
        assert_eq!(costs("no. then"), [SENTENCE]);
        assert_eq!(costs("well, then"), [CLAUSE]);
        assert_eq!(costs("went home because rain"), [OTHER, CONJUNCTION, OTHER]);
        assert_eq!(costs("came from town"), [PREPOSITION, AFTER_FUNCTION_WORD]);
        assert_eq!(costs("saw the house"), [OTHER, AFTER_FUNCTION_WORD]);
        assert_eq!(costs("“Stop.” Go"), [SENTENCE]);
    }

    #[test]
    fn names_are_kept_together() {
        for name in [
            "New York",
            "New York Times",
            "Dr. Smith",
            "John F. Kennedy",
            "Ludwig van Beethoven",
            "Mies van der Rohe",
            "Bank of England",
            "NASA Langley",
        ] {
            assert!(
                costs(name).iter().all(|&cost| cost == WITHIN_NAME),
                "{name}: {:?}",
                costs(name)
            );
        }
        for others in [
            "The House",
            "Paris, London",
            "Rome. Paris",
            "I Think",
            "And I'm",
            "BIG HOUSE",
            "of England",
        ] {
            assert!(costs(others).iter().all(|&cost| cost < WITHIN_NAME), "{others}");
        }
    }

    #[test]
    fn numbers_are_kept_together() {
        for number in [
            "10 000",
            "3.5 million",
            "$20 million",
            "twenty five",
            "two hundred",
            "50 percent",
            "6 p.m.",
        ] {
            assert_eq!(costs(number), [WITHIN_NAME], "{number}");
        }
        for others in ["two, three", "two men", "of 1984"] {
            assert!(costs(others).iter().all(|&cost| cost < WITHIN_NAME), "{others}");
        }
    }

    #[test]
    fn an_open_end_may_be_within_a_name() {
        assert_eq!(cost_of_open_end("New"), WITHIN_NAME);
        assert_eq!(cost_of_open_end("twenty"), WITHIN_NAME);
        assert_eq!(cost_of_open_end("York."), SENTENCE);
        assert_eq!(cost_of_open_end("the"), AFTER_FUNCTION_WORD);
        assert_eq!(cost_of_open_end("house"), OTHER);
    }

    #[test]
    fn periods_of_abbreviations_end_no_sentence() {
        assert!(ends_sentence("end."));
        assert!(ends_sentence("Why?”"));
        for word in ["Mr.", "J.", "e.g.", "end", "end,"] {
            assert!(!ends_sentence(word), "{word}");
        }
    }
}
