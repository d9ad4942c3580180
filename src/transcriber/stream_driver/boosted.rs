// SPDX-License-Identifier: MIT OR Apache-2.0

//! Phrases to boost, in the tokens of a model.

use nemostt::{BoostingTree, Recognizer};

use crate::transcriber::settings::Phrases;

/// What a stream is to boost from its next chunk on.
pub(in crate::transcriber) struct Boosted {
    /// That of the settings.
    pub(super) revision: u64,
    /// `None`: the previous phrases stay.
    pub(super) tree: Option<Option<BoostingTree>>,
    /// About phrases that cannot be used.
    pub(super) warning: Option<String>,
}

impl Boosted {
    /// Builds the tree of `phrases`, which may take some time. Those that the model cannot write are left out; if there are no
    /// others, the previous phrases stay.
    pub(in crate::transcriber) fn new(recognizer: &Recognizer, phrases: &Phrases) -> Self {
        let tree = match &phrases.list {
            Err(text) => Err(text.clone()),
            Ok(list) if list.is_empty() => Ok(None),
            Ok(list) => match recognizer.boosting_tree_of_usable(list) {
                Ok(tree) => Ok(Some(tree)),
                Err(error) => Err(error.to_string()),
            },
        };
        let (tree, warning) = match tree {
            Err(text) => (None, Some(format!("{text}. The previous phrases stay"))),
            Ok(tree) => {
                let skipped = tree.as_ref().and_then(BoostingTree::skipped);
                let warning = skipped.map(|reason| format!("hotwords: {reason}. The other phrases are boosted"));
                (Some(tree), warning)
            }
        };
        Self {
            revision: phrases.revision,
            tree,
            warning,
        }
    }
}
