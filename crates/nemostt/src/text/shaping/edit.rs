// SPDX-License-Identifier: MIT OR Apache-2.0

//! Replaces parts of the text of several words, and gives the new words their times.

use std::ops::Range;

use crate::text::Word;

/// The text of several words, with spaces between them.
pub(super) struct Joined {
    pub(super) text: String,
    /// Where each word is in it.
    words: Vec<Range<usize>>,
}

/// A part of a text, in bytes, and what takes its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Edit {
    pub(super) range: Range<usize>,
    pub(super) text: String,
}

impl Joined {
    pub(super) fn new(words: &[Word]) -> Self {
        let mut joined = Self {
            text: String::new(),
            words: Vec::with_capacity(words.len()),
        };
        for word in words {
            if !joined.text.is_empty() {
                joined.text.push(' ');
            }
            let start = joined.text.len();
            joined.text.push_str(&word.text);
            joined.words.push(start..joined.text.len());
        }
        joined
    }

    /// Where each word begins.
    pub(super) fn starts(&self) -> impl Iterator<Item = usize> {
        self.words.iter().map(|word| word.start)
    }

    /// Index of the word that contains byte `at`, or precedes it.
    pub(super) fn word_at(&self, at: usize) -> usize {
        self.words.partition_point(|word| word.start <= at).saturating_sub(1)
    }

    /// Words that `edit` changes. One that takes the space between two words joins them.
    pub(super) fn words_of(&self, edit: &Edit) -> Range<usize> {
        let last = self.word_at(edit.range.end.saturating_sub(1).max(edit.range.start));
        let takes_space = edit.range.end > self.words[last].end;
        let end = last + 1 + usize::from(takes_space);
        self.word_at(edit.range.start)..end.min(self.words.len())
    }

    /// Applies `edits`, in ascending order, to `words`, whose text this is.
    pub(super) fn apply(&self, edits: &[Edit], words: Vec<Word>, out: &mut Vec<Word>) {
        let mut words = words.into_iter();
        let mut next = 0;
        let mut edits = edits.iter().peekable();
        while let Some(first) = edits.next() {
            let mut changed = self.words_of(first);
            let mut group = vec![first];
            // Those that change the same word belong together.
            while let Some(edit) = edits.next_if(|edit| self.words_of(edit).start < changed.end) {
                changed.end = changed.end.max(self.words_of(edit).end);
                group.push(edit);
            }
            out.extend(words.by_ref().take(changed.start - next));
            let old: Vec<Word> = words.by_ref().take(changed.len()).collect();
            out.extend(with_text(&old, &self.edited(&changed, &group)));
            next = changed.end;
        }
        out.extend(words);
    }

    /// The text of the words `changed`, edited.
    fn edited(&self, changed: &Range<usize>, edits: &[&Edit]) -> String {
        let mut text = String::new();
        let mut at = self.words[changed.start].start;
        for edit in edits {
            text.push_str(&self.text[at..edit.range.start]);
            text.push_str(&edit.text);
            at = edit.range.end;
        }
        let end = self.words[changed.end - 1].end;
        text.push_str(&self.text[at..end.max(at)]);
        text
    }
}

/// The words of `text`, which take the place of `old`: each has the times of the old one if there are as many, else a share of all
/// their time by its characters. Their confidence is the mean.
fn with_text(old: &[Word], text: &str) -> Vec<Word> {
    let texts: Vec<&str> = text.split_whitespace().collect();
    let (Some(first), Some(last)) = (old.first(), old.last()) else {
        return Vec::new();
    };
    if texts.len() == old.len() {
        let same = old.iter().zip(texts);
        return same
            .map(|(word, text)| Word {
                text: text.into(),
                spoken: word.decoded().to_vec(),
                ..word.clone()
            })
            .collect();
    }
    let spoken: Vec<Word> = old.iter().flat_map(Word::decoded).cloned().collect();
    let confidence = old.iter().map(|word| word.confidence).sum::<f32>() / old.len() as f32;
    let word = |text: &str, start, end| Word {
        text: text.into(),
        start,
        end,
        confidence,
        spoken: spoken.clone(),
    };
    let (start, length) = (first.start, last.end.max(first.end) - first.start);
    if texts.len() as u64 > length {
        // No sample for each.
        return vec![word(&texts.join(" "), start, start + length)];
    }
    let chars: u64 = texts.iter().map(|text| text.chars().count() as u64).sum();
    let spare = length - texts.len() as u64;
    let mut words = Vec::with_capacity(texts.len());
    let (mut at, mut before) = (start, 0);
    for (index, text) in (1..).zip(texts) {
        before += text.chars().count() as u64;
        // Each has a sample of its own, and its share of the others.
        let end = start + index + (u128::from(spare) * u128::from(before) / u128::from(chars)) as u64;
        words.push(word(text, at, end));
        at = end;
    }
    words
}
