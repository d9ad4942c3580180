// SPDX-License-Identifier: MIT OR Apache-2.0

//! Output formats: text, a table, JSON and subtitles, written as soon as the format allows.

use std::io::{self, Write};

use nemostt::{
    DecoderKind, Event, ModelConfig, Word,
    cues::{Cue, CueBuilder},
    sample_time::samples_to_ns,
};
use serde::Serialize;

use crate::cues;

/// An output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Words with spaces between them.
    Text,
    /// A line for each word.
    Words,
    /// One JSON document.
    Json,
    /// SubRip.
    Srt,
    /// WebVTT.
    Vtt,
}

impl Format {
    /// The file name extension.
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
    /// Printed before the words if there are those of other files.
    file_name: Option<String>,
    document: Document,
    cues: CueBuilder,
    /// Words, or cues, written.
    count: u64,
}

/// The output of `--json`. Times are in seconds.
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
    /// With `--n-best`, of each utterance.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    alternatives: Vec<JsonAlternatives>,
}

/// The best transcripts of an utterance; without end-of-turn tokens, of the whole file.
#[derive(Debug, Serialize)]
struct JsonAlternatives {
    start: f64,
    end: f64,
    transcripts: Vec<JsonTranscript>,
}

#[derive(Debug, Serialize)]
struct JsonTranscript {
    text: String,
    score: f64,
}

#[derive(Debug, Serialize)]
struct JsonWord {
    text: String,
    start: f64,
    end: f64,
    confidence: f32,
}

impl<W: Write> Output<W> {
    /// An output to `writer` for the words of `file`, subtitles from `cues`. `model` is the name of the model in the JSON
    /// document.
    pub fn new(format: Format, cues: CueBuilder, writer: W, file: String, model: String, config: &ModelConfig) -> Self {
        let sample_rate = config.front_end.sample_rate;
        Self {
            format,
            writer,
            file_name: None,
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
                alternatives: Vec::new(),
            },
            cues,
            count: 0,
        }
    }

    /// Samples per second that the times of words count.
    pub fn rate(&self) -> u32 {
        self.document.sample_rate
    }

    /// Prints the name of the file before its text or words.
    pub fn with_file_name(mut self) -> Self {
        self.file_name = Some(self.document.file.clone());
        self
    }

    /// The writer, with everything written.
    pub fn into_writer(self) -> W {
        self.writer
    }

    /// Writes the part before the first word.
    pub fn begin(&mut self) -> io::Result<()> {
        match (self.format, &self.file_name) {
            (Format::Vtt, _) => self.writer.write_all(b"WEBVTT\n\n")?,
            (Format::Text, Some(file)) => write!(self.writer, "{file}: ")?,
            _ => {}
        }
        self.writer.flush()
    }

    /// Adds a word or the end of an utterance, and writes as much as the format allows.
    pub fn event(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::Word(word) => self.word(word),
            // The next word begins a new subtitle.
            Event::Utterance(utterance) => {
                let transcripts = utterance.alternatives.iter().map(|alternative| JsonTranscript {
                    text: alternative.text.clone(),
                    score: alternative.score,
                });
                let alternatives = JsonAlternatives {
                    start: self.seconds(utterance.start()),
                    end: self.seconds(utterance.end()),
                    transcripts: transcripts.collect(),
                };
                if !alternatives.transcripts.is_empty() {
                    self.document.alternatives.push(alternatives);
                }
                self.cues.end_utterance();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// All words that begin before sample `until` have been added: writes the subtitles that wait for no more.
    pub fn advance(&mut self, until: u64) -> io::Result<()> {
        self.cues.advance(samples_to_ns(until, self.document.sample_rate));
        self.write_cues()?;
        self.writer.flush()
    }

    fn word(&mut self, word: &Word) -> io::Result<()> {
        let (start, end) = (self.seconds(word.start), self.seconds(word.end));
        match self.format {
            Format::Text => {
                let space = if self.count > 0 { " " } else { "" };
                write!(self.writer, "{space}{}", word.text)?;
                self.count += 1;
            }
            Format::Words => {
                if let Some(file) = &self.file_name {
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
                let ns = |samples| samples_to_ns(samples, self.document.sample_rate);
                self.cues.push(&word.text, ns(word.start), ns(word.end));
                self.cues.advance(ns(word.start));
                self.write_cues()?;
            }
        }
        // Live input: words must appear as soon as they are known.
        self.writer.flush()
    }

    /// Writes the rest, after `samples` samples in total.
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
                self.cues.finish();
                self.write_cues()?;
            }
        }
        self.writer.flush()
    }

    /// Ends the line after an error, so that the error message starts on its own line.
    pub fn abandon(&mut self) -> io::Result<()> {
        if self.format == Format::Text && self.count > 0 {
            writeln!(self.writer)?;
        }
        self.writer.flush()
    }

    fn write_cues(&mut self) -> io::Result<()> {
        while let Some(cue) = self.cues.next_cue() {
            self.cue(&cue)?;
        }
        Ok(())
    }

    fn cue(&mut self, cue: &Cue) -> io::Result<()> {
        if self.count > 0 {
            writeln!(self.writer)?;
        }
        self.count += 1;
        match self.format {
            Format::Vtt => write!(self.writer, "{}", cues::vtt(cue)),
            _ => write!(self.writer, "{}\n{}", self.count, cues::srt(cue)),
        }
    }

    fn seconds(&self, samples: u64) -> f64 {
        samples as f64 / f64::from(self.document.sample_rate)
    }
}

#[cfg(test)]
mod tests {
    use nemostt::{Utterance, cues::CueRules};

    use super::*;

    const RATE: u32 = 1_000;

    fn output() -> Output<Vec<u8>> {
        let document = Document {
            file: String::new(),
            model: String::new(),
            sample_rate: RATE,
            lookahead_ms: 0,
            decoder: "ctc",
            duration: 0.0,
            text: String::new(),
            words: Vec::new(),
            alternatives: Vec::new(),
        };
        Output {
            format: Format::Srt,
            writer: Vec::new(),
            file_name: None,
            document,
            cues: CueBuilder::new(CueRules::default()).unwrap(),
            count: 0,
        }
    }

    fn word(text: &str, start: u64) -> Word {
        Word {
            text: text.into(),
            start,
            end: start + 900,
            confidence: 1.0,
            spoken: Vec::new(),
        }
    }

    fn written(output: &Output<Vec<u8>>) -> &str {
        std::str::from_utf8(&output.writer).unwrap()
    }

    #[test]
    fn a_subtitle_does_not_wait_for_the_next_word() {
        let mut output = output();
        output.event(&Event::Word(word("one", 0))).unwrap();
        // Words up to 3 s after its start may be in it.
        output.advance(2_999).unwrap();
        assert_eq!(written(&output), "");
        output.advance(3_000).unwrap();
        assert_eq!(written(&output), "1\n00:00:00,000 --> 00:00:00,900\none\n");
    }

    #[test]
    fn a_subtitle_ends_with_an_utterance() {
        let mut output = output();
        let words = vec![word("one", 0)];
        output.event(&Event::Word(words[0].clone())).unwrap();
        let utterance = Utterance {
            id: 0,
            words,
            ending: None,
            language: None,
            alternatives: Vec::new(),
        };
        output.event(&Event::Utterance(utterance)).unwrap();
        output.event(&Event::Word(word("two", 1_000))).unwrap();
        output.finish(2_000).unwrap();
        let texts: Vec<&str> = written(&output).lines().skip(2).step_by(4).collect();
        assert_eq!(texts, ["one", "two"]);
    }
}
