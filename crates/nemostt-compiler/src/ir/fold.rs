// SPDX-License-Identifier: MIT OR Apache-2.0

//! Constant folding.

use std::collections::{HashMap, HashSet};

use super::{
    const_eval::evaluate,
    constant::{Constant, attribute},
};
use crate::{Graph, NodeProto, TensorProto};

/// Maximum bytes of all folded values: about 60 kB per layer in NeMo's exports.
const MAX_FOLDED_BYTES: usize = 64 << 20;

impl Graph {
    /// Folds constants and removes operators without effect.
    ///
    /// The nodes must be [sorted](Self::sort).
    pub(crate) fn fold(&mut self) {
        let outputs: HashSet<String> = self.outputs.iter().map(|output| output.name().to_owned()).collect();
        let mut aliases: HashMap<String, String> = HashMap::new();
        let mut remaining_bytes = MAX_FOLDED_BYTES;
        for mut node in std::mem::take(&mut self.nodes) {
            for input in &mut node.input {
                if let Some(other) = aliases.get(input) {
                    input.clone_from(other);
                }
            }
            let [output] = &node.output[..] else {
                self.record_shapes(&node);
                self.nodes.push(node);
                continue;
            };
            let output = output.clone();
            if !outputs.contains(&output) {
                if let Some(value) = self.const_output(&node)
                    && let Some(left) = remaining_bytes.checked_sub(value.raw.len())
                {
                    remaining_bytes = left;
                    self.add_weight(value.to_tensor(&output));
                    continue;
                }
                if node.op_type() == "Constant"
                    && let Some(tensor) = node.attribute.iter_mut().find_map(|a| a.t.take())
                {
                    let name = Some(output);
                    self.add_weight(TensorProto { name, ..tensor });
                    continue;
                }
                if self.movement(&node).is_some_and(|movement| movement.is_noop()) {
                    aliases.insert(output, node.input[0].clone());
                    continue;
                }
            }
            self.record_shapes(&node);
            self.nodes.push(node);
        }
    }

    /// Lets the producer of a tensor write the graph's output directly if only a no-op is in between.
    pub(crate) fn forward_outputs(&mut self) {
        let names: Vec<String> = self.outputs.iter().map(|output| output.name().to_owned()).collect();
        for name in &names {
            let index = self.index();
            let is_noop = |&number: &usize| {
                let node = &self.nodes[number];
                node.output.len() == 1 && self.movement(node).is_some_and(|movement| movement.is_noop())
            };
            let Some(number) = index.producer(name).filter(is_noop) else {
                continue;
            };
            let source = self.nodes[number].input[0].clone();
            if index.producer(&source).is_some() && !names.contains(&source) {
                self.detach(number);
                self.rename_uses(&source, name);
                self.rename_output(&source, name);
            }
        }
    }

    /// The value of a node's single output, if it is constant.
    fn const_output(&self, node: &NodeProto) -> Option<Constant> {
        match node.op_type() {
            "Constant" => {
                let attribute = node.attribute.first()?;
                match attribute.name() {
                    "value_int" => Some(Constant::of_ints(vec![], &[attribute.i()])),
                    "value_ints" => Some(Constant::of_ints(vec![attribute.ints.len()], &attribute.ints)),
                    "value_float" => Some(Constant::from_floats(vec![], &[attribute.f()])),
                    _ => None,
                }
            }
            "Shape" if attribute(node, "start").is_none() && attribute(node, "end").is_none() => {
                let dims: Vec<i64> = self.shape(node.input.first()?)?.iter().map(|&dim| dim as i64).collect();
                Some(Constant::of_ints(vec![dims.len()], &dims))
            }
            _ => {
                let input_value = |name: &String| match name.as_str() {
                    "" => Some(None),
                    name => self.value(name).map(Some),
                };
                let values: Vec<Option<Constant>> = node.input.iter().map(input_value).collect::<Option<_>>()?;
                evaluate(node, &values.iter().map(Option::as_ref).collect::<Vec<_>>())
            }
        }
    }
}
