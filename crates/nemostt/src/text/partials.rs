// SPDX-License-Identifier: MIT OR Apache-2.0

//! The utterance in progress as it is shown: how long its words have stayed, and when it is worth showing again.

use super::Utterance;

/// The utterance in progress, which may still change and grow.
#[derive(Debug, Clone, PartialEq)]
pub struct Partial {
    /// The words so far; [`Utterance::ending`] is `None`. There are none if all that the partial before showed are gone.
    pub utterance: Utterance,
    /// For each word, for how many chunks it has been at its place: 0 for one that is new or was changed.
    pub stability: Vec<u32>,
    /// Whether a word of the partial before has changed, other than that the last one has grown, or is gone.
    pub is_revision: bool,
}

/// What the partials of the utterance in progress showed.
#[derive(Debug, Clone, Default)]
pub(super) struct PartialTracker {
    /// Number of the utterance.
    id: u64,
    /// Chunks decoded.
    chunk: u64,
    /// Its words, shown or not, with the chunk since which they have been there.
    words: Vec<(String, u64)>,
    /// Words that the last partial showed.
    shown: usize,
    /// Whether what it showed has changed since, as far as it has not been shown.
    is_revised: bool,
}

impl PartialTracker {
    /// A chunk was decoded.
    pub(super) fn next_chunk(&mut self) {
        self.chunk += 1;
    }

    /// Whether there may be something to show without new tokens: words that were too new, or that what was shown is gone.
    pub(super) fn may_change(&self) -> bool {
        self.shown > 0 || !self.words.is_empty()
    }

    /// The partial of `utterance`, if it has words to show that were not shown. The first `complete` words are final; the others are
    /// shown after `min_stability` chunks. `repeat`: also if nothing has changed.
    pub(super) fn update(
        &mut self,
        mut utterance: Utterance,
        complete: usize,
        min_stability: u32,
        repeat: bool,
    ) -> Option<Partial> {
        if self.id != utterance.id {
            (self.id, self.shown, self.is_revised) = (utterance.id, 0, false);
            self.words.clear();
        }
        let same = self.words.iter().zip(&utterance.words);
        let same = same.take_while(|((text, _), word)| *text == word.text).count();
        // Growth of the last word does not count as a revision.
        let old = self.words.get(same).map(|(text, _)| text);
        let has_grown = same + 1 == self.shown
            && old
                .zip(utterance.words.get(same))
                .is_some_and(|(old, new)| new.text.starts_with(old));
        self.is_revised |= same < self.shown && !has_grown;
        let is_new_text = same < self.shown;
        self.words.truncate(same);
        self.words.extend(
            utterance.words[same..]
                .iter()
                .map(|word| (word.text.clone(), self.chunk)),
        );
        let stability = |since: &u64| u32::try_from(self.chunk - since).unwrap_or(u32::MAX);
        let stability: Vec<u32> = self.words.iter().map(|(_, since)| stability(since)).collect();
        let visible = complete
            + stability[complete..]
                .iter()
                .take_while(|&&age| age >= min_stability)
                .count();
        let is_new = visible != self.shown || is_new_text || self.is_revised;
        if visible == 0 && self.shown == 0 || !(is_new || repeat) {
            return None;
        }
        self.shown = visible;
        utterance.words.truncate(visible);
        Some(Partial {
            utterance,
            stability: stability[..visible].to_vec(),
            is_revision: std::mem::take(&mut self.is_revised),
        })
    }

    /// Resets to the start of a stream.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Word;

    /// The partials after each of `steps`: words that are complete, `|`, words that may change. A star marks revisions.
    fn partials(min_stability: u32, steps: &[&str]) -> Vec<String> {
        let mut tracker = PartialTracker::default();
        let mut out = Vec::new();
        for step in steps {
            tracker.next_chunk();
            let (complete, open) = step.split_once('|').unwrap();
            let texts = complete.split_whitespace().chain(open.split_whitespace());
            let word = |text: &str| Word {
                text: text.into(),
                start: 0,
                end: 1,
                confidence: 1.0,
                spoken: Vec::new(),
            };
            let utterance = Utterance {
                id: 0,
                words: texts.map(word).collect(),
                ending: None,
                language: None,
                alternatives: Vec::new(),
            };
            let complete = complete.split_whitespace().count();
            if let Some(partial) = tracker.update(utterance, complete, min_stability, false) {
                let words = partial.utterance.words.iter().zip(partial.stability);
                let words: Vec<String> = words.map(|(word, age)| format!("{}{age}", word.text)).collect();
                out.push(words.join(" ") + if partial.is_revision { "*" } else { "" });
            }
        }
        out
    }

    #[test]
    fn words_are_shown_once_they_have_stayed() {
        let steps = ["|a", "|a b", "|a b", "|a c", "a|c", "a|c d", "a c d|"];
        assert_eq!(
            partials(0, &steps),
            ["a0", "a1 b0", "a3 c0*", "a5 c2 d0"],
            "without a minimum"
        );
        assert_eq!(partials(1, &steps), ["a1", "a2 b1", "a3*", "a4 c1", "a6 c3 d1"]);
        assert_eq!(partials(2, &steps), ["a2", "a5 c2", "a6 c3 d1"]);
    }

    #[test]
    fn growth_of_the_last_word_is_no_revision() {
        assert_eq!(
            partials(0, &["|a six", "|a sixty", "|a fifty", "|b"]),
            ["a0 six0", "a1 sixty0", "a2 fifty0*", "b0*"]
        );
    }

    #[test]
    fn words_that_were_taken_back_are_revisions() {
        assert_eq!(
            partials(0, &["|a b", "|a", "|", "|", "|c"]),
            ["a0 b0", "a1*", "*", "c0"]
        );
    }
}
