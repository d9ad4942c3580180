// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reads the tokens of a `tokenizer.json`, the format of Hugging Face's tokenizers, with merges or scores, or of a
//! `vocab.json`. Normalizers and pre-tokenizers are not read: text is normalized as SentencePiece does by default.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use super::{
    tokenize::{Algorithm, Normalization, SubwordModel},
    tokenizer::TokenText,
};

#[derive(Deserialize)]
#[serde(untagged)]
enum File {
    Tokenizer(Tokenizer),
    /// `vocab.json`, a list of tokens.
    List(Vec<String>),
    /// `vocab.json`, from token to id.
    Ids(BTreeMap<String, usize>),
    /// `vocab.json`, from id to token.
    Pieces(BTreeMap<String, String>),
}

#[derive(Deserialize)]
struct Tokenizer {
    model: Model,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
}

#[derive(Deserialize)]
struct Model {
    vocab: Vocab,
    #[serde(default)]
    merges: Vec<Merge>,
}

/// Two tokens that BPE merges; in older files as one string.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Joined(String),
}

impl Merge {
    /// The token that they become.
    fn merged(&self) -> String {
        match self {
            Self::Pair(left, right) => format!("{left}{right}"),
            Self::Joined(pair) => pair.replacen(' ', "", 1),
        }
    }
}

/// BPE and WordPiece map tokens to ids; Unigram lists them with their scores.
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

/// The tokens in the order of their ids, and how text is divided into them, if the file says so.
pub(super) fn parse(bytes: &[u8]) -> Result<(Vec<TokenText>, Option<SubwordModel>), String> {
    let file: File = serde_json::from_slice(bytes)
        .map_err(|error| format!("it is truncated or neither a tokenizer.json nor a vocab.json ({error})"))?;
    let by_id = |ids: BTreeMap<String, usize>| ids.iter().map(|(text, &id)| (id, TokenText::parse(text))).collect();
    let mut tokens: BTreeMap<usize, TokenText> = BTreeMap::new();
    let (mut added, mut merges, mut unigram) = (Vec::new(), Vec::new(), None);
    match file {
        File::List(list) => tokens.extend(list.iter().map(|text| TokenText::parse(text)).enumerate()),
        File::Ids(ids) => tokens = by_id(ids),
        File::Pieces(map) => {
            for (id, text) in &map {
                let id = id.parse().map_err(|_| format!("\"{id}\" is not an id"))?;
                tokens.insert(id, TokenText::parse(text));
            }
        }
        File::Tokenizer(tokenizer) => {
            added = tokenizer.added_tokens;
            merges = tokenizer.model.merges;
            match tokenizer.model.vocab {
                Vocab::Ids(ids) => tokens = by_id(ids),
                Vocab::Scores(list) => {
                    tokens.extend(list.iter().map(|(text, _)| TokenText::parse(text)).enumerate());
                    unigram = Some(list.iter().map(|&(_, score)| score as f32).collect());
                }
            }
        }
    }
    for token in added {
        tokens.insert(token.id, TokenText::parse(&token.content));
    }
    let ids = tokens.keys().copied();
    match ids.zip(0..).find(|(id, expected)| id != expected) {
        Some((_, missing)) => Err(format!("it has no token for id {missing}; ids must count up from 0")),
        None => {
            let tokens: Vec<TokenText> = tokens.into_values().collect();
            let subwords = subwords(&tokens, &merges, unigram);
            Ok((tokens, subwords))
        }
    }
}

/// How text is divided into `tokens`: by `merges`, in their order, or by the scores of `unigram`.
fn subwords(tokens: &[TokenText], merges: &[Merge], unigram: Option<Vec<f32>>) -> Option<SubwordModel> {
    let (algorithm, mut scores) = match unigram {
        Some(scores) => (Algorithm::Unigram, scores),
        None if merges.is_empty() => return None,
        None => {
            let mut ranks: HashMap<String, usize> = HashMap::with_capacity(merges.len());
            for (rank, merge) in merges.iter().enumerate() {
                ranks.entry(merge.merged()).or_insert(rank);
            }
            let rank = |token: &TokenText| match token {
                TokenText::Text(text) => ranks.get(text).copied(),
                _ => None,
            };
            // Tokens that no merge makes are characters.
            let score = |token| rank(token).map_or(f32::NEG_INFINITY, |rank| -(rank as f32));
            (Algorithm::Bpe, tokens.iter().map(score).collect())
        }
    };
    scores.resize(tokens.len(), 0.0);
    Some(SubwordModel {
        algorithm,
        scores,
        user_defined: Vec::new(),
        normalization: Normalization::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(bytes: &[u8]) -> Result<Vec<TokenText>, String> {
        parse(bytes).map(|(tokens, _)| tokens)
    }

    fn text(text: &str) -> TokenText {
        TokenText::Text(text.into())
    }

    #[test]
    fn tokenizer_json_of_bpe_and_unigram() {
        let bpe = r#"{"model": {"type": "BPE", "vocab": {"\u2581a": 1, "<unk>": 0}, "merges": []},
                      "added_tokens": [{"id": 2, "content": "<EOU>", "special": true}]}"#;
        let expected = [
            TokenText::Unknown,
            text("\u{2581}a"),
            TokenText::Control("<EOU>".into()),
        ];
        assert_eq!(tokens(bpe.as_bytes()).unwrap(), expected);
        let unigram = r#"{"model": {"type": "Unigram", "vocab": [["<unk>", 0.0], ["\u2581a", -1.5]]}}"#;
        assert_eq!(tokens(unigram.as_bytes()).unwrap(), expected[..2]);
    }

    #[test]
    fn vocab_json_in_three_forms() {
        for file in [
            r#"["<unk>", "\u2581a"]"#,
            r#"{"<unk>": 0, "\u2581a": 1}"#,
            r#"{"0": "<unk>", "1": "\u2581a"}"#,
        ] {
            assert_eq!(
                tokens(file.as_bytes()).unwrap(),
                [TokenText::Unknown, text("\u{2581}a")],
                "{file}"
            );
        }
    }

    #[test]
    fn missing_ids_and_invalid_json_are_rejected() {
        let hole = tokens(br#"{"model": {"vocab": {"a": 0, "b": 2}}}"#).unwrap_err();
        assert!(hole.contains("id 1"), "{hole}");
        for rubbish in [&b""[..], b"[1]", b"{\"a\": []}", br#"{"model": {"vocab": 3}}"#] {
            assert!(tokens(rubbish).unwrap_err().contains("tokenizer.json"));
        }
    }
}
