// SPDX-License-Identifier: MIT OR Apache-2.0

//! From phrases to trees.

use super::*;

const TOKENS: &str = "<unk> 0\n▁a 1\n▁A 2\nb 3\n▁ 4\nB 5\na 6\n";

fn vocabulary() -> Vocabulary {
    Vocabulary::parse("tokens.txt", TOKENS.as_bytes(), 7).unwrap()
}

fn hotwords(list: &str) -> Hotwords {
    Hotwords::parse(list, 1.0).unwrap()
}

#[test]
fn phrases_are_boosted_as_written_and_at_the_start_of_a_sentence() {
    let tree = BoostingTree::new(&vocabulary(), &hotwords("ab:2, Ab:3")).unwrap();
    assert_eq!((tree.phrases(), tree.nodes()), (2, 5));
    let score = |tokens: &[u32]| {
        tokens.iter().fold((0.0, 0), |(sum, node), &token| {
            let (score, next) = tree.tree().score(node, token);
            (sum + score, next)
        })
    };
    // "▁a" + "b", and "▁A" + "b", which has the higher of the weights.
    assert_eq!(score(&[1, 3]).0, 2.0 + (4.0 + 2.0_f32.ln()));
    assert_eq!(score(&[2, 3]).0, 3.0 + (6.0 + 2.0_f32.ln()));
    assert_eq!(score(&[1, 1]).0, 2.0);
}

#[test]
fn phrases_that_cannot_be_tokenized_are_named_with_their_characters() {
    let error = BoostingTree::new(&vocabulary(), &hotwords("ab, aß, b, b!ab?!"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("\"aß\" ('ß'), \"b!ab?!\" ('!', '?');"), "{error}");
    let many: Vec<String> = (0..12).map(|number| format!("a{number}x")).collect();
    let error = BoostingTree::new(&vocabulary(), &hotwords(&many.join(",")))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("\"a9x\"") && error.contains("and 2 more") && !error.contains("a10x"),
        "{error}"
    );
}

#[test]
fn streams_with_the_same_phrases_share_a_tree() {
    let (vocabulary, cache) = (vocabulary(), TreeCache::default());
    let first = cache.get(&vocabulary, &hotwords("ab")).unwrap();
    let second = cache.get(&vocabulary, &hotwords("ab")).unwrap();
    assert!(Arc::ptr_eq(&first.shared, &second.shared));
    let other = cache.get(&vocabulary, &hotwords("ab:2")).unwrap();
    assert!(!Arc::ptr_eq(&first.shared, &other.shared));
    drop((first, second));
    cache.get(&vocabulary, &hotwords("b")).unwrap();
    assert_eq!(lock(&cache.trees).len(), 2, "the first tree is gone");
}

#[test]
fn tree_knows_its_vocabulary() {
    let tree = BoostingTree::new(&vocabulary(), &hotwords("ab")).unwrap();
    let other = Vocabulary::parse("tokens.txt", TOKENS.replace("▁a 1", "▁c 1").as_bytes(), 7).unwrap();
    assert!(tree.is_of(&vocabulary()) && !tree.is_of(&other));
}

#[test]
fn state_follows_the_chosen_tokens() {
    let tree = BoostingTree::new(&vocabulary(), &hotwords("ab b")).unwrap();
    let mut boosting = Boosting::new(tree);
    let mut logits = [0.0_f32; 7];
    logits[0] = 0.5;
    // 1 starts the phrase, then each next token gets more than any other.
    assert_eq!(boosting.choose(&logits, 0, None), 1);
    assert_eq!(boosting.choose(&logits, 0, None), 3);
    let mut copy = boosting.clone();
    boosting.reset();
    assert_eq!(boosting.choose(&logits, 0, None), 1);
    assert_eq!(
        copy.choose(&logits, 0, Some(4)),
        1,
        "the token that goes on is excluded, and the phrase begins again"
    );
}
