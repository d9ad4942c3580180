// SPDX-License-Identifier: MIT OR Apache-2.0

//! What becomes of the words: text, a table, JSON or subtitles, written as soon as the format allows.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use gstnemostt::{DecoderKind, ModelConfig, Word};
use serde::Serialize;

use crate::{Result, cues::CueBuilder};

/// How words are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Words with spaces between them.
    Text,
    /// A line for each word.
    Words,
    /// A document.
    Json,
    /// SubRip.
    Srt,
    /// WebVTT.
    Vtt,
}

/// Writes words in one format.
pub struct Output {
    format: Format,
    writer: Box<dyn Write>,
    document: Document,
    cues: CueBuilder,
    /// Words, or cues, written.
    count: u64,
}

/// What `--json` gives. Times are in seconds.
#[derive(Debug, Serialize)]
struct Document {
    model: String,
    sample_rate: u32,
    lookahead_ms: u64,
    decoder: &'static str,
    duration: f64,
    text: String,
    words: Vec<JsonWord>,
}

#[derive(Debug, Serialize)]
struct JsonWord {
    text: String,
    start: f64,
    end: f64,
    confidence: f32,
}

impl Output {
    /// An output to `file` or else to standard output. `model` is what the document calls the model with these numbers.
    pub fn create(format: Format, file: Option<&Path>, model: String, config: &ModelConfig) -> Result<Self> {
        let writer: Box<dyn Write> = match file {
            Some(path) => {
                let file = File::create(path).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
                Box::new(BufWriter::new(file))
            }
            None => Box::new(BufWriter::new(io::stdout())),
        };
        Ok(Self::new(format, writer, model, config))
    }

    fn new(format: Format, writer: Box<dyn Write>, model: String, config: &ModelConfig) -> Self {
        let sample_rate = config.front_end.sample_rate;
        Self {
            format,
            writer,
            document: Document {
                model,
                sample_rate,
                lookahead_ms: config.lookahead_ms(),
                decoder: match config.decoder {
                    DecoderKind::Ctc => "ctc",
                    _ => "rnnt",
                },
                duration: 0.0,
                text: String::new(),
                words: Vec::new(),
            },
            cues: CueBuilder::new(sample_rate),
            count: 0,
        }
    }

    /// Writes what stands before the first word.
    pub fn begin(&mut self) -> io::Result<()> {
        if self.format == Format::Vtt {
            self.writer.write_all(b"WEBVTT\n\n")?;
        }
        self.writer.flush()
    }

    /// Takes the next word and writes what can be written.
    pub fn word(&mut self, word: &Word) -> io::Result<()> {
        let (start, end) = (self.seconds(word.start), self.seconds(word.end));
        match self.format {
            Format::Text => {
                let space = if self.count > 0 { " " } else { "" };
                write!(self.writer, "{space}{}", word.text)?;
                self.count += 1;
            }
            Format::Words => writeln!(
                self.writer,
                "{start:.3}\t{end:.3}\t{:.3}\t{}",
                word.confidence, word.text
            )?,
            Format::Json => self.document.words.push(JsonWord {
                text: word.text.clone(),
                start,
                end,
                confidence: word.confidence,
            }),
            Format::Srt | Format::Vtt => {
                if let Some(cue) = self.cues.push(word) {
                    self.cue(&cue)?;
                }
            }
        }
        // Someone may be reading along.
        self.writer.flush()
    }

    /// Writes what is left after `samples` samples.
    pub fn finish(&mut self, samples: u64) -> io::Result<()> {
        match self.format {
            Format::Text => writeln!(self.writer)?,
            Format::Words => {}
            Format::Json => {
                self.document.duration = self.seconds(samples);
                let words: Vec<&str> = self.document.words.iter().map(|word| word.text.as_str()).collect();
                self.document.text = words.join(" ");
                serde_json::to_writer(&mut self.writer, &self.document)?;
                writeln!(self.writer)?;
            }
            Format::Srt | Format::Vtt => {
                if let Some(cue) = self.cues.finish() {
                    self.cue(&cue)?;
                }
            }
        }
        self.writer.flush()
    }

    /// Something failed: ends the line, so that the message stands on its own.
    pub fn abandon(&mut self) -> io::Result<()> {
        if self.format == Format::Text && self.count > 0 {
            writeln!(self.writer)?;
        }
        self.writer.flush()
    }

    fn cue(&mut self, cue: &crate::cues::Cue) -> io::Result<()> {
        if self.count > 0 {
            writeln!(self.writer)?;
        }
        self.count += 1;
        match self.format {
            Format::Vtt => write!(self.writer, "{}", cue.vtt()),
            _ => write!(self.writer, "{}\n{}", self.count, cue.srt()),
        }
    }

    fn seconds(&self, samples: u64) -> f64 {
        samples as f64 / f64::from(self.document.sample_rate)
    }
}
