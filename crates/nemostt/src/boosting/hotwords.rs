// SPDX-License-Identifier: MIT OR Apache-2.0

//! Lists of phrases with weights, as users write them.

use std::path::Path;

use crate::{
    error::{Error, Result},
    text_file::{self, MAX_BYTES},
};

/// Most phrases: as many as are benchmarked, and more than the names of a company or of a broadcast.
const MAX_PHRASES: usize = 10_000;
/// Maximum length of a phrase in characters: that of a sentence.
const MAX_CHARS: usize = 200;
/// Largest weight. With 10, a phrase already wins over almost any other.
const MAX_WEIGHT: f32 = 100.0;

/// A phrase that is recognized more often than without it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Hotword {
    /// One or more words.
    pub phrase: String,
    /// What is added to the logit of its first token; for those after it, twice as much and the logarithm of their number in
    /// the phrase.
    pub weight: f32,
}

/// Phrases to boost; see [`Recognizer::boosting_tree`](crate::Recognizer::boosting_tree).
///
/// ```
/// let mut hotwords = nemostt::Hotwords::parse("Kubernetes, Ada Lovelace:3.5", 1.0)?;
/// hotwords.push("Ørsted", 2.0)?;
/// let weights: Vec<f32> = hotwords.iter().map(|hotword| hotword.weight).collect();
/// assert_eq!(weights, [1.0, 3.5, 2.0]);
/// # Ok::<(), nemostt::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hotwords {
    list: Vec<Hotword>,
}

impl Hotwords {
    /// NeMo's default (`context_score`).
    pub const DEFAULT_WEIGHT: f32 = 1.0;

    /// Parses phrases that are separated by commas or newlines, each with a weight after a colon if it is not
    /// `default_weight`: `Kubernetes, Ada Lovelace:3.5`.
    ///
    /// # Errors
    /// [`Error::Hotwords`] if a phrase has more than 200 characters, a weight is not above 0 and at most 100, or there are more
    /// than 10,000 phrases or 2 MiB.
    pub fn parse(list: &str, default_weight: f32) -> Result<Self> {
        if list.len() > MAX_BYTES {
            return Err(Error::Hotwords {
                reason: format!(
                    "the list has {} bytes, expected at most {MAX_BYTES}; give fewer phrases",
                    list.len()
                ),
            });
        }
        let mut hotwords = Self::default();
        for entry in list.split([',', '\n']).map(str::trim).filter(|entry| !entry.is_empty()) {
            let (phrase, weight) = split_weight(entry, ':');
            hotwords.add(phrase, weight.unwrap_or(default_weight), "")?;
        }
        Ok(hotwords)
    }

    /// Reads a file with a phrase on each line, followed by a tab or a colon and its weight if that is not `default_weight`.
    /// Empty lines, and those that begin with `#`, are ignored.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::NotUtf8`]; [`Error::Hotwords`] as [`parse`](Self::parse).
    pub fn read(path: impl AsRef<Path>, default_weight: f32) -> Result<Self> {
        let path = path.as_ref();
        let text = text_file::read(path)?;
        let mut hotwords = Self::default();
        for (number, line) in text_file::lines(&text) {
            let (phrase, weight) = match split_weight(line, '\t') {
                (_, None) => split_weight(line, ':'),
                found => found,
            };
            let place = format!("{}, line {number}: ", path.display());
            hotwords.add(phrase, weight.unwrap_or(default_weight), &place)?;
        }
        Ok(hotwords)
    }

    /// Adds a phrase.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn push(&mut self, phrase: &str, weight: f32) -> Result<()> {
        self.add(phrase, weight, "")
    }

    /// [Parses](Self::parse) `list`, then [reads](Self::read) `file`, where there are any.
    ///
    /// # Errors
    /// As those two, and [`append`](Self::append).
    pub fn load(list: Option<&str>, file: Option<&Path>, default_weight: f32) -> Result<Self> {
        let mut hotwords = Self::parse(list.unwrap_or_default(), default_weight)?;
        if let Some(file) = file {
            hotwords.append(Self::read(file, default_weight)?)?;
        }
        Ok(hotwords)
    }

    /// Adds the phrases of `other`.
    ///
    /// # Errors
    /// [`Error::Hotwords`] if there are more than 10,000 then; nothing is added.
    pub fn append(&mut self, mut other: Self) -> Result<()> {
        let count = self.len() + other.len();
        if count > MAX_PHRASES {
            return Err(Error::Hotwords {
                reason: format!(
                    "the lists have {count} phrases, expected at most {MAX_PHRASES}; give those that are hard to recognize only"
                ),
            });
        }
        self.list.append(&mut other.list);
        Ok(())
    }

    /// Adds a phrase; `place` says where it is from.
    fn add(&mut self, phrase: &str, weight: f32, place: &str) -> Result<()> {
        let wrong = |reason: String| Error::Hotwords {
            reason: format!("{place}\"{}\" {reason}", text_file::shorten(phrase)),
        };
        if self.list.len() >= MAX_PHRASES {
            return Err(wrong(format!(
                "is phrase number {}, expected at most {MAX_PHRASES}; give those that are hard to recognize only",
                self.list.len() + 1
            )));
        }
        let phrase = phrase.split_whitespace().collect::<Vec<_>>().join(" ");
        if phrase.is_empty() {
            return Err(wrong("is no phrase: expected a word before the weight".into()));
        }
        let chars = phrase.chars().count();
        if chars > MAX_CHARS {
            return Err(wrong(format!(
                "has {chars} characters, expected at most {MAX_CHARS}; give the words that are hard to recognize only"
            )));
        }
        if !(weight > 0.0 && weight <= MAX_WEIGHT) {
            return Err(wrong(format!(
                "has weight {weight}, expected one above 0 and at most {MAX_WEIGHT}"
            )));
        }
        self.list.push(Hotword { phrase, weight });
        Ok(())
    }

    /// The phrases, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = &Hotword> {
        self.list.iter()
    }

    /// Number of phrases.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are no phrases.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

/// The phrase, and the weight after the last `separator`, if there is a number.
fn split_weight(entry: &str, separator: char) -> (&str, Option<f32>) {
    let Some((phrase, weight)) = entry.rsplit_once(separator) else {
        return (entry, None);
    };
    let weight = weight.trim();
    // `parse` would also take "infinity" for a number.
    let is_number = weight.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    match weight.parse() {
        Ok(weight) if is_number => (phrase.trim(), Some(weight)),
        _ => (entry, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(hotwords: &Hotwords) -> Vec<(&str, f32)> {
        hotwords.iter().map(|h| (h.phrase.as_str(), h.weight)).collect()
    }

    #[test]
    fn list_of_phrases_with_and_without_weights() {
        let hotwords = Hotwords::parse("Kubernetes, Ada Lovelace:3.5,,\n at 10:30 : .5 \nRe: it", 2.0).unwrap();
        assert_eq!(
            entries(&hotwords),
            [
                ("Kubernetes", 2.0),
                ("Ada Lovelace", 3.5),
                ("at 10:30", 0.5),
                ("Re: it", 2.0)
            ]
        );
        assert!(Hotwords::parse(" ,\n", 1.0).unwrap().is_empty());
    }

    #[test]
    fn file_has_comments_tabs_and_colons() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("list.txt");
        std::fs::write(
            &path,
            "\u{feff}# names\r\nAda, Countess\t4\r\n\r\nGrace  Hopper: 2\n10:30\t1\nplain\n",
        )
        .unwrap();
        assert_eq!(
            entries(&Hotwords::read(&path, 1.5).unwrap()),
            [
                ("Ada, Countess", 4.0),
                ("Grace Hopper", 2.0),
                ("10:30", 1.0),
                ("plain", 1.5)
            ]
        );
    }

    #[test]
    fn errors_name_file_line_phrase_and_range() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("list.txt");
        for (text, expected) in [
            (
                &b"good\nbad:-1"[..],
                "list.txt, line 2: \"bad\" has weight -1, expected one above 0 and at most 100",
            ),
            (b"\xff", "list.txt, line 1, is not UTF-8"),
            (b"a\n\tx:0", "line 2: \"x\" has weight 0"),
            (b"a\n:7", "line 2: \"\" is no phrase"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Hotwords::read(&path, 1.0).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let missing = Hotwords::read(directory.path().join("none"), 1.0).unwrap_err();
        assert!(matches!(missing, Error::Read { .. }));
        for weight in [f32::NAN, f32::INFINITY, 0.0, 101.0] {
            assert!(Hotwords::default().push("a", weight).is_err(), "{weight}");
        }
        let long = Hotwords::parse(&"a".repeat(201), 1.0).unwrap_err().to_string();
        assert!(long.contains("aaa…\" has 201 characters") && long.len() < 300, "{long}");
    }

    #[test]
    fn lists_are_limited() {
        let list: String = (0..MAX_PHRASES).map(|number| format!("p{number},")).collect();
        let most = |extra: &str| Hotwords::parse(&(list.clone() + extra), 1.0);
        let mut hotwords = most("").unwrap();
        let one_more = [
            most("one").unwrap_err(),
            hotwords.push("one", 1.0).unwrap_err(),
            hotwords.append(Hotwords::parse("one", 1.0).unwrap()).unwrap_err(),
        ];
        for error in one_more.map(|error| error.to_string()) {
            assert!(error.contains("10001") && error.contains("at most 10000;"), "{error}");
        }
        assert_eq!(hotwords.len(), MAX_PHRASES);

        let long = ",".repeat(MAX_BYTES);
        assert!(Hotwords::parse(&long, 1.0).unwrap().is_empty());
        let error = Hotwords::parse(&(long + ","), 1.0).unwrap_err().to_string();
        assert!(error.contains("2097153 bytes, expected at most 2097152"), "{error}");
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(MAX_BYTES as u64 + 1).unwrap();
        let error = Hotwords::read(file.path(), 1.0).unwrap_err().to_string();
        assert!(error.contains("2097152"), "{error}");
    }

    #[test]
    fn list_and_file_are_added() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "two\nthree:3").unwrap();
        let load = |list, file| Hotwords::load(list, file, 2.0).unwrap();
        let both = load(Some("one"), Some(file.path()));
        assert_eq!(entries(&both), [("one", 2.0), ("two", 2.0), ("three", 3.0)]);
        assert_eq!(load(None, Some(file.path())).len(), 2);
        assert!(load(None, None).is_empty());
        assert!(Hotwords::load(Some("a:0"), None, 1.0).is_err());
    }
}
