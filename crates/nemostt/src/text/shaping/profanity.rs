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
    text_file,
};

/// Most words and phrases: more than the largest public lists have in all languages.
const MAX_ENTRIES: usize = 10_000;

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
    /// For all languages, then for each one that has a section, with those for all.
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
        let mut tags: Vec<&str> = entries.iter().filter_map(|(tag, _)| *tag).collect();
        tags.sort_unstable();
        tags.dedup();
        let compile = |tag: Option<&str>| {
            let is_included = |section: Option<&str>| match (section, tag) {
                (None, _) => true,
                (Some(section), Some(tag)) => is_language(tag, section),
                (Some(_), None) => false,
            };
            let included = entries.iter().filter(|(section, _)| is_included(*section));
            let expressions: Vec<Hir> = included.map(|(_, hir)| hir.clone()).collect();
            Matcher::new(&expressions)
                .map(Arc::new)
                .map_err(|reason| Error::TextRules {
                    place: name.into(),
                    reason,
                })
        };
        let mut by_language = vec![(None, compile(None)?)];
        for tag in tags {
            by_language.push((Some(tag.to_owned()), compile(Some(tag))?));
        }
        Ok(Self {
            source: list.into(),
            len: entries.len(),
            by_language,
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
    /// The rules for `language`: those of the longest tag that names it.
    pub(super) fn rules(&self, language: &str) -> Option<Rules> {
        let named = self.list.by_language.iter().filter(|(tag, _)| match tag {
            None => true,
            Some(tag) => is_language(language, tag),
        });
        let (_, matcher) = named.max_by_key(|(tag, _)| tag.as_ref().map_or(0, String::len))?;
        Some(Rules {
            matcher: matcher.clone(),
            replace: Arc::new(self.action),
        })
    }
}

/// An expression for a whole word or phrase, whatever its capitals.
fn expression(phrase: &str) -> std::result::Result<String, String> {
    let words: Vec<String> = phrase.split_whitespace().map(regex_syntax::escape).collect();
    match phrase.contains(char::is_alphanumeric) {
        true => Ok(format!(r"(?i:\b{{start-half}}{}\b{{end-half}})", words.join(" "))),
        false => Err("there is no word in it; expected a word or phrase, or a language such as [en]".into()),
    }
}

impl Replace for ProfanityAction {
    fn replace(&self, text: &str, captures: &Captures, out: &mut String) {
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
