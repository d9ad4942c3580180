// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is set on the stream of each file.

use nemostt::{BoostingTree, DecodingMethod, Hotwords, Recognizer, Stream};

use super::args::Transcribe;
use crate::{Result, decoding_args::DecodingArguments, text_args::TextOptions};

/// What the command line says, before there is a model.
pub struct StreamOptions {
    hotwords: Hotwords,
    text: TextOptions,
    language: Option<String>,
    decoding: DecodingArguments,
    n_best: Option<usize>,
}

impl StreamOptions {
    /// Reads the files that `arguments` name.
    ///
    /// # Errors
    /// If one of them cannot be used.
    pub fn of(arguments: &Transcribe) -> Result<Self> {
        Ok(Self {
            hotwords: arguments.speech.hotwords()?,
            text: arguments.text.load()?,
            language: arguments.speech.language.clone(),
            decoding: arguments.decoding.clone(),
            n_best: arguments.n_best(),
        })
    }

    /// The same for streams of a model and its copies.
    ///
    /// # Errors
    /// Those of [`Recognizer::boosting_tree`] and [`Recognizer::language_model`].
    pub fn for_model(self, recognizer: &Recognizer) -> nemostt::Result<StreamSetup> {
        let Self {
            hotwords,
            text,
            language,
            decoding,
            n_best,
        } = self;
        let boosting = (!hotwords.is_empty())
            .then(|| recognizer.boosting_tree(&hotwords))
            .transpose()?;
        Ok(StreamSetup {
            boosting,
            text,
            language,
            method: decoding.method(recognizer, n_best)?,
        })
    }
}

/// What is set on a stream.
pub struct StreamSetup {
    boosting: Option<BoostingTree>,
    text: TextOptions,
    language: Option<String>,
    method: DecodingMethod,
}

impl StreamSetup {
    /// Sets it.
    ///
    /// # Errors
    /// If the model does not support the language.
    pub fn apply(&self, stream: &mut Stream) -> nemostt::Result<()> {
        stream.set_decoding_method(&self.method)?;
        if let Some(language) = &self.language {
            stream.set_language(language)?;
        }
        stream.set_boosting_tree(self.boosting.as_ref())?;
        self.text.apply(stream)
    }
}
