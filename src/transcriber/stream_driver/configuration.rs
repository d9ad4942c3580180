// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the settings ask of the stream: set before each step, so that a change in PLAYING applies from the next one on.

use super::{Boosted, StreamDriver};
use crate::transcriber::{delivery::Delivery, settings::Settings};
use nemostt::{EndpointConfig, Error, Recognizer, Result};

impl StreamDriver {
    /// Sets the language of the speech. If the model does not know it, queues a warning and keeps the previous one.
    pub(super) fn set_language(&mut self, out: &mut Delivery, settings: &Settings) -> Result<()> {
        if self.language.as_deref() == Some(settings.language()) {
            return Ok(());
        }
        self.language = Some(settings.language().into());
        match self.stream.set_language(settings.language()) {
            Err(error @ Error::Language { .. }) => {
                out.queue.warning(format!("language-code: {error}"));
                Ok(())
            }
            result => result,
        }
    }

    /// The model to build a boosting tree with, if there are phrases of another `revision` than those handed over.
    pub(in crate::transcriber) fn needs_boosted(&self, revision: u64) -> Option<Recognizer> {
        (self.hotwords_revision != revision).then(|| self.recognizer.clone())
    }

    /// Hands over phrases to boost from the next audio on.
    pub(in crate::transcriber) fn hand_over(&mut self, boosted: Boosted) {
        self.hotwords_revision = boosted.revision;
        self.boosted = Some(boosted);
    }

    /// Sets the phrases to boost, if others were handed over.
    pub(super) fn set_boosted(&mut self, out: &mut Delivery) -> Result<()> {
        let Some(Boosted { tree, warning, .. }) = self.boosted.take() else {
            return Ok(());
        };
        if let Some(text) = warning {
            out.queue.warning(text);
        }
        match tree {
            Some(tree) => self.stream.set_boosting_tree(tree.as_ref()),
            None => Ok(()),
        }
    }

    /// Sets what is done to words. If a file cannot be used, queues a warning and keeps what was done before.
    pub(super) fn set_text(&mut self, out: &mut Delivery, settings: &Settings) -> Result<()> {
        for (seen, (revision, error)) in self.text_files.iter_mut().zip(settings.text.file_errors()) {
            if std::mem::replace(seen, revision) != revision
                && let Some(error) = error
            {
                out.queue.warning(format!("{error}. The previous list stays"));
            }
        }
        self.stream.set_text_shaping(settings.text.shaping());
        self.stream.set_confidence(settings.text.confidence())
    }

    pub(super) fn endpoint_config(&self, out: &Delivery, settings: &Settings) -> EndpointConfig {
        // Nobody waits for the words of an utterance, so that a beam can take all of it into account.
        let ends_words = out.is_by_word() || !settings.decoding.is_beam();
        let frame_ms = self.frame * 1000 / u64::from(self.rate);
        let frames = |ms: u32| (ms > 0).then(|| u64::from(ms).div_ceil(frame_ms));
        let samples = |ms: u32| u64::from(ms) * u64::from(self.rate) / 1000;
        EndpointConfig {
            word: frames(settings.word_hold).filter(|_| ends_words),
            utterance: frames(settings.endpoint_silence),
            phrase: settings
                .phrase_hold(out.active().output)
                .map(|ms| u64::from(ms).div_ceil(frame_ms)),
            partials: settings.post_partials || out.queue.has_partials(),
            partial_stability: settings.text.partial_stability,
            min_word: samples(settings.min_word_duration),
            emits_words: out.is_by_word(),
            longest_word: settings.longest_word().and_then(frames).filter(|_| ends_words),
            max_utterance: (settings.max_utterance > 0).then(|| samples(settings.max_utterance)),
            max_utterance_chars: (settings.max_utterance_chars > 0).then_some(settings.max_utterance_chars as usize),
        }
    }
}
