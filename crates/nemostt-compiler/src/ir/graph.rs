// SPDX-License-Identifier: MIT OR Apache-2.0

//! The graph: nodes in topological order, initializers, and known shapes. Its methods keep them consistent.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use nemostt_kernels::gemm::PackedWeights;
use prost::Message;

use super::{
    attribute::Attribute,
    constant::{Constant, checked_dims},
    data_movement::DataMovement,
    def_use::DefUse,
    initializers::Initializers,
    shape_inference::infer,
};
use crate::onnx::types::{element_code, integers, tensor_info, value_info};
use crate::{
    FileBytes, GraphError, ModelProto, NodeProto, TensorInfo, TensorProto, ValueInfoProto,
    onnx::{GraphProto, size, tensor_proto::DataType},
};

/// A decoded ONNX model.
#[derive(Debug, Clone)]
pub struct Graph {
    /// The model without its graph.
    pub(crate) header: ModelProto,
    /// Parts that no pass reads: name and documentation of the graph, sparse weights, quantization annotations.
    pub(crate) rest: GraphProto,
    /// In topological order, except for nodes that a pass added and did not [sort](Self::sort) yet.
    pub(crate) nodes: Vec<NodeProto>,
    pub(crate) initializers: Initializers,
    pub(crate) inputs: Vec<ValueInfoProto>,
    pub(crate) outputs: Vec<ValueInfoProto>,
    /// Known shapes: those of inputs and initializers, and those that [`infer_shapes`](Self::infer_shapes) and
    /// [`fold`](Self::fold) inferred.
    pub(crate) shapes: HashMap<String, Vec<usize>>,
    /// Counter for generated names.
    added: usize,
    /// Memory that the initializers refer to.
    pub(crate) files: Vec<FileBytes>,
    /// Weights of the operators `PackedMatMul`: see `fusions/prepack_matmul.rs`.
    pub(crate) packed: Vec<Arc<PackedWeights>>,
}

/// Conversion from and to protobuf.
impl Graph {
    pub(crate) fn from_proto(header: ModelProto, graph: GraphProto) -> Self {
        let mut this = Self {
            header,
            rest: GraphProto::default(),
            nodes: Vec::new(),
            initializers: Initializers::default(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            shapes: HashMap::new(),
            added: 0,
            files: Vec::new(),
            packed: Vec::new(),
        };
        this.put_proto(graph);
        this
    }

    fn put_proto(&mut self, mut graph: GraphProto) {
        self.nodes = std::mem::take(&mut graph.node);
        self.initializers = std::mem::take(&mut graph.initializer).into();
        self.inputs = std::mem::take(&mut graph.input);
        // Old exporters list initializers among the inputs.
        self.inputs.retain(|input| !self.initializers.contains(input.name()));
        self.outputs = std::mem::take(&mut graph.output);
        self.rest = graph;
        let weights = self.initializers.iter().map(|tensor| (tensor.name(), dims_of(tensor)));
        let inputs = self.inputs.iter().map(|input| (input.name(), fixed_dims(input)));
        let known = weights
            .chain(inputs)
            .filter_map(|(name, dims)| Some((name.to_owned(), dims?)));
        self.shapes = known.collect();
    }

    fn take_proto(&mut self) -> GraphProto {
        GraphProto {
            node: std::mem::take(&mut self.nodes),
            initializer: std::mem::take(&mut self.initializers).into(),
            input: std::mem::take(&mut self.inputs),
            output: std::mem::take(&mut self.outputs),
            ..std::mem::take(&mut self.rest)
        }
    }

    /// Converts back to protobuf.
    pub(crate) fn into_proto(mut self) -> ModelProto {
        ModelProto {
            graph: Some(self.take_proto()),
            ..self.header
        }
    }

    /// Edits the graph as protobuf. Inferred shapes are discarded.
    pub(crate) fn edit_proto<T>(&mut self, edit: impl FnOnce(&mut GraphProto) -> T) -> T {
        let mut graph = self.take_proto();
        let result = edit(&mut graph);
        self.put_proto(graph);
        result
    }
}

impl Graph {
    /// Decodes a file without copying its weights.
    ///
    /// # Errors
    /// [`GraphError::NotOnnx`].
    pub fn decode(bytes: Bytes) -> Result<Self, GraphError> {
        if bytes.is_empty() {
            return Err(GraphError::NotOnnx("it is empty".into()));
        }
        size::check(&bytes, size::Kind::Model).map_err(GraphError::NotOnnx)?;
        let mut header = ModelProto::decode(bytes).map_err(|error| GraphError::NotOnnx(error.to_string()))?;
        match header.graph.take() {
            Some(graph) if !graph.node.is_empty() => Ok(Self::from_proto(header, graph)),
            _ => Err(GraphError::NotOnnx("it contains no graph".into())),
        }
    }

    /// The inputs of the graph.
    pub fn inputs(&self) -> Vec<TensorInfo> {
        self.inputs.iter().map(tensor_info).collect()
    }

    /// The outputs of the graph.
    pub fn outputs(&self) -> Vec<TensorInfo> {
        self.outputs.iter().map(tensor_info).collect()
    }

    /// The input with this name.
    pub fn input(&self, name: &str) -> Option<TensorInfo> {
        self.inputs.iter().find(|i| i.name() == name).map(tensor_info)
    }

    /// The output with this name.
    pub fn output(&self, name: &str) -> Option<TensorInfo> {
        self.outputs.iter().find(|o| o.name() == name).map(tensor_info)
    }

    /// A value from the file's metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        let found = self.header.metadata_props.iter().find(|entry| entry.key() == key);
        found.map(|entry| entry.value())
    }

    /// The operators of its nodes.
    pub fn operations(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(|node| node.op_type())
    }

    /// The model file and its external data files.
    pub fn files(&self) -> &[FileBytes] {
        &self.files
    }

    /// The values of all integer constants, from `Constant` nodes and initializers.
    pub(crate) fn constants(&self) -> HashMap<&str, Vec<i64>> {
        let nodes = self.nodes.iter().filter(|node| node.op_type() == "Constant");
        let from_nodes = nodes.filter_map(|node| {
            let attribute = node.attribute.first()?;
            let values = match attribute.name() {
                "value" => integers(attribute.t.as_ref()?)?,
                "value_int" => vec![attribute.i()],
                "value_ints" => attribute.ints.clone(),
                _ => return None,
            };
            Some((node.output.first()?.as_str(), values))
        });
        let weights = self.initializers.iter();
        let from_weights = weights.filter_map(|tensor| Some((tensor.name(), integers(tensor)?)));
        from_nodes.chain(from_weights).collect()
    }
}

/// Queries and changes for passes.
impl Graph {
    pub(crate) fn is_constant(&self, name: &str) -> bool {
        self.initializers.contains(name)
    }

    /// The values of a constant, if its element type occurs in shapes or masks.
    pub(crate) fn value(&self, name: &str) -> Option<Constant> {
        Constant::from_tensor(self.initializers.get(name)?)
    }

    pub(crate) fn weight(&self, name: &str) -> Option<&TensorProto> {
        self.initializers.get(name)
    }

    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.shapes.get(name).map(Vec::as_slice)
    }

    /// Sets the shape of input `name`; `None` if there is no such input.
    pub(crate) fn fix_input(&mut self, name: &str, dims: &[usize]) -> Option<()> {
        let input = self.inputs.iter_mut().find(|input| input.name() == name)?;
        *input = value_info(name, element_code(input), dims);
        self.shapes.insert(name.into(), dims.to_vec());
        Some(())
    }

    /// Sets the shape of output `name`, if there is one.
    pub(crate) fn fix_output(&mut self, name: &str, dims: &[usize]) {
        if let Some(output) = self.outputs.iter_mut().find(|output| output.name() == name) {
            *output = value_info(name, element_code(output), dims);
            self.shapes.insert(name.into(), dims.to_vec());
        }
    }

    pub(crate) fn add_input(&mut self, name: &str, dims: &[usize]) {
        self.inputs.push(value_info(name, DataType::Float as i32, dims));
        self.shapes.insert(name.into(), dims.to_vec());
    }

    /// Adds an input \[1\] of type int64.
    pub(crate) fn add_scalar_input(&mut self, name: &str) {
        self.inputs.push(value_info(name, DataType::Int64 as i32, &[1]));
        self.shapes.insert(name.into(), vec![1]);
    }

    pub(crate) fn add_output(&mut self, name: &str, dims: &[usize]) {
        self.outputs.push(value_info(name, DataType::Float as i32, dims));
    }

    /// Adds a constant, or replaces the one of the same name.
    pub(crate) fn add_weight(&mut self, tensor: TensorProto) -> String {
        let name = tensor.name().to_owned();
        self.shapes.extend(dims_of(&tensor).map(|dims| (name.clone(), dims)));
        self.initializers.insert(tensor);
        name
    }

    pub(crate) fn add_value(&mut self, value: &Constant) -> String {
        let name = self.new_name("constant");
        self.add_weight(value.to_tensor(&name))
    }

    pub(crate) fn add_ints(&mut self, values: &[i64]) -> String {
        self.add_value(&Constant::of_ints(vec![values.len()], values))
    }

    /// The version of ONNX's own operators, as ONNX Runtime determines it: the last import counts, and the newest version
    /// if there is none.
    pub(crate) fn opset(&self) -> i64 {
        let mut sets = self.header.opset_import.iter();
        let set = sets.rfind(|set| is_onnx_domain(set.domain()));
        set.map_or(i64::MAX, |set| set.version())
    }

    pub(crate) fn new_name(&mut self, what: &str) -> String {
        loop {
            self.added += 1;
            let name = format!("nemostt/{what}_{}", self.added);
            if !self.shapes.contains_key(&name) {
                return name;
            }
        }
    }

    /// Adds a node with one output, and returns the output's name.
    pub(crate) fn add(&mut self, operation: &str, inputs: &[&str], attributes: &[(&str, Attribute<'_>)]) -> String {
        let output = self.new_name(operation);
        self.add_as(&output, operation, inputs, attributes);
        output
    }

    /// As [`add`](Self::add), with a given output name.
    pub(crate) fn add_as(
        &mut self,
        output: &str,
        operation: &str,
        inputs: &[&str],
        attributes: &[(&str, Attribute<'_>)],
    ) {
        self.add_node(&[output.to_owned()], operation, inputs, attributes);
    }

    /// As [`add`](Self::add), with several outputs.
    pub(crate) fn add_node(
        &mut self,
        outputs: &[String],
        operation: &str,
        inputs: &[&str],
        attributes: &[(&str, Attribute<'_>)],
    ) {
        let node = NodeProto {
            op_type: Some(operation.into()),
            name: outputs.first().cloned(),
            input: inputs.iter().map(|&input| input.into()).collect(),
            output: outputs.to_vec(),
            attribute: attributes.iter().map(|(name, value)| value.to_proto(name)).collect(),
            ..Default::default()
        };
        self.record_shapes(&node);
        self.nodes.push(node);
    }

    /// Infers the shapes of all tensors, as far as they are fixed. The nodes must be [sorted](Self::sort).
    pub(crate) fn infer_shapes(&mut self) {
        let nodes = std::mem::take(&mut self.nodes);
        nodes.iter().for_each(|node| self.record_shapes(node));
        self.nodes = nodes;
    }

    pub(super) fn record_shapes(&mut self, node: &NodeProto) {
        let values: Vec<Option<Constant>> = node.input.iter().map(|name| self.value(name)).collect();
        let shapes: Vec<Option<&[usize]>> = node.input.iter().map(|name| self.shape(name)).collect();
        let found = infer(node, &shapes, |index| values.get(index)?.as_ref());
        for (name, dims) in node.output.iter().zip(found) {
            self.shapes.insert(name.clone(), dims);
        }
    }

    /// Applies `find` to the index of each node, and collects its results.
    pub(crate) fn find_all<T>(&self, index: &DefUse, find: fn(&Self, &DefUse, usize) -> Option<T>) -> Vec<T> {
        let numbers = 0..self.nodes.len();
        numbers.filter_map(|number| find(self, index, number)).collect()
    }

    /// Renames the output of node `number`, which must have no consumers, so that another node can produce the tensor.
    pub(crate) fn detach(&mut self, number: usize) {
        let unused = self.new_name("unused");
        self.nodes[number].output[0] = unused;
    }

    /// The data movement of `node`, if it only moves values.
    pub(crate) fn movement(&self, node: &NodeProto) -> Option<DataMovement> {
        let values: Vec<Option<Constant>> = node.input.iter().map(|name| self.value(name)).collect();
        DataMovement::of(node, self.shape(node.input.first()?)?, |index| {
            values.get(index)?.as_ref()
        })
    }

    /// Renames tensor `old` to `new` where it is produced. So is the node, if it is called like the tensor, because names of
    /// nodes are unique, too.
    pub(crate) fn rename_output(&mut self, old: &str, new: &str) {
        for node in &mut self.nodes {
            let has_name = node.name() == old;
            for output in node.output.iter_mut().filter(|output| *output == old) {
                *output = new.into();
                if has_name {
                    node.name = Some(new.into());
                }
            }
        }
        if let Some(dims) = self.shapes.remove(old) {
            self.shapes.insert(new.into(), dims);
        }
    }

    /// Renames tensor `old` to `new` where it is consumed.
    pub(crate) fn rename_uses(&mut self, old: &str, new: &str) {
        for input in self.nodes.iter_mut().flat_map(|node| &mut node.input) {
            if input == old {
                *input = new.into();
            }
        }
    }
}

/// The shape of a tensor, if it is valid.
fn dims_of(tensor: &TensorProto) -> Option<Vec<usize>> {
    let dims: Option<Vec<usize>> = tensor.dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
    checked_dims(dims?)
}

/// The shape of an input, if all axes are fixed.
fn fixed_dims(info: &ValueInfoProto) -> Option<Vec<usize>> {
    let dims: Option<Vec<usize>> = tensor_info(info).dims.into_iter().collect();
    checked_dims(dims?)
}

/// Whether operators of this domain are ONNX's own.
pub(crate) fn is_onnx_domain(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}
