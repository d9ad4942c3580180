// SPDX-License-Identifier: MIT OR Apache-2.0

//! Constant folding.

use std::collections::{HashMap, HashSet};

use super::{
    const_eval::evaluate,
    constant::{Constant, attribute},
};
use crate::{Graph, NodeProto, TensorProto};

/// Most bytes of all values that are computed before anything runs: NeMo's exports have 60 kB a layer.
const FOLDED: usize = 64 << 20;

impl Graph {
    /// Computes whatever is fixed by now, and takes out what does nothing.
    ///
    /// The nodes must be [sorted](Self::sort).
    pub(crate) fn fold(&mut self) {
        let outputs: HashSet<String> = self.outputs.iter().map(|output| output.name().to_owned()).collect();
        let mut same: HashMap<String, String> = HashMap::new();
        let mut room = FOLDED;
        for mut node in std::mem::take(&mut self.nodes) {
            for input in &mut node.input {
                if let Some(other) = same.get(input) {
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
                    && let Some(left) = room.checked_sub(value.raw.len())
                {
                    room = left;
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
                    same.insert(output, node.input[0].clone());
                    continue;
                }
            }
            self.record_shapes(&node);
            self.nodes.push(node);
        }
    }

    /// Lets outputs that are nothing but what another node makes be made by that one.
    pub(crate) fn forward_outputs(&mut self) {
        let names: Vec<String> = self.outputs.iter().map(|output| output.name().to_owned()).collect();
        for name in &names {
            let index = self.index();
            let passes_on = |&number: &usize| {
                let node = &self.nodes[number];
                node.output.len() == 1 && self.movement(node).is_some_and(|movement| movement.is_noop())
            };
            let Some(number) = index.producer(name).filter(passes_on) else {
                continue;
            };
            let made = self.nodes[number].input[0].clone();
            if index.producer(&made).is_some() && !names.contains(&made) {
                self.detach(number);
                self.rename_uses(&made, name);
                self.rename_output(&made, name);
            }
        }
    }

    /// The value of a node's one output, if it is fixed.
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
                let given = |name: &String| match name.as_str() {
                    "" => Some(None),
                    name => self.value(name).map(Some),
                };
                let values: Vec<Option<Constant>> = node.input.iter().map(given).collect::<Option<_>>()?;
                evaluate(node, &values.iter().map(Option::as_ref).collect::<Vec<_>>())
            }
        }
    }
}
