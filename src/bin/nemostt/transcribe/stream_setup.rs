// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is set on the stream of each file.

use nemostt::{BoostingTree, Hotwords, Recognizer, Stream};

use super::args::Transcribe;
use crate::{Result, text_args::TextOptions};

/// What the command line says, before there is a model.
pub struct StreamOptions {
    hotwords: Hotwords,
    text: TextOptions,
    language: Option<String>,
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
        })
    }

    /// The same for streams of a model and its copies.
    ///
    /// # Errors
    /// Those of [`Recognizer::boosting_tree`].
    pub fn for_model(self, recognizer: &Recognizer) -> nemostt::Result<StreamSetup> {
        let Self {
            hotwords,
            text,
            language,
        } = self;
        let boosting = (!hotwords.is_empty())
            .then(|| recognizer.boosting_tree(&hotwords))
            .transpose()?;
        Ok(StreamSetup {
            boosting,
            text,
            language,
        })
    }
}

/// What is set on a stream.
pub struct StreamSetup {
    boosting: Option<BoostingTree>,
    text: TextOptions,
    language: Option<String>,
}

impl StreamSetup {
    /// Sets it.
    ///
    /// # Errors
    /// If the model does not support the language.
    pub fn apply(&self, stream: &mut Stream) -> nemostt::Result<()> {
        if let Some(language) = &self.language {
            stream.set_language(language)?;
        }
        stream.set_boosting_tree(self.boosting.as_ref())?;
        self.text.apply(stream)
    }
}
