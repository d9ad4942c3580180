// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reads a SentencePiece `tokenizer.model` (`sentencepiece_model.proto`): its tokens, and how it divides text into them.

use prost::Message;

use super::{
    tokenize::{Algorithm, Charsmap, Normalization, SubwordModel},
    tokenizer::TokenText,
};

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<SentencePiece>,
    #[prost(message, optional, tag = "2")]
    trainer: Option<TrainerSpec>,
    #[prost(message, optional, tag = "3")]
    normalizer: Option<NormalizerSpec>,
}

#[derive(Clone, PartialEq, Message)]
struct SentencePiece {
    #[prost(string, optional, tag = "1")]
    piece: Option<String>,
    #[prost(float, optional, tag = "2")]
    score: Option<f32>,
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

#[derive(Clone, PartialEq, Message)]
struct TrainerSpec {
    #[prost(enumeration = "ModelType", optional, tag = "3", default = "Unigram")]
    model_type: Option<i32>,
    #[prost(bool, optional, tag = "24")]
    treat_whitespace_as_suffix: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
enum ModelType {
    Unigram = 1,
    Bpe = 2,
    Word = 3,
    Char = 4,
}

#[derive(Clone, PartialEq, Message)]
struct NormalizerSpec {
    #[prost(bytes = "vec", optional, tag = "2")]
    precompiled_charsmap: Option<Vec<u8>>,
    #[prost(bool, optional, tag = "3", default = "true")]
    add_dummy_prefix: Option<bool>,
    #[prost(bool, optional, tag = "4", default = "true")]
    remove_extra_whitespaces: Option<bool>,
    #[prost(bool, optional, tag = "5", default = "true")]
    escape_whitespaces: Option<bool>,
}

/// The tokens in the order of their ids, and how text is divided into them.
pub(super) fn parse(bytes: &[u8]) -> Result<(Vec<TokenText>, SubwordModel), String> {
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
    let is_user_defined = |(_, entry): &(usize, &SentencePiece)| entry.kind() == Kind::UserDefined;
    let trainer = model.trainer.unwrap_or_default();
    let subwords = SubwordModel {
        algorithm: match trainer.model_type() {
            // The tokens of `Char` cannot be merged, and those of `Word` not be parts of a word: either algorithm finds them.
            ModelType::Bpe | ModelType::Char => Algorithm::Bpe,
            ModelType::Unigram | ModelType::Word => Algorithm::Unigram,
        },
        scores: model.pieces.iter().map(SentencePiece::score).collect(),
        user_defined: model
            .pieces
            .iter()
            .enumerate()
            .filter(is_user_defined)
            .map(|(id, _)| id)
            .collect(),
        normalization: normalization(&model.normalizer.unwrap_or_default(), &trainer),
    };
    Ok((model.pieces.iter().map(piece).collect(), subwords))
}

fn normalization(spec: &NormalizerSpec, trainer: &TrainerSpec) -> Normalization {
    Normalization {
        charsmap: spec.precompiled_charsmap.as_deref().and_then(Charsmap::parse),
        add_dummy_prefix: spec.add_dummy_prefix(),
        remove_extra_spaces: spec.remove_extra_whitespaces(),
        escape_spaces: spec.escape_whitespaces(),
        space_is_suffix: trainer.treat_whitespace_as_suffix(),
    }
}
