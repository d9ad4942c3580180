// SPDX-License-Identifier: MIT OR Apache-2.0

//! How far a stream is in the phrases of its tree.

use super::{BoostingTree, tree::ROOT};

/// A tree, and the node of the tokens so far.
#[derive(Debug, Clone)]
pub(crate) struct Boosting {
    tree: BoostingTree,
    node: u32,
}

impl Boosting {
    /// At the start of all phrases.
    pub(crate) fn new(tree: BoostingTree) -> Self {
        Self { tree, node: ROOT }
    }

    pub(crate) fn tree(&self) -> &BoostingTree {
        &self.tree
    }

    /// Goes back to the start of all phrases.
    pub(crate) fn reset(&mut self) {
        self.node = ROOT;
    }

    /// Chooses the next token where blank was not the best: the one with the highest sum of logit and boost, instead of
    /// `best`, which has the highest of the `logits`. They are without blank's. `excluded` is never chosen.
    pub(crate) fn choose(&mut self, logits: &[f32], best: usize, excluded: Option<usize>) -> usize {
        let tree = self.tree.tree();
        let token = tree.choose(self.node, logits, best, excluded);
        self.node = tree.score(self.node, token as u32).1;
        token
    }
}
