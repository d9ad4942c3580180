// SPDX-License-Identifier: MIT OR Apache-2.0

//! The initializers of a graph, in their order and by name.

use std::{collections::HashMap, ops::Deref};

use crate::TensorProto;

/// Initializers, ordered and indexed by name. Their names must not be changed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Initializers {
    tensors: Vec<TensorProto>,
    /// Index of each name. Validation rejects duplicate names; otherwise, the last one counts.
    index: HashMap<String, usize>,
}

impl Initializers {
    pub(crate) fn get(&self, name: &str) -> Option<&TensorProto> {
        self.index.get(name).map(|&position| &self.tensors[position])
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }

    /// Adds a tensor, or replaces the one of the same name.
    pub(crate) fn insert(&mut self, tensor: TensorProto) {
        match self.index.get(tensor.name()) {
            Some(&position) => self.tensors[position] = tensor,
            None => {
                self.index.insert(tensor.name().to_owned(), self.tensors.len());
                self.tensors.push(tensor);
            }
        }
    }

    /// Their values may change, their names may not.
    pub(crate) fn iter_mut(&mut self) -> std::slice::IterMut<'_, TensorProto> {
        self.tensors.iter_mut()
    }

    pub(crate) fn sort_by_name(&mut self) {
        self.tensors.sort_by(|a, b| a.name().cmp(b.name()));
        self.index = index(&self.tensors);
    }

    pub(crate) fn retain(&mut self, keep: impl FnMut(&TensorProto) -> bool) {
        self.tensors.retain(keep);
        self.index = index(&self.tensors);
    }
}

impl Extend<TensorProto> for Initializers {
    fn extend<T: IntoIterator<Item = TensorProto>>(&mut self, tensors: T) {
        tensors.into_iter().for_each(|tensor| self.insert(tensor));
    }
}

impl From<Vec<TensorProto>> for Initializers {
    fn from(tensors: Vec<TensorProto>) -> Self {
        Self {
            index: index(&tensors),
            tensors,
        }
    }
}

impl From<Initializers> for Vec<TensorProto> {
    fn from(initializers: Initializers) -> Self {
        initializers.tensors
    }
}

impl Deref for Initializers {
    type Target = [TensorProto];

    fn deref(&self) -> &[TensorProto] {
        &self.tensors
    }
}

fn index(tensors: &[TensorProto]) -> HashMap<String, usize> {
    let positions = tensors.iter().enumerate();
    positions
        .map(|(position, tensor)| (tensor.name().to_owned(), position))
        .collect()
}
