// SPDX-License-Identifier: MIT OR Apache-2.0

//! Shallow fusion: what phrases and a language model add to the scores of tokens.

use crate::{boosting::BoostingTree, language_model::LanguageModel};

/// What is added to the model's scores.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fusion {
    /// Phrases to prefer; their weights are in the tree (NeMo's `boosting_tree_alpha` is 1).
    pub(crate) tree: Option<BoostingTree>,
    /// A language model and its weight (NeMo's `ngram_lm_alpha`).
    pub(crate) language_model: Option<(LanguageModel, f32)>,
}

/// Where the tokens of a hypothesis have led to.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct FusionState {
    node: u32,
    context: u32,
}

impl FusionState {
    /// As if no phrase had begun.
    pub(super) fn without_phrase(self) -> Self {
        Self { node: 0, ..self }
    }
}

impl Fusion {
    pub(super) fn is_none(&self) -> bool {
        self.tree.is_none() && self.language_model.is_none()
    }

    /// Sum of the weights.
    pub(super) fn weight(&self) -> f32 {
        let tree = if self.tree.is_some() { 1.0 } else { 0.0 };
        tree + self.language_model.as_ref().map_or(0.0, |(_, weight)| *weight)
    }

    /// The state before the first token.
    pub(super) fn start(&self) -> FusionState {
        FusionState {
            node: 0,
            context: self.language_model.as_ref().map_or(0, |(model, _)| model.start()),
        }
    }

    /// Writes what is added to the score of each token; `scratch` is of any contents.
    pub(super) fn scores(&self, state: FusionState, scores: &mut [f32], scratch: &mut Vec<f32>) {
        match &self.tree {
            Some(tree) => tree.scores(state.node, scores),
            None => scores.fill(0.0),
        }
        // Tokens that the model excludes have a score of minus infinity, which gives NaN times 0.
        if let Some((model, weight)) = self.language_model.as_ref().filter(|(_, weight)| *weight != 0.0) {
            scratch.clear();
            scratch.resize(scores.len(), 0.0);
            model.scores(state.context, scratch);
            for (score, added) in scores.iter_mut().zip(scratch) {
                *score += weight * *added;
            }
        }
    }

    /// The state after `token`.
    pub(super) fn next(&self, state: FusionState, token: usize) -> FusionState {
        FusionState {
            node: self.tree.as_ref().map_or(0, |tree| tree.next(state.node, token)),
            context: match &self.language_model {
                Some((model, _)) => model.next(state.context, token),
                None => 0,
            },
        }
    }

    /// What the end of an utterance adds.
    pub(super) fn end(&self, state: FusionState) -> f64 {
        let end = |(model, weight): &(LanguageModel, f32)| f64::from(weight * model.end(state.context));
        self.language_model.as_ref().map_or(0.0, end)
    }
}
