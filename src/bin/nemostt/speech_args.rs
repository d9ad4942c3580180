// SPDX-License-Identifier: MIT OR Apache-2.0

//! Options that say how speech is recognized, and what is said in it.

use std::path::PathBuf;

use clap::Args;
use gst::prelude::*;
use nemostt::Hotwords;

/// How speech is recognized.
#[derive(Debug, Clone, Args)]
pub struct SpeechArguments {
    /// Right context in milliseconds that the encoder sees before a frame is decoded [default: the model's own]
    #[arg(long, value_name = "MS")]
    pub lookahead: Option<u32>,

    /// Language of the speech, such as en-US, for multilingual models [default: detected by the model]
    #[arg(long, value_name = "CODE")]
    pub language: Option<String>,

    /// Phrases to recognize more often, separated by commas, each with a weight after a colon if it is not the default:
    /// "Kubernetes, Ada Lovelace:3.5"
    #[arg(long, value_name = "PHRASES")]
    hotwords: Option<String>,

    /// File with such phrases, one a line, with a tab or a colon before a weight; lines that begin with # are ignored
    #[arg(long, value_name = "FILE")]
    hotwords_file: Option<PathBuf>,

    /// Weight of phrases without one: a higher one finds more of them, also where they were not said
    #[arg(long, value_name = "WEIGHT", default_value_t = Hotwords::DEFAULT_WEIGHT)]
    hotwords_weight: f32,
}

impl SpeechArguments {
    /// The phrases to recognize more often.
    ///
    /// # Errors
    /// If the file cannot be read, or an entry is invalid.
    pub fn hotwords(&self) -> nemostt::Result<Hotwords> {
        Hotwords::load(
            self.hotwords.as_deref(),
            self.hotwords_file.as_deref(),
            self.hotwords_weight,
        )
    }

    /// Sets the properties of the element `nemostt`.
    ///
    /// # Errors
    /// One line that names the option and what it must be.
    pub fn configure(&self, element: &gst::Element) -> crate::Result<()> {
        // The element only warns of invalid phrases.
        self.hotwords()?;
        if let Some(lookahead) = self.lookahead {
            let possible = i32::try_from(lookahead).ok().filter(|&lookahead| lookahead <= 10_000);
            let lookahead = possible.ok_or_else(|| format!("--lookahead is {lookahead}, but must be 0 to 10000"))?;
            element.set_property("lookahead", lookahead);
        }
        // As `transcribe`, not as the element, which assumes en-US.
        element.set_property("language-code", self.language.as_deref().unwrap_or("auto"));
        element.set_property("hotwords-weight", self.hotwords_weight);
        if let Some(phrases) = &self.hotwords {
            element.set_property("hotwords", phrases);
        }
        if let Some(path) = &self.hotwords_file {
            let path = path.to_str().ok_or_else(|| {
                format!(
                    "--hotwords-file {}: expected a path in UTF-8; rename the file",
                    path.display()
                )
            })?;
            element.set_property("hotwords-file", path);
        }
        Ok(())
    }
}
