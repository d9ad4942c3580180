// SPDX-License-Identifier: MIT OR Apache-2.0

//! Command-line arguments.

use crate::Result;

const USAGE: &str = "\
usage: make soak ARGS=\"[--hours N] [--lookahead MS] [--silence S] [--clip FILE.wav] [--model DIRECTORY] [--growth MIB]\"

Runs a clip followed by silence through the element again and again without a clock, and checks that
  - each round has the words of the first one, with exactly the same times;
  - text and GAPs cover the whole time without overlap;
  - memory grows by at most --growth MiB after the first hour of audio.

  --hours      hours of audio (default: 24)
  --lookahead  of the encoder, in milliseconds (default: 80)
  --silence    after the clip, in seconds (default: 6)
  --clip       WAV file, 16-bit mono at 16 kHz (default: assets/demo.wav)
  --model      model directory (default: the built-in model)
  --growth     in MiB (default: 4)";

pub struct Arguments {
    pub hours: u64,
    pub lookahead: u32,
    pub silence: u32,
    pub clip: String,
    pub model: Option<String>,
    pub growth: u32,
}

impl Arguments {
    /// `None` if only the usage was printed.
    pub fn parse() -> Result<Option<Self>> {
        let mut parsed = Self {
            hours: 24,
            lookahead: 80,
            silence: 6,
            clip: "assets/demo.wav".into(),
            model: None,
            growth: 4,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            if name == "--help" {
                println!("{USAGE}");
                return Ok(None);
            }
            let mut value = || arguments.next().ok_or_else(|| format!("{name} needs a value\n{USAGE}"));
            match name.as_str() {
                "--hours" => parsed.hours = value()?.parse()?,
                "--lookahead" => parsed.lookahead = value()?.parse()?,
                "--silence" => parsed.silence = value()?.parse()?,
                "--clip" => parsed.clip = value()?,
                "--model" => parsed.model = Some(value()?),
                "--growth" => parsed.growth = value()?.parse()?,
                _ => return Err(format!("unknown option {name}\n{USAGE}").into()),
            }
        }
        Ok(Some(parsed))
    }
}
