// SPDX-License-Identifier: MIT OR Apache-2.0

//! Inputs and outputs of a graph, and renaming of tensors: what importing layouts needs.

use std::collections::HashSet;

use bytes::Bytes;

use super::constant::checked_dims;
use crate::onnx::types::{element_type, tensor_info};
use crate::{
    ElementType, Graph, NodeProto, TensorInfo, TensorProto, ValueInfoProto,
    onnx::{
        self,
        types::{code, value_info_of},
    },
};

/// Whether a tensor is an input or an output of the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Input,
    Output,
}

impl Side {
    /// Name for messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
        }
    }
}

impl Graph {
    /// The input or output with this name.
    pub(crate) fn find(&self, side: Side, name: &str) -> Option<TensorInfo> {
        self.infos(side)
            .iter()
            .find(|info| info.name() == name)
            .map(tensor_info)
    }

    fn infos(&self, side: Side) -> &[ValueInfoProto] {
        match side {
            Side::Input => &self.inputs,
            Side::Output => &self.outputs,
        }
    }

    pub(crate) fn infos_mut(&mut self, side: Side) -> &mut Vec<ValueInfoProto> {
        match side {
            Side::Input => &mut self.inputs,
            Side::Output => &mut self.outputs,
        }
    }

    /// Removes an input or output; the producer of an output remains until [`prune`](Self::prune).
    pub(crate) fn remove(&mut self, side: Side, name: &str) {
        self.infos_mut(side).retain(|info| info.name() != name);
    }

    /// Adds an input or output.
    pub(crate) fn declare(&mut self, side: Side, info: &TensorInfo) {
        self.infos_mut(side).push(value_info_of(info));
        self.record_shape(info);
    }

    /// Renames tensor `from` to `to` everywhere. A tensor that was called `to` is renamed, too.
    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        if from == to {
            return;
        }
        if self.mentions(to) {
            let unused = self.unique_name(to);
            self.rename_all(to, &unused);
        }
        self.rename_all(from, to);
    }

    fn rename_all(&mut self, from: &str, to: &str) {
        let shape = self.shapes.remove(from);
        self.shapes.remove(to);
        let shapes = std::mem::take(&mut self.shapes);
        self.edit_proto(|graph| rename_in(graph, from, to));
        self.shapes.extend(shapes);
        self.shapes.extend(shape.map(|shape| (to.to_owned(), shape)));
    }

    /// Adds an input or output with unknown shape.
    pub(crate) fn declare_unshaped(&mut self, side: Side, name: &str, element: ElementType) {
        self.declare(
            side,
            &TensorInfo {
                name: name.into(),
                element,
                dims: Vec::new(),
            },
        );
        for info in self.infos_mut(side) {
            if info.name() == name
                && let Some(tensor) = tensor_type(info)
            {
                tensor.shape = None;
            }
        }
        self.shapes.remove(name);
    }

    /// Changes the element type of an input or output.
    pub(crate) fn set_element(&mut self, side: Side, name: &str, element: ElementType) {
        for info in self.infos_mut(side) {
            if info.name() == name
                && let Some(tensor) = tensor_type(info)
            {
                tensor.elem_type = Some(code(element));
            }
        }
    }

    /// Removes all outputs except these.
    pub(crate) fn keep_outputs(&mut self, names: &[&str]) {
        self.outputs.retain(|output| names.contains(&output.name()));
    }

    /// Removes the node that produces a tensor.
    pub(crate) fn remove_producer(&mut self, name: &str) {
        self.nodes
            .retain(|node| !node.output.iter().any(|output| output == name));
    }

    /// All inputs or outputs.
    pub(crate) fn all(&self, side: Side) -> Vec<TensorInfo> {
        match side {
            Side::Input => self.inputs(),
            Side::Output => self.outputs.iter().map(tensor_info).collect(),
        }
    }

    /// Changes type and shape of an input or output. Nodes are not changed.
    pub(crate) fn redeclare(&mut self, side: Side, info: &TensorInfo) {
        let new = value_info_of(info);
        for old in self.infos_mut(side) {
            if old.name() == info.name {
                *old = new.clone();
            }
        }
        self.record_shape(info);
    }

    /// Records the declared shape of a tensor.
    fn record_shape(&mut self, info: &TensorInfo) {
        let dims: Option<Vec<usize>> = info.dims.iter().copied().collect();
        match dims.and_then(checked_dims) {
            Some(dims) => self.shapes.insert(info.name.clone(), dims),
            None => self.shapes.remove(&info.name),
        };
    }

    /// Inserts nodes between the input or output `name` and the graph: `chain` lists operators with their attributes,
    /// in data flow order.
    pub(crate) fn insert_chain(&mut self, side: Side, name: &str, chain: Vec<(&str, onnx::AttributeProto)>) {
        if chain.is_empty() {
            return;
        }
        let inner = self.unique_name(name);
        for node in &mut self.nodes {
            rename_in_node(node, name, &inner);
        }
        let (mut from, end) = match side {
            Side::Input => (name.to_owned(), inner),
            Side::Output => (inner, name.to_owned()),
        };
        let last = chain.len() - 1;
        let mut nodes = Vec::new();
        for (index, (operator, attribute)) in chain.into_iter().enumerate() {
            let to = if index == last {
                end.clone()
            } else {
                self.unique_name(&format!("{name}_{index}"))
            };
            nodes.push(node(operator, &[&from], &to, vec![attribute]));
            from = to;
        }
        // Nodes must be in topological order.
        match side {
            Side::Input => drop(self.nodes.splice(0..0, nodes)),
            Side::Output => self.nodes.extend(nodes),
        }
    }

    /// Adds a vector of int32 or int64.
    pub(crate) fn add_constant(&mut self, name: &str, element: ElementType, values: &[i64]) {
        let raw: Vec<u8> = match element {
            ElementType::I32 => values.iter().flat_map(|&value| (value as i32).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        };
        self.add_weight(TensorProto {
            name: Some(name.into()),
            dims: vec![values.len() as i64],
            data_type: Some(code(element)),
            raw_data: Some(Bytes::from(raw)),
            ..Default::default()
        });
    }

    /// Inserts a node at the start.
    pub(crate) fn prepend(&mut self, operator: &str, inputs: &[&str], output: &str) {
        self.nodes.insert(0, node(operator, inputs, output, Vec::new()));
    }

    /// Inserts nodes that compute tensor `to`, \[1, size\], the one-hot encoding of `index`, \[1\].
    pub(crate) fn prepend_one_hot(&mut self, index: &str, size: usize, element: ElementType, to: &str) {
        let [depth, values, raw] = ["depth", "values", "one_hot"].map(|part| self.unique_name(&format!("{to}_{part}")));
        self.add_constant(&depth, ElementType::I64, &[size as i64]);
        self.add_constant(&values, ElementType::I64, &[0, 1]);
        let nodes = [
            node("OneHot", &[index, &depth, &values], &raw, Vec::new()),
            node("Cast", &[&raw], to, vec![cast_to(element)]),
        ];
        self.nodes.splice(0..0, nodes);
    }

    /// Removes a node.
    pub(crate) fn remove_node(&mut self, index: usize) {
        self.nodes.remove(index);
    }

    /// Replaces `from` by `to` in all inputs of nodes.
    pub(crate) fn rename_uses_of(&mut self, from: &str, to: &str) {
        for node in &mut self.nodes {
            let outputs: Vec<String> = node.output.clone();
            rename_in_node(node, from, to);
            node.output = outputs;
        }
    }

    /// Names of `source` and of all tensors that depend on one of them.
    pub(crate) fn downstream<'a>(&'a self, source: &'a [String]) -> HashSet<&'a str> {
        let mut reached: HashSet<&str> = source.iter().map(String::as_str).collect();
        // Nodes are in topological order.
        for node in &self.nodes {
            let mut depends = false;
            visit(node, &mut |name| depends |= reached.contains(name));
            if depends {
                reached.extend(node.output.iter().map(String::as_str));
            }
        }
        reached
    }

    /// Names of `targets` and of all tensors that one of them depends on.
    pub(crate) fn upstream<'a>(&'a self, targets: &'a [String]) -> HashSet<&'a str> {
        let mut reached: HashSet<&str> = targets.iter().map(String::as_str).collect();
        // Nodes are in topological order.
        for node in self.nodes.iter().rev() {
            if node.output.iter().any(|output| reached.contains(output.as_str())) {
                reached.extend(node.input.iter().map(String::as_str));
            }
        }
        reached
    }

    /// Element type of a tensor, inferred from its ancestors as far as possible.
    pub(crate) fn element_of(&self, name: &str) -> Option<ElementType> {
        let index = self.index();
        let mut name = name;
        // No path is longer than the graph.
        for _ in 0..=self.nodes.len() {
            if let Some(input) = self.input(name) {
                return Some(input.element);
            }
            if let Some(weight) = self.initializers.iter().find(|weight| weight.name() == name) {
                return Some(element_type(weight.data_type()));
            }
            let node = index.node(self, name)?;
            let attribute = |wanted: &str| node.attribute.iter().find(|a| a.name() == wanted);
            match node.op_type() {
                "Cast" => return Some(element_type(attribute("to")?.i() as i32)),
                "Constant" => {
                    let value = node.attribute.first()?;
                    return match value.name() {
                        "value" => Some(element_type(value.t.as_ref()?.data_type())),
                        "value_int" | "value_ints" => Some(ElementType::I64),
                        "value_float" | "value_floats" => Some(ElementType::F32),
                        _ => None,
                    };
                }
                "Shape" => return Some(ElementType::I64),
                // Dynamic quantization returns to float32.
                "DynamicQuantizeLSTM" | "DequantizeLinear" | "MatMulIntegerToFloat" => return Some(ElementType::F32),
                _ => name = node.input.first()?,
            }
        }
        None
    }

    fn mentions(&self, name: &str) -> bool {
        let declared = self.inputs.iter().chain(&self.outputs).any(|info| info.name() == name);
        let weight = || self.initializers.iter().any(|weight| weight.name() == name);
        let used = || {
            self.nodes.iter().any(|node| {
                let mut found = node.output.iter().any(|output| output == name);
                visit(node, &mut |input| found |= input == name);
                found
            })
        };
        declared || weight() || used()
    }

    /// A name derived from `name` that is not used yet.
    pub(crate) fn unique_name(&self, name: &str) -> String {
        let mut unique_name = format!("{name}_inner");
        while self.mentions(&unique_name) {
            unique_name.push('_');
        }
        unique_name
    }
}

fn node(operator: &str, inputs: &[&str], output: &str, attribute: Vec<onnx::AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: Some(operator.into()),
        input: inputs.iter().map(|&input| input.into()).collect(),
        output: vec![output.into()],
        attribute,
        ..Default::default()
    }
}

/// Calls `see` with the name of each tensor that `node` reads, including its subgraphs.
pub(crate) fn visit<'a>(node: &'a NodeProto, see: &mut dyn FnMut(&'a str)) {
    for input in &node.input {
        see(input);
    }
    for graph in subgraphs(node) {
        for inner in &graph.node {
            visit(inner, see);
        }
        for output in &graph.output {
            see(output.name());
        }
    }
}

fn subgraphs(node: &NodeProto) -> impl Iterator<Item = &onnx::GraphProto> {
    node.attribute
        .iter()
        .flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
}

fn rename_in(graph: &mut onnx::GraphProto, from: &str, to: &str) {
    for info in graph
        .input
        .iter_mut()
        .chain(&mut graph.output)
        .chain(&mut graph.value_info)
    {
        if info.name() == from {
            info.name = Some(to.into());
        }
    }
    for weight in &mut graph.initializer {
        if weight.name() == from {
            weight.name = Some(to.into());
        }
    }
    for node in &mut graph.node {
        rename_in_node(node, from, to);
    }
}

fn rename_in_node(node: &mut NodeProto, from: &str, to: &str) {
    for name in node.input.iter_mut().chain(&mut node.output) {
        if name == from {
            *name = to.into();
        }
    }
    for attribute in &mut node.attribute {
        for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
            rename_in(graph, from, to);
        }
    }
}

fn tensor_type(info: &mut ValueInfoProto) -> Option<&mut onnx::type_proto::Tensor> {
    match info.r#type.as_mut()?.value.as_mut()? {
        onnx::type_proto::Value::TensorType(tensor) => Some(tensor),
        _ => None,
    }
}

/// The attribute of a `Cast` to `element`.
pub(crate) fn cast_to(element: ElementType) -> onnx::AttributeProto {
    onnx::AttributeProto {
        name: Some("to".into()),
        r#type: Some(onnx::attribute_proto::AttributeType::Int as i32),
        i: Some(code(element).into()),
        ..Default::default()
    }
}

/// The attribute of a `Transpose`.
pub(crate) fn permutation(axes: &[usize]) -> onnx::AttributeProto {
    onnx::AttributeProto {
        name: Some("perm".into()),
        r#type: Some(onnx::attribute_proto::AttributeType::Ints as i32),
        ints: axes.iter().map(|&axis| axis as i64).collect(),
        ..Default::default()
    }
}
