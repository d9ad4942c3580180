// SPDX-License-Identifier: MIT OR Apache-2.0

//! Masks the words of a list.

use std::{path::Path, sync::Arc};

use regex_automata::util::captures::Captures;
use regex_syntax::hir::Hir;

use super::{
    is_language,
    rules::{self, Matcher, Replace, Rules},
};
use crate::{
    error::{Error, Result},
    named::Named,
    text_file,
};

/// Most words and phrases: more than the largest public lists have in all languages.
const MAX_ENTRIES: usize = 10_000;
/// Most languages with words of their own: more than any model has.
const MAX_LANGUAGES: usize = 200;

/// What happens to words of a [`ProfanityList`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProfanityAction {
    /// All their letters become asterisks.
    #[default]
    Mask,
    /// All letters but the first become asterisks.
    MaskTail,
    /// They are left out.
    Remove,
}

impl Named for ProfanityAction {
    const NAMES: &'static [(Self, &'static str)] = &[
        (Self::Mask, "mask"),
        (Self::MaskTail, "mask-tail"),
        (Self::Remove, "remove"),
    ];
}

/// Which words are masked, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct ProfanityFilter {
    /// The words.
    pub list: Arc<ProfanityList>,
    /// What happens to them.
    pub action: ProfanityAction,
}

/// Words and phrases that are not to be shown, for all languages and for single ones.
///
/// ```
/// let list = nemostt::text::ProfanityList::parse("drat\n[en]\nblast it\n[de]\nMist\n")?;
/// assert_eq!(list.len(), 3);
/// # Ok::<(), nemostt::Error>(())
/// ```
#[derive(Debug)]
pub struct ProfanityList {
    /// What was parsed, to compare.
    source: String,
    len: usize,
    /// For all languages (`None`), and for each one that has a section.
    by_language: Vec<(Option<String>, Arc<Matcher>)>,
}

impl PartialEq for ProfanityList {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl ProfanityList {
    /// Parses a word or phrase on each line. After a line such as `[en]` or `[pt-BR]`, they are of this language only. Capitals
    /// and small letters are the same. Empty lines, and those that begin with `#`, are ignored.
    ///
    /// # Errors
    /// [`Error::TextRules`] if a line has no word, or there are more than 10,000.
    pub fn parse(list: &str) -> Result<Self> {
        Self::parse_from(list, "profanity list")
    }

    /// [Parses](Self::parse) a file.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::NotUtf8`]; as [`parse`](Self::parse).
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::parse_from(&text_file::read(path)?, &path.display().to_string())
    }

    fn parse_from(list: &str, name: &str) -> Result<Self> {
        let mut entries: Vec<(Option<&str>, Hir)> = Vec::new();
        let mut section = None;
        let place = |line: usize| format!("{name}, line {line}");
        for (number, line) in text_file::lines(list) {
            if let Some(tag) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                section = Some(tag.trim());
                continue;
            }
            if entries.len() == MAX_ENTRIES {
                return Err(Error::TextRules {
                    place: place(number),
                    reason: format!("expected at most {MAX_ENTRIES} words and phrases"),
                });
            }
            let hir = expression(line).and_then(|expression| rules::check(&expression));
            let hir = hir.map_err(|reason| Error::TextRules {
                place: place(number),
                reason: format!("\"{}\": {reason}", text_file::shorten(line)),
            })?;
            entries.push((section, hir));
        }
        let mut tags: Vec<Option<&str>> = entries.iter().map(|(tag, _)| *tag).collect();
        tags.sort_unstable();
        tags.dedup();
        if tags.len() > MAX_LANGUAGES {
            return Err(Error::TextRules {
                place: name.into(),
                reason: format!(
                    "there are words of {} languages, expected at most {MAX_LANGUAGES}",
                    tags.len()
                ),
            });
        }
        let compile = |tag: Option<&str>| {
            let expressions = entries.iter().filter(|(section, _)| *section == tag);
            let expressions: Vec<Hir> = expressions.map(|(_, hir)| hir.clone()).collect();
            let matcher = Matcher::new(&expressions).map_err(|reason| Error::TextRules {
                place: name.into(),
                reason,
            })?;
            Ok((tag.map(str::to_owned), Arc::new(matcher)))
        };
        Ok(Self {
            source: list.into(),
            len: entries.len(),
            by_language: tags.into_iter().map(compile).collect::<Result<_>>()?,
        })
    }

    /// Number of words and phrases.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl ProfanityFilter {
    /// The rules for `language`: those for all, and those of each tag that names it.
    pub(super) fn rules(&self, language: &str) -> impl Iterator<Item = Rules> {
        let replace: Arc<dyn Replace> = Arc::new(self.action);
        let named = self.list.by_language.iter().filter(move |(tag, _)| match tag {
            None => true,
            Some(tag) => is_language(language, tag),
        });
        named.map(move |(_, matcher)| Rules {
            matcher: matcher.clone(),
            replace: replace.clone(),
        })
    }
}

/// An expression for a whole word or phrase, whatever its capitals.
fn expression(phrase: &str) -> std::result::Result<String, String> {
    let words: Vec<String> = phrase.split_whitespace().map(regex_syntax::escape).collect();
    match phrase.contains(char::is_alphanumeric) {
        true => Ok(format!(r"(?i:\b{{start-half}}{}\b{{end-half}})", words.join(" "))),
        false => Err("it has no word; expected a word or phrase, or a language such as [en]".into()),
    }
}

impl Replace for ProfanityAction {
    fn replace(&self, _: usize, text: &str, captures: &Captures, out: &mut String) {
        let Some(span) = captures.get_match() else { return };
        let mut is_first = true;
        for letter in text[span.range()].chars() {
            match (self, letter.is_alphanumeric()) {
                (Self::Remove, _) => return,
                (Self::MaskTail, true) if is_first => out.push(letter),
                (Self::Mask | Self::MaskTail, true) => out.push('*'),
                (_, false) => out.push(letter),
            }
            is_first = letter.is_whitespace();
        }
    }
}
