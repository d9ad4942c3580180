// SPDX-License-Identifier: MIT OR Apache-2.0

//! Changes to a graph in memory: the few that layouts need.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use crate::{ElementType, Graph, NodeProto, TensorInfo, TensorProto, ValueInfoProto, element_type, onnx, tensor_info};

/// Where a tensor meets the outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Input,
    Output,
}

impl Side {
    /// Its name in messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
        }
    }
}

impl Graph {
    /// The input or output of this name.
    pub(crate) fn find(&self, side: Side, name: &str) -> Option<TensorInfo> {
        self.infos(side)
            .iter()
            .find(|info| info.name() == name)
            .map(tensor_info)
    }

    fn infos(&self, side: Side) -> &[ValueInfoProto] {
        match side {
            Side::Input => &self.graph.input,
            Side::Output => &self.graph.output,
        }
    }

    fn infos_mut(&mut self, side: Side) -> &mut Vec<ValueInfoProto> {
        match side {
            Side::Input => &mut self.graph.input,
            Side::Output => &mut self.graph.output,
        }
    }

    /// Takes an input or output away; what made an output stays until [`prune`](Self::prune).
    pub(crate) fn remove(&mut self, side: Side, name: &str) {
        self.infos_mut(side).retain(|info| info.name() != name);
    }

    /// Adds an input or output.
    pub(crate) fn declare(&mut self, side: Side, info: &TensorInfo) {
        self.infos_mut(side).push(value_info(info));
    }

    /// Gives tensor `from` the name `to`, wherever it occurs. What was called `to` before gets out of the way.
    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        if from == to {
            return;
        }
        if self.mentions(to) {
            let aside = self.unique_name(to);
            rename_in(&mut self.graph, to, &aside);
        }
        rename_in(&mut self.graph, from, to);
    }

    /// Adds an input or output of which only the element type is known.
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
    }

    /// Declares the element type of an input or output.
    pub(crate) fn set_element(&mut self, side: Side, name: &str, element: ElementType) {
        for info in self.infos_mut(side) {
            if info.name() == name
                && let Some(tensor) = tensor_type(info)
            {
                tensor.elem_type = Some(code(element));
            }
        }
    }

    /// Keeps only these outputs.
    pub(crate) fn keep_outputs(&mut self, names: &[&str]) {
        self.graph.output.retain(|output| names.contains(&output.name()));
    }

    /// Takes out the node that makes a tensor.
    pub(crate) fn remove_producer(&mut self, name: &str) {
        self.graph
            .node
            .retain(|node| !node.output.iter().any(|output| output == name));
    }

    /// All inputs or outputs.
    pub(crate) fn all(&self, side: Side) -> Vec<TensorInfo> {
        match side {
            Side::Input => self.inputs(),
            Side::Output => self.graph.output.iter().map(tensor_info).collect(),
        }
    }

    /// Declares that the input or output `name` has this type and these axes. Nodes inside are not touched.
    pub(crate) fn redeclare(&mut self, side: Side, info: &TensorInfo) {
        let new = value_info(info);
        for old in self.infos_mut(side) {
            if old.name() == info.name {
                *old = new.clone();
            }
        }
    }

    /// Puts nodes between the input or output `name` and the inside: `chain` names each operator and its attribute, in
    /// the order of the data.
    pub(crate) fn insert_chain(&mut self, side: Side, name: &str, chain: Vec<(&str, onnx::AttributeProto)>) {
        if chain.is_empty() {
            return;
        }
        let inner = self.unique_name(name);
        for node in &mut self.graph.node {
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
        // Nodes must stand in the order of the data.
        match side {
            Side::Input => drop(self.graph.node.splice(0..0, nodes)),
            Side::Output => self.graph.node.extend(nodes),
        }
    }

    /// Adds a vector of int32 or int64 constants.
    pub(crate) fn add_constant(&mut self, name: &str, element: ElementType, values: &[i64]) {
        let raw: Vec<u8> = match element {
            ElementType::I32 => values.iter().flat_map(|&value| (value as i32).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        };
        self.graph.initializer.push(TensorProto {
            name: Some(name.into()),
            dims: vec![values.len() as i64],
            data_type: Some(code(element)),
            raw_data: Some(Bytes::from(raw)),
            ..Default::default()
        });
    }

    /// Adds a node before all others.
    pub(crate) fn prepend(&mut self, operator: &str, inputs: &[&str], output: &str) {
        self.graph.node.insert(0, node(operator, inputs, output, Vec::new()));
    }

    /// Makes tensor `to`, \[1, size\], 1 at the place that `index` \[1\] names and 0 elsewhere.
    pub(crate) fn prepend_one_hot(&mut self, index: &str, size: usize, element: ElementType, to: &str) {
        let [depth, values, raw] = ["depth", "values", "one_hot"].map(|part| self.unique_name(&format!("{to}_{part}")));
        self.add_constant(&depth, ElementType::I64, &[size as i64]);
        self.add_constant(&values, ElementType::I64, &[0, 1]);
        let nodes = [
            node("OneHot", &[index, &depth, &values], &raw, Vec::new()),
            node("Cast", &[&raw], to, vec![cast_to(element)]),
        ];
        self.graph.node.splice(0..0, nodes);
    }

    /// Takes a node out.
    pub(crate) fn remove_node(&mut self, index: usize) {
        self.graph.node.remove(index);
    }

    /// Lets every node that reads `from` read `to`.
    pub(crate) fn rename_uses_of(&mut self, from: &str, to: &str) {
        for node in &mut self.graph.node {
            let made: Vec<String> = node.output.clone();
            rename_in_node(node, from, to);
            node.output = made;
        }
    }

    /// Removes the nodes, weights and inputs that no output needs.
    pub(crate) fn prune(&mut self) {
        let mut needed: HashSet<String> = self
            .graph
            .output
            .iter()
            .map(|output| output.name().to_owned())
            .collect();
        let mut kept = Vec::new();
        for node in std::mem::take(&mut self.graph.node).into_iter().rev() {
            if node.output.iter().any(|output| needed.contains(output)) {
                visit(&node, &mut |name| {
                    needed.insert(name.to_owned());
                });
                kept.push(node);
            }
        }
        kept.reverse();
        self.graph.node = kept;
        self.graph.initializer.retain(|weight| needed.contains(weight.name()));
        self.graph.input.retain(|input| needed.contains(input.name()));
    }

    /// Names of the tensors that can only be computed once `source` is known, `source` among them.
    pub(crate) fn downstream<'a>(&'a self, source: &'a [String]) -> HashSet<&'a str> {
        let mut reached: HashSet<&str> = source.iter().map(String::as_str).collect();
        // Nodes stand in the order of the data.
        for node in self.nodes() {
            let mut touched = false;
            visit(node, &mut |name| touched |= reached.contains(name));
            if touched {
                reached.extend(node.output.iter().map(String::as_str));
            }
        }
        reached
    }

    /// Names of the tensors that one of `targets` is computed from, `targets` among them.
    pub(crate) fn upstream<'a>(&'a self, targets: &'a [String]) -> HashSet<&'a str> {
        let mut reached: HashSet<&str> = targets.iter().map(String::as_str).collect();
        // Nodes stand in the order of the data.
        for node in self.nodes().iter().rev() {
            if node.output.iter().any(|output| reached.contains(output.as_str())) {
                reached.extend(node.input.iter().map(String::as_str));
            }
        }
        reached
    }

    /// Element type of a tensor inside, as far as it can be followed back.
    pub(crate) fn element_of(&self, name: &str) -> Option<ElementType> {
        let producers = self.producers();
        let mut name = name;
        // No chain is longer than the graph.
        for _ in 0..=self.nodes().len() {
            if let Some(input) = self.input(name) {
                return Some(input.element);
            }
            if let Some(weight) = self.graph.initializer.iter().find(|weight| weight.name() == name) {
                return Some(element_type(weight.data_type()));
            }
            let node = producers.get(name)?;
            let attribute = |wanted: &str| node.attribute.iter().find(|a| a.name() == wanted);
            match node.op_type() {
                "Cast" => return Some(element_type(attribute("to")?.i() as i32)),
                "Constant" => return Some(element_type(attribute("value")?.t.as_ref()?.data_type())),
                "Shape" => return Some(ElementType::I64),
                // Dynamic quantisation comes back to what it began with.
                "DynamicQuantizeLSTM" | "DequantizeLinear" | "MatMulIntegerToFloat" => return Some(ElementType::F32),
                _ => name = node.input.first()?,
            }
        }
        None
    }

    fn mentions(&self, name: &str) -> bool {
        let declared = self
            .graph
            .input
            .iter()
            .chain(&self.graph.output)
            .any(|info| info.name() == name);
        let weight = || self.graph.initializer.iter().any(|weight| weight.name() == name);
        let used = || {
            self.nodes().iter().any(|node| {
                let mut found = node.output.iter().any(|output| output == name);
                visit(node, &mut |input| found |= input == name);
                found
            })
        };
        declared || weight() || used()
    }

    /// A name like `name` that nothing has yet.
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

/// Calls `see` with the name of every tensor that `node` reads, those of its subgraphs included.
fn visit(node: &NodeProto, see: &mut dyn FnMut(&str)) {
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

/// ONNX's number for an element type.
fn code(element: ElementType) -> i32 {
    use onnx::tensor_proto::DataType;
    match element {
        ElementType::F32 => DataType::Float as i32,
        ElementType::F16 => DataType::Float16 as i32,
        ElementType::I32 => DataType::Int32 as i32,
        ElementType::I64 => DataType::Int64 as i32,
        ElementType::Other(code) => code,
    }
}

pub(crate) fn value_info(info: &TensorInfo) -> ValueInfoProto {
    use onnx::{tensor_shape_proto::Dimension, tensor_shape_proto::dimension, type_proto};
    let dim = |size: &Option<usize>| Dimension {
        value: size.map(|size| dimension::Value::DimValue(size as i64)),
        ..Default::default()
    };
    let tensor = type_proto::Tensor {
        elem_type: Some(code(info.element)),
        shape: Some(onnx::TensorShapeProto {
            dim: info.dims.iter().map(dim).collect(),
        }),
    };
    ValueInfoProto {
        name: Some(info.name.clone()),
        r#type: Some(onnx::TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..Default::default()
        }),
        ..Default::default()
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

/// Consumers of each tensor among the nodes, by index.
pub(crate) fn consumers(graph: &Graph) -> HashMap<&str, Vec<usize>> {
    let mut consumers: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, node) in graph.nodes().iter().enumerate() {
        for input in &node.input {
            consumers.entry(input.as_str()).or_default().push(index);
        }
    }
    consumers
}
