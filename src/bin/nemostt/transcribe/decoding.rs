// SPDX-License-Identifier: MIT OR Apache-2.0

//! How tokens are chosen: the flags, and the method that they ask for.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
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

    /// Most transcripts in the JSON document, with --decoding-method beam
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=BeamConfig::MAX_SIZE as i64))]
    n_best: Option<u16>,

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
    pub fn check(&self, is_json: bool) -> Result<(), String> {
        let needs_beam = [
            (self.beam_size.is_some(), "--beam-size"),
            (self.n_best.is_some(), "--n-best"),
            (self.language_model.is_some(), "--language-model"),
        ];
        if let Some((_, name)) = needs_beam
            .iter()
            .find(|(is_given, _)| *is_given && self.decoding_method != Method::Beam)
        {
            return Err(format!("{name} applies to beam search: add --decoding-method beam"));
        }
        match (self.n_best, self.language_model_weight) {
            (Some(_), _) if !is_json => Err("--n-best applies to the JSON document: add --json".into()),
            (_, Some(_)) if self.language_model.is_none() => {
                Err("--language-model-weight applies to a language model: add --language-model".into())
            }
            (_, Some(weight)) if !(0.0..=10.0).contains(&weight) => {
                Err(format!("--language-model-weight is {weight}, expected 0 to 10"))
            }
            _ => Ok(()),
        }
    }

    /// The method for streams of `recognizer`. Reads the language model.
    ///
    /// # Errors
    /// If the language model cannot be used.
    pub fn method(&self, recognizer: &Recognizer) -> nemostt::Result<DecodingMethod> {
        if self.decoding_method == Method::Greedy {
            return Ok(DecodingMethod::Greedy);
        }
        let model = self.language_model.as_ref();
        let default = BeamConfig::default();
        Ok(DecodingMethod::Beam(BeamConfig {
            size: self.beam_size.map_or(default.size, usize::from),
            n_best: self.n_best.map_or(default.n_best, usize::from),
            language_model: model.map(|path| recognizer.language_model(path)).transpose()?,
            language_model_weight: self.language_model_weight.unwrap_or(default.language_model_weight),
        }))
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

    fn check(line: &str, is_json: bool) -> Result<(), String> {
        let line = Line::try_parse_from(line.split(' ')).map_err(|error| error.to_string())?;
        line.decoding.check(is_json)
    }

    #[test]
    fn options_without_effect_are_refused() {
        for (line, is_json, expected) in [
            ("x", false, ""),
            ("x --decoding-method beam --beam-size 8 --n-best 3", true, ""),
            (
                "x --decoding-method beam --language-model a.arpa --language-model-weight 0.5",
                false,
                "",
            ),
            ("x --beam-size 8", false, "--beam-size applies"),
            ("x --n-best 3", true, "--n-best applies to beam search"),
            ("x --decoding-method beam --n-best 3", false, "add --json"),
            (
                "x --decoding-method beam --language-model-weight 1",
                false,
                "add --language-model",
            ),
            ("x --decoding-method beam --beam-size 33", false, "33"),
            ("x --decoding-method best", false, "best"),
            (
                "x --decoding-method beam --language-model a --language-model-weight 11",
                false,
                "expected 0 to 10",
            ),
        ] {
            match check(line, is_json) {
                Ok(()) => assert!(expected.is_empty(), "{line}"),
                Err(error) => assert!(!expected.is_empty() && error.contains(expected), "{line}: {error}"),
            }
        }
    }
}
