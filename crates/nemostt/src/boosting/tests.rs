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
    let error = |list: &str| error_of(&vocabulary(), &hotwords(list));
    let text = error("ab, aß, b, b!ab?!");
    assert!(text.contains("\"aß\" ('ß'), \"b!ab?!\" ('!', '?');"), "{text}");
    let many: Vec<String> = (0..12).map(|number| format!("a{number}x")).collect();
    let text = error(&many.join(","));
    assert!(
        text.contains("\"a9x\"") && text.contains("and 2 more") && !text.contains("a10x"),
        "{text}"
    );
}

fn error_of(vocabulary: &Vocabulary, hotwords: &Hotwords) -> String {
    let error = TreeCache::default().get(vocabulary, hotwords).unwrap_err();
    assert!(matches!(error, Error::Hotwords { .. }));
    error.to_string()
}

/// A model that replaces "ﬁ" by "fi", and "ﬂ" by nothing.
fn with_rules(name: &str) -> Vocabulary {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/boosting");
    let mut bytes = std::fs::read(format!("{directory}/{name}.model")).unwrap();
    let rule = bytes.windows(4).position(|bytes| bytes == b"\0fl\0").unwrap();
    bytes[rule + 1] = 0;
    let count = Vocabulary::count("tokenizer.model", &bytes).unwrap();
    Vocabulary::parse("tokenizer.model", &bytes, count).unwrap()
}

#[test]
fn phrases_of_which_normalization_leaves_nothing_or_too_much_are_named() {
    // The second one keeps spaces, so that the boundary before the phrase is left.
    for model in ["bpe_rules", "unigram_rules"] {
        let text = error_of(&with_rules(model), &hotwords("machine, ﬂ"));
        assert!(text.contains("nothing is left of \"ﬂ\""), "{model}: {text}");
    }
    let vocabulary = with_rules("bpe_rules");
    let text = error_of(&vocabulary, &hotwords(&"ﬁ".repeat(151)));
    assert!(text.contains("more than 300 characters of \"ﬁ"), "{text}");
    let tree = BoostingTree::new(&vocabulary, &hotwords(&"ﬁ".repeat(150))).unwrap();
    assert_eq!(tree.skipped(), None);
}

#[test]
fn phrases_that_can_be_tokenized_are_boosted_where_others_may_be_skipped() {
    let (vocabulary, cache) = (vocabulary(), TreeCache::default());
    let list = hotwords("ab, aß");
    let tree = cache.get_usable(&vocabulary, &list).unwrap();
    let expected = BoostingTree::new(&vocabulary, &hotwords("ab")).unwrap();
    assert_eq!((tree.tree(), tree.phrases()), (expected.tree(), 1));
    assert!(tree.skipped().unwrap().contains("\"aß\" ('ß')"));
    assert!(cache.get(&vocabulary, &list).is_err(), "also where the tree is known");
    assert!(cache.get_usable(&vocabulary, &hotwords("aß")).is_err());
    assert!(cache.get_usable(&vocabulary, &Hotwords::default()).is_ok());
}

#[test]
fn tokens_of_all_phrases_are_limited() {
    let list = |count: usize| {
        let mut hotwords = Hotwords::default();
        for number in 0..count {
            // Each letter is a token, and there are two spellings.
            let start: String = (0..12)
                .map(|bit| if number >> bit & 1 == 1 { 'b' } else { 'a' })
                .collect();
            hotwords.push(&format!("a{start}{}", "b".repeat(187)), 1.0).unwrap();
        }
        hotwords
    };
    let most = BoostingTree::new(&vocabulary(), &list(1250)).unwrap();
    assert_eq!(most.phrases(), 1250);
    let text = error_of(&vocabulary(), &list(1300));
    assert!(
        text.contains("the first 1251 of 1300 phrases have 500400 tokens, expected at most 500000"),
        "{text}"
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
    let again = cache.get(&vocabulary, &hotwords("ab:2")).unwrap();
    assert!(Arc::ptr_eq(&again.shared, &other.shared));
    assert_eq!(lock(&cache.trees).len(), 1, "the first tree is gone, with its phrases");
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
