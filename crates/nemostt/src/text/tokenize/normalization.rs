// SPDX-License-Identifier: MIT OR Apache-2.0

//! What happens to text before it is divided into tokens: SentencePiece's `Normalizer::Normalize`.

use super::charsmap::Charsmap;
use crate::text::tokenizer::WORD_BOUNDARY;

/// Most characters of a text after normalization: half as many again as the longest phrase has. A rule of NFKC replaces a
/// character by up to 18, but few by more than one.
pub(crate) const MAX_CHARS: usize = 300;

/// Rules of a `NormalizerSpec`, and the side of a word on which its boundary is marked.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::text) struct Normalization {
    pub(in crate::text) charsmap: Option<Charsmap>,
    /// Whether the first word begins with a boundary, too.
    pub(in crate::text) add_dummy_prefix: bool,
    /// Whether spaces at both ends are removed, and several between words are one.
    pub(in crate::text) remove_extra_spaces: bool,
    /// Whether a space becomes the boundary marker.
    pub(in crate::text) escape_spaces: bool,
    /// Whether boundaries are at the ends of words instead of their starts.
    pub(in crate::text) space_is_suffix: bool,
}

impl Default for Normalization {
    /// SentencePiece's defaults, but no replacements.
    fn default() -> Self {
        Self {
            charsmap: None,
            add_dummy_prefix: true,
            remove_extra_spaces: true,
            escape_spaces: true,
            space_is_suffix: false,
        }
    }
}

impl Normalization {
    /// The text that is divided into tokens. `user_defined` returns the bytes of the user-defined token at the start of a
    /// text, which is not normalized; 0 if there is none. `None` if the result is longer than [`MAX_CHARS`].
    pub(super) fn apply(&self, text: &str, user_defined: impl Fn(&str) -> usize) -> Option<String> {
        let space = if self.escape_spaces { WORD_BOUNDARY } else { ' ' };
        let mut normalized = String::with_capacity(text.len() + space.len_utf8());
        let mut rest = text;
        if self.remove_extra_spaces {
            while !rest.is_empty() {
                let (length, replacement) = self.replace(rest, &user_defined);
                if replacement != " " {
                    break;
                }
                rest = &rest[length..];
            }
        }
        if rest.is_empty() {
            return Some(normalized);
        }
        if self.add_dummy_prefix && !self.space_is_suffix {
            normalized.push(space);
        }
        let mut chars = 0;
        let mut after_space = self.remove_extra_spaces;
        while !rest.is_empty() {
            let (length, mut replacement) = self.replace(rest, &user_defined);
            rest = &rest[length..];
            while after_space && let Some(shorter) = replacement.strip_prefix(' ') {
                replacement = shorter;
            }
            if replacement.is_empty() {
                continue;
            }
            chars += replacement.chars().count();
            if chars > MAX_CHARS {
                return None;
            }
            normalized.extend(replacement.chars().map(|c| if c == ' ' { space } else { c }));
            after_space = self.remove_extra_spaces && replacement.ends_with(' ');
        }
        if self.remove_extra_spaces {
            normalized.truncate(normalized.trim_end_matches(space).len());
        }
        if self.add_dummy_prefix && self.space_is_suffix {
            normalized.push(space);
        }
        Some(normalized)
    }

    /// What the start of `text`, which is not empty, is replaced by, and its bytes.
    fn replace<'a>(&'a self, text: &'a str, user_defined: impl Fn(&str) -> usize) -> (usize, &'a str) {
        let kept = user_defined(text);
        if kept > 0 {
            return (kept, &text[..kept]);
        }
        let rule = self.charsmap.as_ref().and_then(|map| map.longest_match(text));
        rule.unwrap_or_else(|| {
            let length = text.chars().next().map_or(0, char::len_utf8);
            (length, &text[..length])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_are_collapsed_and_escaped() {
        let none = |_: &str| 0;
        let normal = Normalization::default();
        assert_eq!(normal.apply("  a  b ", none).as_deref(), Some("▁a▁b"));
        assert_eq!(normal.apply("   ", none).as_deref(), Some(""));
        let suffix = Normalization {
            space_is_suffix: true,
            ..Default::default()
        };
        assert_eq!(suffix.apply(" a b", none).as_deref(), Some("a▁b▁"));
        let raw = Normalization {
            remove_extra_spaces: false,
            add_dummy_prefix: false,
            ..Default::default()
        };
        assert_eq!(raw.apply(" a  b ", none).as_deref(), Some("▁a▁▁b▁"));
    }

    #[test]
    fn text_that_becomes_too_long_is_refused() {
        let normal = Normalization::default();
        let text = |chars: usize| "ß".repeat(chars);
        assert!(normal.apply(&text(MAX_CHARS), |_| 0).is_some());
        assert_eq!(normal.apply(&text(MAX_CHARS + 1), |_| 0), None);
    }
}
