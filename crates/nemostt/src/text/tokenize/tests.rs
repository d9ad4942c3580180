// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tokens of texts, compared with those of SentencePiece.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

use super::*;

/// A model in `tests/data/boosting/tokenize.json`.
#[derive(Deserialize)]
struct Golden {
    pieces: Vec<String>,
    /// SentencePiece's ids of texts; 0 is the unknown token.
    ids: BTreeMap<String, Vec<usize>>,
}

fn data(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/boosting")).join(path)
}

fn goldens() -> BTreeMap<String, Golden> {
    serde_json::from_slice(&std::fs::read(data("tokenize.json")).unwrap()).unwrap()
}

fn model(name: &str, golden: &Golden) -> Vocabulary {
    let bytes = std::fs::read(data(&format!("{name}.model"))).unwrap();
    Vocabulary::parse("tokenizer.model", &bytes, golden.pieces.len()).unwrap()
}

fn assert_same(name: &str, vocabulary: &Vocabulary, golden: &Golden) {
    let tokenizer = Tokenizer::new(vocabulary);
    let mut unknown = 0;
    // A list does not say what is normalized: letters such as those that spellings replace, and spaces.
    let is_list = vocabulary.subwords().is_none();
    let is_normal = |text: &str| text.is_ascii() && text.split_whitespace().collect::<Vec<_>>().join(" ") == text;
    for (text, expected) in &golden.ids {
        if is_list && !is_normal(text) {
            continue;
        }
        let text = match is_list {
            true => &tokenizer.spellings(text)[0],
            false => text,
        };
        match tokenizer.encode(text) {
            Ok(ids) => assert_eq!(&ids, expected, "{name}: {text:?}"),
            Err(reason) => {
                unknown += 1;
                assert!(expected.contains(&0), "{name}: {text:?} has no tokens: {reason:?}");
            }
        }
    }
    assert!(golden.ids.len() - unknown > 30, "{name}: {unknown} are unknown");
}

#[test]
fn sentencepiece_models_tokenize_as_sentencepiece() {
    let goldens = goldens();
    assert_eq!(goldens.len(), 7);
    for (name, golden) in &goldens {
        assert_same(name, &model(name, golden), golden);
    }
}

#[test]
fn list_of_bpe_tokens_tokenizes_as_sentencepiece() {
    let goldens = goldens();
    for name in ["bpe", "char", "../tiny_random/tokenizer"] {
        let golden = &goldens[name];
        let lines: String = golden.pieces.iter().map(|piece| format!("{piece}\n")).collect();
        let vocabulary = Vocabulary::parse("vocab.txt", lines.as_bytes(), golden.pieces.len()).unwrap();
        assert!(vocabulary.subwords().is_none());
        assert_eq!(SubwordModel::of_list(vocabulary.tokens()).algorithm, Algorithm::Bpe);
        assert_same(name, &vocabulary, golden);
    }
}

#[test]
fn list_of_unigram_tokens_gives_the_text_in_few_tokens() {
    let golden = &goldens()["unigram"];
    let lines: String = golden.pieces.iter().map(|piece| format!("{piece}\n")).collect();
    let vocabulary = Vocabulary::parse("vocab.txt", lines.as_bytes(), golden.pieces.len()).unwrap();
    assert_eq!(SubwordModel::of_list(vocabulary.tokens()).algorithm, Algorithm::Unigram);
    let tokenizer = Tokenizer::new(&vocabulary);
    for (text, expected) in golden.ids.iter().filter(|(_, ids)| !ids.contains(&0)) {
        let ids = tokenizer.encode(text).unwrap();
        let joined = |ids: &[usize]| ids.iter().map(|&id| golden.pieces[id].as_str()).collect::<String>();
        assert_eq!(joined(&ids), joined(expected));
        assert!(ids.len() <= expected.len(), "{text:?}");
    }
}

#[test]
fn file_beside_the_list_completes_it_if_it_has_the_same_tokens() {
    let goldens = goldens();
    let golden = &goldens["unigram"];
    let lines: String = golden.pieces.iter().map(|piece| format!("{piece}\n")).collect();
    let list = Vocabulary::parse("vocab.txt", lines.as_bytes(), golden.pieces.len()).unwrap();
    let bytes = |name: &str| std::fs::read(data(&format!("{name}.model"))).unwrap();
    let mut completed = list.clone();
    completed.complete_from("tokenizer.model", &bytes("bpe"));
    assert_eq!(completed, list);
    completed.complete_from("tokenizer.model", &bytes("unigram"));
    assert_same("unigram", &completed, golden);
}

#[test]
fn tokenizer_json_merges_in_its_order() {
    // "ab" comes before "bc", whatever their ids are; "xa" is merged from nothing.
    let json = r#"{"model": {"type": "BPE", "vocab": {"<unk>": 0, "bc": 1, "ab": 2, "a": 3, "b": 4, "c": 5, "▁": 6, "xa": 7},
                   "merges": ["a b", ["b", "c"]]}}"#;
    let vocabulary = Vocabulary::parse("tokenizer.json", json.as_bytes(), 8).unwrap();
    let tokenizer = Tokenizer::new(&vocabulary);
    assert_eq!(tokenizer.encode("abc"), Ok(vec![6, 2, 5]));
    assert_eq!(tokenizer.encode("xa"), Err(NotEncoded::Unknown(vec!['x'])));
}

#[test]
fn unknown_characters_are_named_once() {
    let list = "<unk> 0\n▁ 1\na 2\nb 3\n";
    let vocabulary = Vocabulary::parse("tokens.txt", list.as_bytes(), 4).unwrap();
    let tokenizer = Tokenizer::new(&vocabulary);
    assert_eq!(tokenizer.encode("b a"), Ok(vec![1, 3, 1, 2]));
    assert_eq!(tokenizer.encode("aßbxß"), Err(NotEncoded::Unknown(vec!['ß', 'x'])));
}

#[test]
fn spellings_have_the_letters_of_the_model() {
    let spellings = |list: &str| {
        let vocabulary = Vocabulary::parse("tokens.txt", list.as_bytes(), 2).unwrap();
        let tokenizer = Tokenizer::new(&vocabulary);
        [tokenizer.spellings("éa Bc"), tokenizer.spellings("McX")]
    };
    assert_eq!(spellings("▁a 0\nb 1\n"), [vec!["éa bc"], vec!["mcx"]]);
    assert_eq!(spellings("▁A 0\nB 1\n"), [vec!["ÉA BC"], vec!["MCX"]]);
    assert_eq!(spellings("▁A 0\nb 1\n"), [vec!["éa Bc", "Éa Bc"], vec!["McX"]]);
    assert_eq!(spellings("▁日 0\n本 1\n"), [vec!["éa Bc", "Éa Bc"], vec!["McX"]]);
}
