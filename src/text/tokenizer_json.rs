// SPDX-License-Identifier: MIT OR Apache-2.0

//! The pieces of a `tokenizer.json`, the format of Hugging Face's tokenizers: only what decoding needs.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::vocabulary::Piece;

#[derive(Deserialize)]
struct Tokenizer {
    model: Model,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
}

#[derive(Deserialize)]
struct Model {
    vocab: Vocab,
}

/// BPE and WordPiece map pieces to ids; Unigram lists them with their scores.
#[derive(Deserialize)]
#[serde(untagged)]
enum Vocab {
    Ids(BTreeMap<String, usize>),
    Scores(Vec<(String, f64)>),
}

#[derive(Deserialize)]
struct AddedToken {
    id: usize,
    content: String,
}

/// The pieces, in the order of their ids.
pub(super) fn pieces(bytes: &[u8]) -> Result<Vec<Piece>, String> {
    let tokenizer: Tokenizer =
        serde_json::from_slice(bytes).map_err(|error| format!("it is truncated or no tokenizer.json ({error})"))?;
    let mut pieces: BTreeMap<usize, Piece> = match tokenizer.model.vocab {
        Vocab::Ids(ids) => ids.iter().map(|(text, &id)| (id, Piece::parse(text))).collect(),
        Vocab::Scores(list) => list.iter().map(|(text, _)| Piece::parse(text)).enumerate().collect(),
    };
    for token in tokenizer.added_tokens {
        pieces.insert(token.id, Piece::parse(&token.content));
    }
    let ids = pieces.keys().copied();
    match ids.zip(0..).find(|(id, expected)| id != expected) {
        Some((_, missing)) => Err(format!("it has no piece for id {missing}; ids must count up from 0")),
        None => Ok(pieces.into_values().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(piece: &str) -> Piece {
        Piece::Text(piece.into())
    }

    #[test]
    fn both_kinds_of_vocabulary_are_read() {
        let bpe = r#"{"model": {"type": "BPE", "vocab": {"\u2581a": 1, "<unk>": 0}, "merges": []},
                      "added_tokens": [{"id": 2, "content": "<EOU>", "special": true}]}"#;
        let expected = [Piece::Unknown, text("\u{2581}a"), Piece::Control("<EOU>".into())];
        assert_eq!(pieces(bpe.as_bytes()).unwrap(), expected);
        let unigram = r#"{"model": {"type": "Unigram", "vocab": [["<unk>", 0.0], ["\u2581a", -1.5]]}}"#;
        assert_eq!(pieces(unigram.as_bytes()).unwrap(), expected[..2]);
    }

    #[test]
    fn holes_and_rubbish_are_refused() {
        let hole = pieces(br#"{"model": {"vocab": {"a": 0, "b": 2}}}"#).unwrap_err();
        assert!(hole.contains("id 1"), "{hole}");
        for rubbish in [&b""[..], b"{}", b"[1]", br#"{"model": {"vocab": 3}}"#] {
            assert!(pieces(rubbish).unwrap_err().contains("tokenizer.json"));
        }
    }
}
