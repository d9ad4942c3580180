// SPDX-License-Identifier: MIT OR Apache-2.0

//! Boosting: phrases that are recognized more often than the model alone would.
//!
//! [`Hotwords`] are tokenized as the model's own text is, and put into a prefix tree. While tokens are decoded, those that go
//! on with a phrase get a higher score ("shallow fusion"). A tree is built once, and shared by all streams that use it; a
//! stream has the node that it is at.

mod hotwords;
mod state;
mod tree;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, Weak},
};

pub use hotwords::{Hotword, Hotwords};
pub(crate) use state::Boosting;
use tree::Tree;

use crate::{
    error::{Error, Result},
    sync::lock,
    text::{Tokenizer, Vocabulary},
};

/// Phrases that an error names at most.
const NAMED: usize = 10;

/// Phrases in the tokens of a model, ready to be boosted in its streams. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BoostingTree {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    tree: Tree,
    phrases: usize,
    /// Hash of the vocabulary that its tokens are from.
    vocabulary: u64,
}

impl BoostingTree {
    /// Tokenizes `hotwords`, and puts them into a tree.
    ///
    /// # Errors
    /// [`Error::Hotwords`] with the phrases that cannot be tokenized, and their characters that have no token.
    pub(crate) fn new(vocabulary: &Vocabulary, hotwords: &Hotwords) -> Result<Self> {
        let tokenizer = Tokenizer::new(vocabulary);
        let mut phrases = Vec::with_capacity(hotwords.len());
        let mut unknown = Vec::new();
        for Hotword { phrase, weight } in hotwords.iter() {
            for (number, spelling) in tokenizer.spellings(phrase).iter().enumerate() {
                match tokenizer.encode(spelling) {
                    Ok(tokens) => phrases.push((tokens, *weight)),
                    Err(chars) if number == 0 => unknown.push((phrase, chars)),
                    // A capital that the model does not have.
                    Err(_) => {}
                }
            }
        }
        if !unknown.is_empty() {
            return Err(Error::Hotwords {
                reason: describe_unknown(&unknown),
            });
        }
        Ok(Self {
            shared: Arc::new(Shared {
                tree: Tree::new(&phrases),
                phrases: hotwords.len(),
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
                vocabulary: 0,
            }),
        }
    }

    /// Number of phrases.
    pub fn phrases(&self) -> usize {
        self.shared.phrases
    }

    /// Number of nodes: the different starts of its phrases.
    pub fn nodes(&self) -> usize {
        self.shared.tree.len()
    }

    /// Whether its tokens are those of `vocabulary`.
    pub(crate) fn is_of(&self, vocabulary: &Vocabulary) -> bool {
        self.shared.vocabulary == hash(vocabulary)
    }

    fn tree(&self) -> &Tree {
        &self.shared.tree
    }
}

fn hash(vocabulary: &Vocabulary) -> u64 {
    let mut hasher = DefaultHasher::new();
    vocabulary.tokens().hash(&mut hasher);
    hasher.finish()
}

fn describe_unknown(unknown: &[(&String, Vec<char>)]) -> String {
    let describe = |(phrase, chars): &(&String, Vec<char>)| {
        let chars: Vec<String> = chars.iter().map(|c| format!("'{c}'")).collect();
        format!("\"{phrase}\" ({})", chars.join(", "))
    };
    let mut named: Vec<String> = unknown.iter().take(NAMED).map(describe).collect();
    if unknown.len() > NAMED {
        named.push(format!("and {} more", unknown.len() - NAMED));
    }
    format!(
        "the model has no tokens for some characters of {}; spell them as the model writes text, or remove them",
        named.join(", ")
    )
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
    /// As [`BoostingTree::new`].
    pub(crate) fn get(&self, vocabulary: &Vocabulary, hotwords: &Hotwords) -> Result<BoostingTree> {
        if let Some(tree) = self.find(hotwords) {
            return Ok(tree);
        }
        // Not under the lock: other streams need not wait. At worst, a tree is built twice.
        let tree = BoostingTree::new(vocabulary, hotwords)?;
        let mut trees = lock(&self.trees);
        trees.retain(|(_, tree)| tree.strong_count() > 0);
        trees.push((hotwords.clone(), Arc::downgrade(&tree.shared)));
        Ok(tree)
    }

    fn find(&self, hotwords: &Hotwords) -> Option<BoostingTree> {
        let trees = lock(&self.trees);
        let found = trees.iter().filter(|(other, _)| other == hotwords);
        let shared = found.filter_map(|(_, tree)| tree.upgrade()).next()?;
        Some(BoostingTree { shared })
    }
}

#[cfg(test)]
mod tests;
