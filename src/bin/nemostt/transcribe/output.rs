// SPDX-License-Identifier: MIT OR Apache-2.0

//! What becomes of the words: text, a table, JSON or subtitles, written as soon as the format allows.

use std::io::{self, Write};

use nemostt::{DecoderKind, ModelConfig, Word};
use serde::Serialize;

use super::cues::{Cue, CueBuilder};

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

impl Format {
    /// How the names of such files end.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Text => "txt",
            Self::Words => "tsv",
            Self::Json => "json",
            Self::Srt => "srt",
            Self::Vtt => "vtt",
        }
    }
}

/// Writes the words of one file in one format.
pub struct Output<W> {
    format: Format,
    writer: W,
    /// Stands before the words, to tell them from those of other files.
    label: Option<String>,
    document: Document,
    cues: CueBuilder,
    /// Words, or cues, written.
    count: u64,
}

/// What `--json` gives. Times are in seconds.
#[derive(Debug, Serialize)]
struct Document {
    file: String,
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

impl<W: Write> Output<W> {
    /// An output to `writer` for the words of `file`. `model` is what the document calls the model with these numbers.
    pub fn new(format: Format, writer: W, file: String, model: String, config: &ModelConfig) -> Self {
        let sample_rate = config.front_end.sample_rate;
        Self {
            format,
            writer,
            label: None,
            document: Document {
                file,
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

    /// Samples per second that the times of words count.
    pub fn rate(&self) -> u32 {
        self.document.sample_rate
    }

    /// Puts the name of the file before its text or words, for there are those of others.
    pub fn labeled(mut self) -> Self {
        self.label = Some(self.document.file.clone());
        self
    }

    /// What was written to.
    pub fn into_writer(self) -> W {
        self.writer
    }

    /// Writes what stands before the first word.
    pub fn begin(&mut self) -> io::Result<()> {
        match (self.format, &self.label) {
            (Format::Vtt, _) => self.writer.write_all(b"WEBVTT\n\n")?,
            (Format::Text, Some(file)) => write!(self.writer, "{file}: ")?,
            _ => {}
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
            Format::Words => {
                if let Some(file) = &self.label {
                    write!(self.writer, "{file}\t")?;
                }
                let Word { confidence, text, .. } = word;
                writeln!(self.writer, "{start:.3}\t{end:.3}\t{confidence:.3}\t{text}")?;
            }
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

    fn cue(&mut self, cue: &Cue) -> io::Result<()> {
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
