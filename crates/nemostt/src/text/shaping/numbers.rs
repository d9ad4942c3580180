// SPDX-License-Identifier: MIT OR Apache-2.0

//! Numbers in digits: inverse text normalization, by `text2num`.

use std::{borrow::Cow, fmt, sync::Arc};

use text2num::{
    BasicAnnotate, LangInterpreter, Language, Token, digit_string::DigitString, error::Error, find_numbers,
};

use super::{
    MAX_HELD,
    edit::{Edit, Joined},
    is_language,
};
use crate::text::Word;

/// Isolated numbers below this one stay words, as newspapers write them.
const THRESHOLD: f64 = 10.0;
/// Numbers after which a word is tried: it may continue one of them ("hundred", "and").
const BEGINNINGS: [&str; 5] = ["", "2", "20", "100", "2000"];

/// Creates what knows the numbers of a language.
type NewLanguage = fn() -> Language;

/// The languages whose numbers are known.
const LANGUAGES: [(&str, NewLanguage); 8] = [
    ("en", Language::english),
    ("da", Language::danish),
    ("de", Language::german),
    ("es", Language::spanish),
    ("fr", Language::french),
    ("it", Language::italian),
    ("nl", Language::dutch),
    ("pt", Language::portugese),
];

/// Writes numbers in digits.
#[derive(Clone)]
pub(super) struct Numbers {
    language: Arc<Language>,
    /// From the first word that may be part of a number.
    held: Vec<Word>,
    /// Words that were passed on although those after them may belong to the same sequence of numbers: "seven three" "nine".
    context: Vec<Word>,
}

impl fmt::Debug for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Numbers")
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

impl Numbers {
    /// `None` if numbers of `language` are not known.
    pub(super) fn new(language: &str) -> Option<Self> {
        let (_, create) = LANGUAGES.iter().find(|(tag, _)| is_language(language, tag))?;
        Some(Self {
            language: Arc::new(create()),
            held: Vec::new(),
            context: Vec::new(),
        })
    }

    pub(super) fn held(&self) -> &[Word] {
        &self.held
    }

    pub(super) fn push(&mut self, word: Word, out: &mut Vec<Word>) {
        let (text, punctuation) = split(&word.text);
        let role = self.role(text);
        let is_end = role == Role::End || punctuation.contains(['.', '?', '!', ';', ':']);
        if self.held.is_empty() && role != Role::Number {
            match role {
                Role::Link if !self.context.is_empty() && !is_end => self.remember(vec![word.clone()]),
                _ => self.context.clear(),
            }
            out.push(word);
            return;
        }
        self.held.push(word);
        if is_end || self.held.len() >= MAX_HELD {
            self.flush(out);
            self.context.clear();
        }
    }

    /// The utterance has ended.
    pub(super) fn end_utterance(&mut self) {
        self.context.clear();
    }

    pub(super) fn flush(&mut self, out: &mut Vec<Word>) {
        if self.held.is_empty() {
            return;
        }
        let words = std::mem::take(&mut self.held);
        let joined = Joined::new(&words);
        let edits = self
            .numbers_after_context(&words)
            .unwrap_or_else(|| self.numbers(&words));
        joined.apply(&edits, words.clone(), out);
        self.remember(words);
    }

    /// Adds words that were passed on to the context.
    fn remember(&mut self, words: Vec<Word>) {
        self.context.extend(words);
        let excess = self.context.len().saturating_sub(MAX_HELD);
        self.context.drain(..excess);
    }

    /// The numbers in `words`, as they are after the context; `None` if one begins in it, where it cannot be changed.
    fn numbers_after_context(&self, words: &[Word]) -> Option<Vec<Edit>> {
        let all = [&self.context, words].concat();
        let from = Joined::new(&all).starts().nth(self.context.len())?;
        let after = self.numbers(&all).into_iter().filter(|edit| edit.range.end > from);
        let moved = after.map(|edit| {
            let start = edit.range.start.checked_sub(from)?;
            Some(Edit {
                range: start..edit.range.end - from,
                ..edit
            })
        });
        moved.collect()
    }

    /// The numbers in `words`.
    fn numbers(&self, words: &[Word]) -> Vec<Edit> {
        let joined = Joined::new(words);
        let mut tokens = tokens(words, &joined);
        self.language.basic_annotate(&mut tokens);
        let numbers = find_numbers(tokens.iter(), &*self.language, THRESHOLD);
        let edits = numbers.into_iter().filter_map(|number| {
            let first = tokens.get(number.start)?;
            let last = tokens.get(number.end.checked_sub(1)?)?;
            Some(Edit {
                range: first.at..last.at + last.text.len(),
                text: number.text,
            })
        });
        edits.collect()
    }

    /// What the word, without punctuation, does to a number before it, and to one that it may begin.
    fn role(&self, text: &str) -> Role {
        let word = text.to_lowercase();
        let may_follow = |beginning: &str| {
            let mut digits = DigitString::new();
            if !beginning.is_empty() && digits.put(beginning.as_bytes()).is_err() {
                return false;
            }
            matches!(self.language.apply(&word, &mut digits), Ok(()) | Err(Error::Incomplete))
        };
        if may_follow("") {
            return Role::Number;
        }
        let goes_on = BEGINNINGS.iter().any(|beginning| may_follow(beginning))
            || self.language.check_decimal_separator(&word).is_some()
            || self.language.is_linking(&word)
            || !word.contains(char::is_alphabetic);
        if goes_on { Role::Link } else { Role::End }
    }
}

/// What a word means for numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// May begin or continue one.
    Number,
    /// May stand in the middle of one, or between two that belong together.
    Link,
    /// Nothing after it belongs to a number before it.
    End,
}

/// A word without punctuation, or its punctuation.
#[derive(Debug)]
struct Part<'a> {
    text: &'a str,
    lowercase: String,
    /// Where it is in the text of all words.
    at: usize,
    is_no_number: bool,
}

impl<'a> Part<'a> {
    fn new(text: &'a str, at: usize) -> Self {
        Self {
            text,
            lowercase: text.to_lowercase(),
            at,
            is_no_number: false,
        }
    }
}

impl Token for &Part<'_> {
    fn text(&self) -> Cow<'_, str> {
        self.text.into()
    }

    fn text_lowercase(&self) -> Cow<'_, str> {
        self.lowercase.as_str().into()
    }

    fn not_a_number_part(&self) -> bool {
        self.is_no_number
    }
}

impl BasicAnnotate for Part<'_> {
    fn text_lowercase(&self) -> &str {
        &self.lowercase
    }

    fn set_nan(&mut self, is_no_number: bool) {
        self.is_no_number = is_no_number;
    }
}

/// The parts of `words`, in order.
fn tokens<'a>(words: &'a [Word], joined: &Joined) -> Vec<Part<'a>> {
    let mut parts = Vec::with_capacity(words.len());
    for (word, at) in words.iter().zip(joined.starts()) {
        let (text, punctuation) = split(&word.text);
        parts.push(Part::new(text, at));
        if !punctuation.is_empty() {
            parts.push(Part::new(punctuation, at + text.len()));
        }
    }
    parts
}

/// Divides a word from the punctuation after it.
fn split(text: &str) -> (&str, &str) {
    let end = text.trim_end_matches(|c: char| !c.is_alphanumeric()).len();
    text.split_at(end)
}
