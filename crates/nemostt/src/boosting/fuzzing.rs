// SPDX-License-Identifier: MIT OR Apache-2.0

//! See [`crate::fuzzing`].

use std::{path::Path, sync::LazyLock};

use super::{Boosting, Hotwords, MAX_TOKENS, TreeCache};
use crate::text::Vocabulary;

/// SentencePiece models of each type, with and without rules of normalization, user-defined tokens and byte fallback.
const MODELS: [&str; 6] = ["bpe", "bpe_rules", "unigram", "unigram_rules", "char", "word"];
/// A list of tokens, and merges.
const LIST: &str = "<unk>\n▁\n▁a\na\nb\nB\nc\nab\n▁ab\n";
const JSON: &str = r#"{"model": {"type": "BPE", "vocab": {"<unk>": 0, "bc": 1, "ab": 2, "a": 3, "b": 4, "c": 5, "▁": 6},
    "merges": ["a b", "b c"]}}"#;
/// Tokens that are chosen with a tree.
const STEPS: usize = 64;

static VOCABULARIES: LazyLock<Vec<Vocabulary>> = LazyLock::new(|| {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/boosting");
    let models = MODELS.map(|model| {
        let path = data.join(model).with_extension("model");
        let bytes = std::fs::read(&path).expect("a model of the test data");
        parse("tokenizer.model", &bytes)
    });
    let others = [
        parse("vocab.txt", LIST.as_bytes()),
        parse("tokenizer.json", JSON.as_bytes()),
    ];
    models.into_iter().chain(others).collect()
});

fn parse(name: &str, bytes: &[u8]) -> Vocabulary {
    let count = Vocabulary::count(name, bytes).expect("a vocabulary");
    Vocabulary::parse(name, bytes, count).expect("as many tokens as were counted")
}

/// Parses `bytes`: a digit that selects a vocabulary, then a list of phrases, which are boosted.
pub fn hotwords(bytes: &[u8]) {
    let Some((kind, list)) = bytes.split_first() else {
        return;
    };
    let vocabulary = &VOCABULARIES[usize::from(kind.wrapping_sub(b'0')) % VOCABULARIES.len()];
    let hotwords = match Hotwords::parse(&String::from_utf8_lossy(list), Hotwords::DEFAULT_WEIGHT) {
        Ok(hotwords) => hotwords,
        Err(error) => {
            assert!(error.to_string().starts_with("hotwords: "), "{error}");
            return;
        }
    };
    let cache = TreeCache::default();
    let tree = cache.get_usable(vocabulary, &hotwords);
    let all = cache.get(vocabulary, &hotwords);
    let Ok(tree) = tree else {
        assert!(all.is_err() && !hotwords.is_empty());
        return;
    };
    assert_eq!(all.is_ok(), tree.skipped().is_none());
    assert_eq!(tree.phrases() < hotwords.len(), tree.skipped().is_some());
    assert!(tree.phrases() <= hotwords.len() && tree.nodes() <= 1 + MAX_TOKENS);
    assert_eq!(tree.nodes() == 1, tree.phrases() == 0);
    // With equal logits, the phrases are followed.
    let logits = vec![0.0; vocabulary.len()];
    let mut boosting = Boosting::new(tree);
    for step in 0..STEPS {
        let excluded = (step % 8 == 7).then_some(1);
        let token = boosting.choose(&logits, 0, excluded);
        assert!(token < logits.len() && excluded != Some(token), "{token}");
    }
}
