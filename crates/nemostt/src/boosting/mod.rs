// SPDX-License-Identifier: MIT OR Apache-2.0

//! Boosting: phrases that are recognized more often than the model alone would.
//!
//! [`Hotwords`] are tokenized as the model's own text is, and put into a prefix tree. While tokens are decoded, those that go
//! on with a phrase get a higher score ("shallow fusion"). A tree is built once, and shared by all streams that use it; a
//! stream has the node that it is at.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod hotwords;
mod skipped;
mod state;
mod tree;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, Weak},
};

pub use hotwords::{Hotword, Hotwords};
use skipped::Skipped;
pub(crate) use state::Boosting;
use tree::Tree;

use crate::{
    error::{Error, Result},
    sync::lock,
    text::{TokenText, Tokenizer, Vocabulary},
};

/// Most tokens of all phrases and their spellings: 10,000 phrases of 25 tokens, twice. While a tree is
/// built, one takes some 200 bytes.
const MAX_TOKENS: usize = 500_000;

/// Phrases in the tokens of a model, ready to be boosted in its streams. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BoostingTree {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    tree: Tree,
    phrases: usize,
    /// Which phrases are missing, and why.
    skipped: Option<String>,
    /// Hash of the vocabulary that its tokens are from.
    vocabulary: u64,
}

impl BoostingTree {
    /// Tokenizes `hotwords`, and puts those that the model can write into a tree.
    ///
    /// # Errors
    /// [`Error::Hotwords`] if they have too many tokens.
    fn new(vocabulary: &Vocabulary, hotwords: &Hotwords) -> Result<Self> {
        let tokenizer = Tokenizer::new(vocabulary);
        let mut phrases = Vec::with_capacity(hotwords.len());
        let mut skipped = Skipped::default();
        let (mut count, mut total) = (0, 0);
        for (number, Hotword { phrase, weight }) in (1..).zip(hotwords.iter()) {
            let mut spellings = tokenizer.spellings(phrase).into_iter();
            let as_given = spellings.next().unwrap_or_default();
            match tokenizer.encode(&as_given) {
                Ok(tokens) if is_blank(vocabulary, &tokens) => skipped.push_empty(phrase),
                Err(reason) => skipped.push(phrase, &reason),
                Ok(tokens) => {
                    count += 1;
                    total += tokens.len();
                    phrases.push((tokens, *weight));
                }
            }
            // A capital that the model does not have is no reason to skip the phrase.
            for tokens in spellings.filter_map(|spelling| tokenizer.encode(&spelling).ok()) {
                total += tokens.len();
                phrases.push((tokens, *weight));
            }
            if total > MAX_TOKENS {
                return Err(Error::Hotwords {
                    reason: format!(
                        "the first {number} of {} phrases have {total} tokens, expected at most {MAX_TOKENS} in all; give fewer \
                         phrases, or shorter ones",
                        hotwords.len()
                    ),
                });
            }
        }
        Ok(Self {
            shared: Arc::new(Shared {
                tree: Tree::new(&phrases),
                phrases: count,
                skipped: skipped.describe(),
                vocabulary: hash(vocabulary),
            }),
        })
    }

    /// A tree of phrases that are tokens already.
    #[cfg(test)]
    pub(crate) fn of_tokens(phrases: &[(Vec<usize>, f32)]) -> Self {
        let tree = Tree::new(phrases);
        Self {
            shared: Arc::new(Shared {
                tree,
                phrases: phrases.len(),
                skipped: None,
                vocabulary: 0,
            }),
        }
    }

    /// Number of phrases.
    pub fn phrases(&self) -> usize {
        self.shared.phrases
    }

    /// Which phrases are missing and why, in a tree of
    /// [`Recognizer::boosting_tree_of_usable`](crate::Recognizer::boosting_tree_of_usable).
    pub fn skipped(&self) -> Option<&str> {
        self.shared.skipped.as_deref()
    }

    /// Number of nodes: the different starts of its phrases.
    pub fn nodes(&self) -> usize {
        self.shared.tree.len()
    }

    /// Whether its tokens are those of `vocabulary`.
    pub(crate) fn is_of(&self, vocabulary: &Vocabulary) -> bool {
        self.shared.vocabulary == hash(vocabulary)
    }

    /// Writes what each token adds to the score after `node`.
    pub(crate) fn scores(&self, node: u32, scores: &mut [f32]) {
        self.shared.tree.scores(node, scores);
    }

    /// The node after `token`. The start of all phrases is 0.
    pub(crate) fn next(&self, node: u32, token: usize) -> u32 {
        self.shared.tree.score(node, token as u32).1
    }

    fn tree(&self) -> &Tree {
        &self.shared.tree
    }
}

/// Whether `tokens` are boundaries of words, and nothing else.
fn is_blank(vocabulary: &Vocabulary, tokens: &[usize]) -> bool {
    tokens.iter().all(|&id| match vocabulary.piece(id) {
        Some(TokenText::Text(text)) => text.trim_matches('\u{2581}').is_empty(),
        _ => false,
    })
}

fn hash(vocabulary: &Vocabulary) -> u64 {
    let mut hasher = DefaultHasher::new();
    vocabulary.tokens().hash(&mut hasher);
    hasher.finish()
}

/// The trees of a model that are in use, so that streams with the same phrases share one.
#[derive(Debug, Default)]
pub(crate) struct TreeCache {
    trees: Mutex<Vec<(Hotwords, Weak<Shared>)>>,
}

impl TreeCache {
    /// The tree of `hotwords`.
    ///
    /// # Errors
    /// [`Error::Hotwords`] if they have too many tokens, or the model cannot write one of them.
    pub(crate) fn get(&self, vocabulary: &Vocabulary, hotwords: &Hotwords) -> Result<BoostingTree> {
        let tree = self.find_or_build(vocabulary, hotwords)?;
        match tree.skipped() {
            Some(reason) => Err(Error::Hotwords { reason: reason.into() }),
            None => Ok(tree),
        }
    }

    /// The tree of those of `hotwords` that the model can write.
    ///
    /// # Errors
    /// [`Error::Hotwords`] if they have too many tokens, or the model can write none of them.
    pub(crate) fn get_usable(&self, vocabulary: &Vocabulary, hotwords: &Hotwords) -> Result<BoostingTree> {
        let tree = self.find_or_build(vocabulary, hotwords)?;
        match tree.skipped() {
            Some(reason) if tree.phrases() == 0 => Err(Error::Hotwords { reason: reason.into() }),
            _ => Ok(tree),
        }
    }

    fn find_or_build(&self, vocabulary: &Vocabulary, hotwords: &Hotwords) -> Result<BoostingTree> {
        if let Some(tree) = self.find(hotwords) {
            return Ok(tree);
        }
        // Not under the lock: other streams need not wait. At worst, a tree is built twice.
        let tree = BoostingTree::new(vocabulary, hotwords)?;
        lock(&self.trees).push((hotwords.clone(), Arc::downgrade(&tree.shared)));
        Ok(tree)
    }

    /// The tree of `hotwords`, if there is one. Those that are no longer used are forgotten, with their phrases.
    fn find(&self, hotwords: &Hotwords) -> Option<BoostingTree> {
        let mut trees = lock(&self.trees);
        trees.retain(|(_, tree)| tree.strong_count() > 0);
        let found = trees.iter().filter(|(other, _)| other == hotwords);
        let shared = found.filter_map(|(_, tree)| tree.upgrade()).next()?;
        Some(BoostingTree { shared })
    }
}

#[cfg(test)]
mod tests;
