// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is played, and what is allowed.

use crate::Result;

const USAGE: &str = "\
usage: make soak ARGS=\"[--hours N] [--lookahead MS] [--silence S] [--clip FILE.wav] [--model DIRECTORY] [--growth MIB]\"

Plays a clip and silence, over and over, through the element without a clock, and checks that
  - each round has the words of the first one, at exactly its times;
  - text and GAPs cover all time, once;
  - memory grows by --growth MiB at most after the first hour.

  --hours      of audio (24)
  --lookahead  of the encoder, in milliseconds (80)
  --silence    after the clip, in seconds (6)
  --clip       16-bit mono at 16 kHz (assets/demo.wav)
  --model      the one that is built in, if there is none
  --growth     in MiB (4)";

pub struct Arguments {
    pub hours: u64,
    pub lookahead: u32,
    pub silence: u32,
    pub clip: String,
    pub model: Option<String>,
    pub growth: u32,
}

impl Arguments {
    /// `None`: there is nothing to do but to say how it is used.
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
                _ => return Err(format!("what is {name}?\n{USAGE}").into()),
            }
        }
        Ok(Some(parsed))
    }
}
