// SPDX-License-Identifier: MIT OR Apache-2.0

//! A list of regular expressions with what replaces their matches, as users write it.

use std::{path::Path, sync::Arc};

use regex_automata::util::{captures::Captures, interpolate};

use super::rules::{self, Matcher, Replace, Rules};
use crate::{
    error::{Error, Result},
    text_file,
};

/// Most replacements: as many as phrases can be boosted.
const MAX_RULES: usize = 10_000;

/// Replacements by regular expressions.
///
/// ```
/// let replacements = nemostt::text::Replacements::parse(
///     r"
///     ## In the order in which they are tried.
///     \bgee streamer\b => GStreamer
///     \b(\d+) percent\b => $1 %
///     ",
/// )?;
/// assert_eq!(replacements.len(), 2);
/// # Ok::<(), nemostt::Error>(())
/// ```
#[derive(Debug)]
pub struct Replacements {
    /// What was parsed, to compare.
    source: String,
    rules: Rules,
    len: usize,
}

impl PartialEq for Replacements {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Replacements {
    /// Parses lines of an expression, ` => ` or a tab, and what replaces its matches, in which `$1` or `${name}` is what a group
    /// matched. Empty lines, and those that begin with `#`, are ignored. The syntax is that of the crate `regex`.
    ///
    /// # Errors
    /// [`Error::TextRules`] if a line is not a replacement, or there are more than 10,000 of them.
    pub fn parse(list: &str) -> Result<Self> {
        Self::parse_from(list, "replacements")
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
        let (mut expressions, mut templates, mut lines) = (Vec::new(), Vec::new(), Vec::new());
        let wrong = |line: usize, reason: String| Error::TextRules {
            place: format!("{name}, line {line}"),
            reason,
        };
        for (number, line) in text_file::lines(list) {
            if expressions.len() == MAX_RULES {
                return Err(wrong(number, format!("expected at most {MAX_RULES} replacements")));
            }
            let (expression, template) = split(line).ok_or_else(|| {
                let line = text_file::shorten(line);
                wrong(
                    number,
                    format!("\"{line}\" is not a replacement; expected PATTERN => REPLACEMENT"),
                )
            })?;
            let hir = rules::check(expression)
                .map_err(|reason| wrong(number, format!("\"{}\": {reason}", text_file::shorten(expression))))?;
            if template.contains(char::is_control) {
                let template = text_file::shorten(template);
                return Err(wrong(
                    number,
                    format!("{template:?} has control characters; expected text"),
                ));
            }
            expressions.push(hir);
            templates.push(template.to_owned());
            lines.push(number);
        }
        let templates = Templates(templates);
        let matcher = Matcher::new(&expressions).map_err(|reason| Error::TextRules {
            place: name.into(),
            reason,
        })?;
        for (index, (template, line)) in templates.0.iter().zip(lines).enumerate() {
            if let Some(group) = unknown_group(template, &matcher, index) {
                let template = text_file::shorten(template);
                let reason = format!(
                    "\"{template}\" has {group}, but the expression has no such group; write $$ for a dollar sign"
                );
                return Err(wrong(line, reason));
            }
        }
        Ok(Self {
            source: list.into(),
            rules: Rules {
                matcher: Arc::new(matcher),
                replace: Arc::new(templates),
            },
            len: expressions.len(),
        })
    }

    /// Number of replacements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }
}

/// Expression and replacement of a line.
fn split(line: &str) -> Option<(&str, &str)> {
    let (expression, replacement) = match line.split_once('\t') {
        Some(parts) => parts,
        // What removes its matches ends with the arrow.
        None => line
            .split_once(" => ")
            .or_else(|| Some((line.strip_suffix(" =>")?, "")))?,
    };
    let expression = expression.trim();
    (!expression.is_empty()).then_some((expression, replacement.trim()))
}

/// The first reference of `template` to a group that expression `index` does not have.
fn unknown_group(template: &str, matcher: &Matcher, index: usize) -> Option<String> {
    if !template.contains('$') {
        return None;
    }
    let (groups, pattern) = matcher.group_info(index)?;
    let mut unknown = None;
    let mut note = |group: String| unknown = unknown.take().or(Some(group));
    let mut wanted = Vec::new();
    let mut names = Vec::new();
    interpolate::string(
        template,
        |group, _| wanted.push(group),
        |name| {
            let found = groups.to_index(pattern, name);
            if found.is_none() {
                names.push(name.to_owned());
            }
            found
        },
        &mut String::new(),
    );
    for group in wanted {
        if group >= groups.group_len(pattern) {
            note(format!("${group}"));
        }
    }
    for name in names {
        note(format!("${{{name}}}"));
    }
    unknown
}

/// What replaces the matches of each expression.
#[derive(Debug)]
struct Templates(Vec<String>);

impl Replace for Templates {
    fn replace(&self, index: usize, text: &str, captures: &Captures, out: &mut String) {
        let (Some(template), Some(pattern)) = (self.0.get(index), captures.pattern()) else {
            return;
        };
        interpolate::string(
            template,
            |group, out| {
                if let Some(span) = captures.get_group(group) {
                    out.push_str(&text[span]);
                }
            },
            |name| captures.group_info().to_index(pattern, name),
            out,
        );
    }
}
