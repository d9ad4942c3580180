// SPDX-License-Identifier: MIT OR Apache-2.0

//! The vocabulary: the text of each token id.
//!
//! Supported files: `tokens.txt` (`token id` per line, sherpa-onnx and parakeet-rs), `vocab.txt` (one token per line,
//! or WordPiece as NeMo writes it, in which `##` begins a token that continues a word), SentencePiece's
//! `tokenizer.model`, and `tokenizer.json` of Hugging Face's tokenizers or `vocab.json`.

use std::path::Path;

use super::{hf_json, sentencepiece, tokenize::SubwordModel};
use crate::error::{Error, Result};

/// Word boundary marker: the first character of a token that begins a word (U+2581 "lower one eighth block", as in
/// SentencePiece).
pub(super) const WORD_BOUNDARY: char = '\u{2581}';

/// Maximum bytes of a `tokenizer.json`: twice the size of the largest known one, with 262,000 tokens.
const MAX_JSON: usize = 64 << 20;
/// Maximum bytes of other vocabulary files. A token of three bytes takes fifty in memory.
const MAX_BYTES: usize = 16 << 20;

/// The meaning of a token.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
    pub fn special(&self) -> Option<SpecialToken> {
        match self {
            Self::Control(text) => Some(SpecialToken::parse(text)),
            _ => None,
        }
    }

    /// Parses a token as SentencePiece writes it.
    pub(super) fn parse(text: &str) -> Self {
        let name = text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>'));
        match name {
            Some("unk") => Self::Unknown,
            Some(name) if !name.is_empty() && !name.contains(['<', '>', WORD_BOUNDARY]) => {
                let hex = name.strip_prefix("0x").filter(|hex| hex.len() == 2);
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
#[derive(Debug, Clone, PartialEq)]
pub struct Vocabulary {
    tokens: Vec<TokenText>,
    /// How text is divided into them, if the file says so.
    subwords: Option<Box<SubwordModel>>,
}

/// The contents of a vocabulary file.
type Contents = (Vec<TokenText>, Option<SubwordModel>);

impl Vocabulary {
    /// Parses a vocabulary file; its name determines the format.
    ///
    /// # Errors
    /// [`Error::Vocabulary`] if the file is invalid or does not have `count` tokens.
    pub fn parse(name: &str, bytes: &[u8], count: usize) -> Result<Self> {
        let invalid = |reason: String| Error::Vocabulary {
            path: name.into(),
            reason,
        };
        let (mut tokens, subwords) = Self::contents(name, bytes).map_err(invalid)?;
        // Some files list blank as the last token.
        if tokens.len() == count + 1 && ends_with_blank(&tokens) {
            tokens.pop();
        }
        if tokens.len() != count {
            return Err(invalid(format!(
                "{} tokens, but the model has {count}: the file belongs to another model",
                tokens.len()
            )));
        }
        Ok(Self {
            tokens,
            subwords: subwords.map(Box::new),
        })
    }

    /// Takes how text is divided into tokens from another file of the same model. Without effect if its tokens are others.
    pub(crate) fn complete_from(&mut self, name: &str, bytes: &[u8]) {
        if self.subwords.is_none()
            && let Ok(other) = Self::parse(name, bytes, self.len())
            && other.tokens == self.tokens
        {
            self.subwords = other.subwords;
        }
    }

    /// Number of tokens in a vocabulary file, not counting blank; `None` if it cannot be parsed.
    pub(crate) fn count(name: &str, bytes: &[u8]) -> Option<usize> {
        let (tokens, _) = Self::contents(name, bytes).ok()?;
        Some(tokens.len() - usize::from(ends_with_blank(&tokens)))
    }

    fn contents(name: &str, bytes: &[u8]) -> std::result::Result<Contents, String> {
        let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
        let limit = if extension == Some("json") { MAX_JSON } else { MAX_BYTES };
        if bytes.len() > limit {
            return Err(format!(
                "{} bytes are too many for a vocabulary, expected at most {limit}",
                bytes.len()
            ));
        }
        match extension {
            Some("model") => sentencepiece::parse(bytes).map(|(tokens, subwords)| (tokens, Some(subwords))),
            Some("json") => hf_json::parse(bytes),
            _ => {
                let text = std::str::from_utf8(bytes).map_err(|error| format!("not UTF-8: {error}"))?;
                Ok((parse_lines(text)?, None))
            }
        }
    }

    /// The tokens in the order of their ids.
    pub(crate) fn tokens(&self) -> &[TokenText] {
        &self.tokens
    }

    /// How text is divided into tokens, if a file of the model says so.
    pub(super) fn subwords(&self) -> Option<&SubwordModel> {
        self.subwords.as_deref()
    }

    /// Makes token `id` the special token `special`, whatever its text is.
    pub(crate) fn set_special(&mut self, id: Option<usize>, special: &str) {
        if let Some(token) = id.and_then(|id| self.tokens.get_mut(id)) {
            *token = TokenText::Control(special.into());
        }
    }

    /// The piece of token `id`: what the vocabulary has for it; `None` if there is no such token.
    pub fn piece(&self, id: usize) -> Option<&TokenText> {
        self.tokens.get(id)
    }

    /// Whether token `id` begins a word.
    pub fn begins_word(&self, id: usize) -> bool {
        match self.piece(id) {
            Some(TokenText::Text(text)) => text.starts_with(WORD_BOUNDARY),
            Some(TokenText::Unknown) => true,
            Some(TokenText::Byte(_) | TokenText::Control(_)) | None => false,
        }
    }

    /// Whether it has tokens that end a sentence, so that a model writes punctuation.
    pub(crate) fn punctuates(&self) -> bool {
        let mut texts = self.tokens.iter().filter_map(|token| match token {
            TokenText::Text(text) => Some(text.trim_start_matches(WORD_BOUNDARY)),
            _ => None,
        });
        texts.any(|text| text.ends_with(['.', '?', '。']))
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

fn ends_with_blank(tokens: &[TokenText]) -> bool {
    matches!(tokens.last(), Some(TokenText::Control(text)) if is_blank(text))
}

fn is_blank(text: &str) -> bool {
    ["<blk>", "<blank>", "<b>"].contains(&text)
}

fn parse_lines(text: &str) -> std::result::Result<Vec<TokenText>, String> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    let numbered = |(number, line): (usize, &&str)| {
        let id = line.rsplit_once([' ', '\t']).map(|(_, id)| id.trim());
        id.and_then(|id| id.parse().ok()) == Some(number)
    };
    if lines.iter().enumerate().all(numbered) {
        let token = |line: &&str| {
            let text = line.rsplit_once([' ', '\t']).map_or("", |(text, _)| text);
            TokenText::parse(text)
        };
        return Ok(lines.iter().map(token).collect());
    }
    if let Some((number, line)) = lines.iter().enumerate().find(|(_, line)| has_number(line)) {
        return Err(format!(
            "line {}: \"{line}\" does not end with id {number}; ids must count up from 0",
            number + 1
        ));
    }
    let is_word_piece = lines.iter().any(|line| line.starts_with("##"));
    let token = |line: &&str| match (is_word_piece, line.strip_prefix("##")) {
        (true, Some(rest)) => TokenText::parse(rest),
        (true, None) if matches!(TokenText::parse(line), TokenText::Text(_)) => {
            TokenText::Text(format!("{WORD_BOUNDARY}{line}"))
        }
        _ => TokenText::parse(line),
    };
    Ok(lines.iter().map(token).collect())
}

fn has_number(line: &str) -> bool {
    let id = line.rsplit_once([' ', '\t']).map(|(_, id)| id.trim());
    id.is_some_and(|id| id.parse::<usize>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> TokenText {
        TokenText::Text(text.into())
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
            assert_eq!(vocabulary.tokens, [TokenText::Unknown, text("▁a"), text("b")]);
        }
    }

    #[test]
    fn token_may_be_a_number_or_a_word_start() {
        let vocabulary = Vocabulary::parse("tokens.txt", "▁ 0\n7 1\n".as_bytes(), 2).unwrap();
        assert_eq!(vocabulary.tokens, [text("▁"), text("7")]);
    }

    #[test]
    fn vocab_txt_in_both_styles() {
        let plain = Vocabulary::parse("vocab.txt", "<unk>\n▁a\nb\n".as_bytes(), 3).unwrap();
        let nemo = Vocabulary::parse("vocab.txt", "<unk>\na\n##b\n".as_bytes(), 3).unwrap();
        assert_eq!(plain, nemo);
    }

    #[test]
    fn special_tokens_are_parsed() {
        let special = |text: &str| TokenText::parse(text).special();
        assert_eq!(special("<EOU>"), Some(SpecialToken::EndOfUtterance));
        assert_eq!(special("<EOB>"), Some(SpecialToken::EndOfBackchannel));
        for language in ["en-US", "es-419", "zh-Hant", "yue-HK"] {
            assert_eq!(
                special(&format!("<{language}>")),
                Some(SpecialToken::Language(language.into()))
            );
        }
        for other in ["<sos>", "<s>", "<blk>", "<a-b>", "<EN-us>", "<en->"] {
            assert_eq!(special(other), Some(SpecialToken::Other), "{other}");
        }
        assert_eq!(special("\u{2581}en-US"), None);
    }

    #[test]
    fn wrong_token_count_is_rejected() {
        let error = Vocabulary::parse("tokens.txt", b"a 0\nb 1\n", 3)
            .unwrap_err()
            .to_string();
        assert!(error.contains("2 tokens") && error.contains("has 3"), "{error}");
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
        let tokens = b"\x0a\x00".repeat(MAX_BYTES / 2 + 1);
        for (name, bytes) in [("vocab.txt", lines), ("tokenizer.model", tokens)] {
            let error = Vocabulary::parse(name, &bytes, 1).unwrap_err().to_string();
            assert!(
                error.contains("too many") && error.contains("at most 16777216"),
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
