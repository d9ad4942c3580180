// SPDX-License-Identifier: MIT OR Apache-2.0

//! Options that say how tokens are chosen.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use gst::prelude::*;
use nemostt::{BeamConfig, DecodingMethod, Recognizer};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Method {
    #[default]
    Greedy,
    Beam,
}

/// How tokens are chosen.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Decoding")]
pub struct DecodingArguments {
    /// How tokens are chosen: the best one at each place, or the best of several transcripts
    #[arg(
        long,
        value_enum,
        default_value_t,
        hide_possible_values = true,
        value_name = "greedy|beam"
    )]
    decoding_method: Method,

    /// Transcripts that --decoding-method beam follows at the same time, 1 to 32 [default: 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=BeamConfig::MAX_SIZE as i64))]
    beam_size: Option<u16>,

    /// ARPA file of an n-gram language model over the model's tokens, as NeMo's train_kenlm.py makes it, for --decoding-method beam
    #[arg(long, value_name = "FILE")]
    language_model: Option<PathBuf>,

    /// How much the language model counts [default: 0.3]
    #[arg(long, value_name = "WEIGHT")]
    language_model_weight: Option<f32>,
}

impl DecodingArguments {
    /// Checks what needs no model.
    ///
    /// # Errors
    /// One line that names the option, and what is possible.
    pub fn check(&self) -> Result<(), String> {
        if self.beam_size.is_some() {
            self.check_beam("--beam-size")?;
        }
        if self.language_model.is_some() {
            self.check_beam("--language-model")?;
        }
        match self.language_model_weight {
            Some(_) if self.language_model.is_none() => {
                Err("--language-model-weight applies to a language model: add --language-model".into())
            }
            Some(weight) if !(0.0..=10.0).contains(&weight) => {
                Err(format!("--language-model-weight is {weight}, expected 0 to 10"))
            }
            _ => Ok(()),
        }
    }

    /// Checks that `option`, which applies to beam search, has an effect.
    ///
    /// # Errors
    /// One line that names the option, and what to add.
    pub fn check_beam(&self, option: &str) -> Result<(), String> {
        match self.decoding_method {
            Method::Beam => Ok(()),
            Method::Greedy => Err(format!("{option} applies to beam search: add --decoding-method beam")),
        }
    }

    /// The method for streams of `recognizer`, with at most `n_best` alternatives. Reads the language model.
    ///
    /// # Errors
    /// If the language model cannot be used.
    pub fn method(&self, recognizer: &Recognizer, n_best: Option<usize>) -> nemostt::Result<DecodingMethod> {
        if self.decoding_method == Method::Greedy {
            return Ok(DecodingMethod::Greedy);
        }
        let model = self.language_model.as_ref();
        let default = BeamConfig::default();
        Ok(DecodingMethod::Beam(BeamConfig {
            size: self.beam_size.map_or(default.size, usize::from),
            n_best: n_best.unwrap_or(default.n_best),
            language_model: model.map(|path| recognizer.language_model(path)).transpose()?,
            language_model_weight: self.language_model_weight.unwrap_or(default.language_model_weight),
        }))
    }

    /// Sets the properties of the element `nemostt`.
    ///
    /// # Errors
    /// One line that names the option and what it must be.
    pub fn configure(&self, element: &gst::Element) -> Result<(), String> {
        self.check()?;
        if self.decoding_method == Method::Beam {
            element.set_property_from_str("decoding-method", "beam");
        }
        if let Some(size) = self.beam_size {
            element.set_property("beam-size", u32::from(size));
        }
        if let Some(path) = &self.language_model {
            let path = path.to_str().ok_or_else(|| {
                format!(
                    "--language-model {}: expected a path in UTF-8; rename the file",
                    path.display()
                )
            })?;
            element.set_property("language-model", path);
        }
        if let Some(weight) = self.language_model_weight {
            element.set_property("language-model-weight", weight);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        decoding: DecodingArguments,
    }

    fn check(line: &str) -> Result<(), String> {
        let line = Line::try_parse_from(line.split(' ')).map_err(|error| error.to_string())?;
        line.decoding.check()
    }

    #[test]
    fn options_without_effect_are_refused() {
        for (line, expected) in [
            ("x", ""),
            ("x --decoding-method beam --beam-size 8", ""),
            (
                "x --decoding-method beam --language-model a.arpa --language-model-weight 0.5",
                "",
            ),
            ("x --beam-size 8", "--beam-size applies"),
            ("x --language-model a.arpa", "--language-model applies to beam search"),
            (
                "x --decoding-method beam --language-model-weight 1",
                "add --language-model",
            ),
            ("x --decoding-method beam --beam-size 33", "33"),
            ("x --decoding-method best", "best"),
            (
                "x --decoding-method beam --language-model a --language-model-weight 11",
                "expected 0 to 10",
            ),
        ] {
            match check(line) {
                Ok(()) => assert!(expected.is_empty(), "{line}"),
                Err(error) => assert!(!expected.is_empty() && error.contains(expected), "{line}: {error}"),
            }
        }
    }
}
