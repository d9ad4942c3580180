// SPDX-License-Identifier: MIT OR Apache-2.0

//! The vocabulary: the text of each token id.
//!
//! Supported files: `tokens.txt` (`token id` per line, sherpa-onnx and parakeet-rs), `vocab.txt` (one token per line,
//! or NeMo's word pieces, in which `##` marks a token that continues a word), SentencePiece's `tokenizer.model`, and
//! `tokenizer.json` of Hugging Face's tokenizers or `vocab.json`.

use std::path::Path;

use super::{hf_json, sentencepiece};
use crate::error::{Error, Result};

/// First character of a token that begins a word (U+2581 "lower one eighth block", as in SentencePiece).
pub(super) const WORD_START: char = '\u{2581}';

/// Largest `tokenizer.json` in bytes: the largest known, with 262,000 tokens, is half as large.
const MAX_JSON: usize = 64 << 20;
/// Largest vocabulary file of any other kind in bytes. Three of its bytes can be a token, which takes fifty in memory.
const MAX_BYTES: usize = 16 << 20;

/// What a token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenText {
    /// Text; a leading `▁` begins a word.
    Text(String),
    /// One byte of a character that has no token of its own.
    Byte(u8),
    /// The unknown token.
    Unknown,
    /// A special token such as `<EOU>` or `<en-US>`: not text.
    Control(String),
}

/// The meaning of a special token.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpecialToken {
    /// `<EOU>`: the speaker has finished and waits for an answer.
    EndOfUtterance,
    /// `<EOB>`: the speaker only signaled that they are listening ("uh-huh").
    EndOfBackchannel,
    /// `<en-US>`: the language of the speech.
    Language(String),
    /// Anything else.
    Other,
}

impl SpecialToken {
    /// Parses the text of a special token.
    fn parse(text: &str) -> Self {
        let name = text.trim_start_matches('<').trim_end_matches('>');
        match name {
            "EOU" => Self::EndOfUtterance,
            "EOB" => Self::EndOfBackchannel,
            _ if is_language(name) => Self::Language(name.into()),
            _ => Self::Other,
        }
    }
}

/// Whether `name` is a language code with a region or script, like the tags of multilingual models: `en-US`, `es-419`,
/// `zh-Hant`. Without one it could be a special token like `<sos>`.
fn is_language(name: &str) -> bool {
    let Some((language, region)) = name.split_once('-') else {
        return false;
    };
    let letters = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphabetic());
    let known_region = match region.len() {
        2 | 4 => letters(region),
        3 => region.bytes().all(|byte| byte.is_ascii_digit()),
        _ => false,
    };
    (2..=3).contains(&language.len()) && language.bytes().all(|byte| byte.is_ascii_lowercase()) && known_region
}

impl TokenText {
    /// The meaning of the token, if it is a special token.
    pub fn mark(&self) -> Option<SpecialToken> {
        match self {
            Self::Control(mark) => Some(SpecialToken::parse(mark)),
            _ => None,
        }
    }

    /// Parses a token as SentencePiece writes it.
    pub(super) fn parse(text: &str) -> Self {
        let marked = text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>'));
        match marked {
            Some("unk") => Self::Unknown,
            Some(mark) if !mark.is_empty() && !mark.contains(['<', '>', WORD_START]) => {
                let hex = mark.strip_prefix("0x").filter(|hex| hex.len() == 2);
                match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                    Some(byte) => Self::Byte(byte),
                    None => Self::Control(text.into()),
                }
            }
            _ => Self::Text(text.into()),
        }
    }
}

/// The tokens of a model, without blank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocabulary {
    pieces: Vec<TokenText>,
}

impl Vocabulary {
    /// Parses a vocabulary file; its name determines the format.
    ///
    /// # Errors
    /// [`Error::Vocabulary`] if the file is invalid or does not have `labels` tokens.
    pub fn parse(name: &str, bytes: &[u8], labels: usize) -> Result<Self> {
        let wrong = |reason: String| Error::Vocabulary {
            path: name.into(),
            reason,
        };
        let mut pieces = Self::pieces(name, bytes).map_err(wrong)?;
        // Some files list blank as the last token.
        if pieces.len() == labels + 1 && ends_with_blank(&pieces) {
            pieces.pop();
        }
        if pieces.len() != labels {
            return Err(wrong(format!(
                "{} labels, but the model has {labels}: the file belongs to another model",
                pieces.len()
            )));
        }
        Ok(Self { pieces })
    }

    /// Number of tokens in a vocabulary file, not counting blank; `None` if it cannot be parsed.
    pub(crate) fn count(name: &str, bytes: &[u8]) -> Option<usize> {
        let pieces = Self::pieces(name, bytes).ok()?;
        Some(pieces.len() - usize::from(ends_with_blank(&pieces)))
    }

    fn pieces(name: &str, bytes: &[u8]) -> std::result::Result<Vec<TokenText>, String> {
        let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
        let most = if extension == Some("json") { MAX_JSON } else { MAX_BYTES };
        if bytes.len() > most {
            return Err(format!(
                "{} bytes are too many for a vocabulary, expected {most} at most",
                bytes.len()
            ));
        }
        match extension {
            Some("model") => sentencepiece::pieces(bytes),
            Some("json") => hf_json::pieces(bytes),
            _ => parse_lines(std::str::from_utf8(bytes).map_err(|error| format!("not UTF-8: {error}"))?),
        }
    }

    /// Makes token `id` the special token `mark`, whatever its text is.
    pub(crate) fn mark(&mut self, id: Option<usize>, mark: &str) {
        if let Some(piece) = id.and_then(|id| self.pieces.get_mut(id)) {
            *piece = TokenText::Control(mark.into());
        }
    }

    /// What token `id` stands for.
    pub fn piece(&self, id: usize) -> Option<&TokenText> {
        self.pieces.get(id)
    }

    /// Whether token `id` begins a word.
    pub fn begins_word(&self, id: usize) -> bool {
        match self.piece(id) {
            Some(TokenText::Text(text)) => text.starts_with(WORD_START),
            Some(TokenText::Unknown) => true,
            Some(TokenText::Byte(_) | TokenText::Control(_)) | None => false,
        }
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }
}

fn ends_with_blank(pieces: &[TokenText]) -> bool {
    matches!(pieces.last(), Some(TokenText::Control(mark)) if is_blank(mark))
}

fn is_blank(mark: &str) -> bool {
    ["<blk>", "<blank>", "<b>"].contains(&mark)
}

fn parse_lines(text: &str) -> std::result::Result<Vec<TokenText>, String> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    let numbered = |(number, line): (usize, &&str)| {
        let id = line.rsplit_once([' ', '\t']).map(|(_, id)| id.trim());
        id.and_then(|id| id.parse().ok()) == Some(number)
    };
    if lines.iter().enumerate().all(numbered) {
        let piece = |line: &&str| {
            let text = line.rsplit_once([' ', '\t']).map_or("", |(text, _)| text);
            TokenText::parse(text)
        };
        return Ok(lines.iter().map(piece).collect());
    }
    if let Some((number, line)) = lines.iter().enumerate().find(|(_, line)| has_number(line)) {
        return Err(format!(
            "line {}: \"{line}\" does not carry the id {number}; ids must count up from 0",
            number + 1
        ));
    }
    let word_pieces = lines.iter().any(|line| line.starts_with("##"));
    let piece = |line: &&str| match (word_pieces, line.strip_prefix("##")) {
        (true, Some(rest)) => TokenText::parse(rest),
        (true, None) if matches!(TokenText::parse(line), TokenText::Text(_)) => {
            TokenText::Text(format!("{WORD_START}{line}"))
        }
        _ => TokenText::parse(line),
    };
    Ok(lines.iter().map(piece).collect())
}

fn has_number(line: &str) -> bool {
    let id = line.rsplit_once([' ', '\t']).map(|(_, id)| id.trim());
    id.is_some_and(|id| id.parse::<usize>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(piece: &str) -> TokenText {
        TokenText::Text(piece.into())
    }

    #[test]
    fn parse_distinguishes_token_kinds() {
        assert_eq!(TokenText::parse("▁the"), text("▁the"));
        assert_eq!(TokenText::parse("<0x41>"), TokenText::Byte(0x41));
        assert_eq!(TokenText::parse("<unk>"), TokenText::Unknown);
        assert_eq!(TokenText::parse("<EOU>"), TokenText::Control("<EOU>".into()));
        assert_eq!(TokenText::parse("<"), text("<"));
        assert_eq!(TokenText::parse("<>"), text("<>"));
    }

    #[test]
    fn tokens_txt_with_and_without_blank() {
        for file in ["<unk> 0\n▁a 1\nb 2\n<blk> 3\n", "<unk> 0\n▁a 1\nb 2\n"] {
            let vocabulary = Vocabulary::parse("tokens.txt", file.as_bytes(), 3).unwrap();
            assert_eq!(vocabulary.pieces, [TokenText::Unknown, text("▁a"), text("b")]);
        }
    }

    #[test]
    fn token_may_be_a_number_or_a_word_start() {
        let vocabulary = Vocabulary::parse("tokens.txt", "▁ 0\n7 1\n".as_bytes(), 2).unwrap();
        assert_eq!(vocabulary.pieces, [text("▁"), text("7")]);
    }

    #[test]
    fn vocab_txt_in_both_styles() {
        let plain = Vocabulary::parse("vocab.txt", "<unk>\n▁a\nb\n".as_bytes(), 3).unwrap();
        let nemo = Vocabulary::parse("vocab.txt", "<unk>\na\n##b\n".as_bytes(), 3).unwrap();
        assert_eq!(plain, nemo);
    }

    #[test]
    fn special_tokens_are_parsed() {
        let mark = |text: &str| TokenText::parse(text).mark();
        assert_eq!(mark("<EOU>"), Some(SpecialToken::EndOfUtterance));
        assert_eq!(mark("<EOB>"), Some(SpecialToken::EndOfBackchannel));
        for language in ["en-US", "es-419", "zh-Hant", "yue-HK"] {
            assert_eq!(
                mark(&format!("<{language}>")),
                Some(SpecialToken::Language(language.into()))
            );
        }
        for other in ["<sos>", "<s>", "<blk>", "<a-b>", "<EN-us>", "<en->"] {
            assert_eq!(mark(other), Some(SpecialToken::Other), "{other}");
        }
        assert_eq!(mark("\u{2581}en-US"), None);
    }

    #[test]
    fn wrong_token_count_is_rejected() {
        let error = Vocabulary::parse("tokens.txt", b"a 0\nb 1\n", 3)
            .unwrap_err()
            .to_string();
        assert!(error.contains("2 labels") && error.contains("has 3"), "{error}");
    }

    #[test]
    fn ids_out_of_order_are_rejected() {
        let error = Vocabulary::parse("tokens.txt", b"a 0\nb 2\n", 2)
            .unwrap_err()
            .to_string();
        assert!(error.contains("line 1") || error.contains("line 2"), "{error}");
    }

    #[test]
    fn oversized_vocabulary_is_rejected() {
        let lines = b"a\n".repeat(MAX_BYTES / 2 + 1);
        let pieces = b"\x0a\x00".repeat(MAX_BYTES / 2 + 1);
        for (name, bytes) in [("vocab.txt", lines), ("tokenizer.model", pieces)] {
            let error = Vocabulary::parse(name, &bytes, 1).unwrap_err().to_string();
            assert!(
                error.contains("too many") && error.contains("16777216 at most"),
                "{error}"
            );
        }
    }

    #[test]
    fn invalid_files_are_rejected() {
        for (name, bytes) in [("tokens.txt", &[0xff, 0xfe][..]), ("tokenizer.model", b"\xff\xff\xff")] {
            assert!(Vocabulary::parse(name, bytes, 3).is_err());
        }
    }
}
