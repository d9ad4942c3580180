// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reads the tokens of a SentencePiece `tokenizer.model` (`sentencepiece_model.proto`): only what decoding needs.

use prost::Message;

use super::tokenizer::TokenText;

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<SentencePiece>,
}

#[derive(Clone, PartialEq, Message)]
struct SentencePiece {
    #[prost(string, optional, tag = "1")]
    piece: Option<String>,
    #[prost(enumeration = "Kind", optional, tag = "3", default = "Normal")]
    kind: Option<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
enum Kind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// The tokens in the order of their ids.
pub(super) fn tokens(bytes: &[u8]) -> Result<Vec<TokenText>, String> {
    let model =
        ModelProto::decode(bytes).map_err(|error| format!("it is truncated or not a SentencePiece model ({error})"))?;
    let piece = |entry: &SentencePiece| {
        let text = entry.piece.as_deref().unwrap_or_default();
        match entry.kind() {
            Kind::Unknown => TokenText::Unknown,
            Kind::Control => TokenText::Control(text.into()),
            Kind::Unused => TokenText::Text(String::new()),
            Kind::Normal | Kind::UserDefined | Kind::Byte => TokenText::parse(text),
        }
    };
    Ok(model.pieces.iter().map(piece).collect())
}
