// SPDX-License-Identifier: MIT OR Apache-2.0

//! A graph while it is rewritten: nodes, constants and shapes, by name.

use std::collections::{HashMap, HashSet};

use crate::ir::{
    const_eval::evaluate,
    constant::{Constant, attribute, checked_dims},
    data_movement::DataMovement,
    shape_inference::infer,
};
use crate::{
    Graph, NodeProto, TensorProto, ValueInfoProto, element_code,
    onnx::{AttributeProto, attribute_proto::AttributeType, tensor_proto::DataType},
    tensor_info, value_info,
};

/// Most bytes of all values that are computed before anything runs: NeMo's exports have 60 kB a layer.
const FOLDED: usize = 64 << 20;

/// See the [module](self).
pub(crate) struct Net {
    pub nodes: Vec<NodeProto>,
    weights: HashMap<String, TensorProto>,
    pub shapes: HashMap<String, Vec<usize>>,
    pub inputs: Vec<ValueInfoProto>,
    pub outputs: Vec<ValueInfoProto>,
    added: usize,
}

/// Who makes a tensor, and who takes it: indices into [`Net::nodes`]. It holds until a node is added or removed.
pub(crate) struct DefUse {
    producers: HashMap<String, usize>,
    consumers: HashMap<String, Vec<usize>>,
}

impl Net {
    /// Takes the insides of `graph`; [`into_onnx`](Self::into_onnx) returns them.
    pub(crate) fn from_onnx(graph: &mut Graph) -> Self {
        let inner = &mut graph.graph;
        let weights = std::mem::take(&mut inner.initializer);
        let weights: HashMap<_, _> = weights
            .into_iter()
            .map(|tensor| (tensor.name().to_owned(), tensor))
            .collect();
        let mut inputs = std::mem::take(&mut inner.input);
        // Old exporters list initialisers among the inputs.
        inputs.retain(|input| !weights.contains_key(input.name()));

        let dims = |tensor: &TensorProto| tensor.dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
        let of_weights = weights.iter().map(|(name, tensor)| (name.clone(), dims(tensor)));
        let of_inputs = inputs
            .iter()
            .map(|input| (input.name().to_owned(), tensor_info(input).dims.into_iter().collect()));
        let known = |(name, dims): (String, Option<Vec<usize>>)| Some((name, checked_dims(dims?)?));
        let shapes = of_weights.chain(of_inputs).filter_map(known).collect();
        Self {
            nodes: std::mem::take(&mut inner.node),
            shapes,
            weights,
            inputs,
            outputs: std::mem::take(&mut inner.output),
            added: 0,
        }
    }

    pub(crate) fn into_onnx(mut self, graph: &mut Graph) {
        self.remove_dead();
        let _ = self.sort(); // circles were refused before, and no rewrite makes one
        let used: HashSet<&str> = self
            .nodes
            .iter()
            .flat_map(|node| &node.input)
            .map(String::as_str)
            .collect();
        let made = |output: &&ValueInfoProto| self.weights.contains_key(output.name());
        let given: HashSet<&str> = self.outputs.iter().filter(made).map(|output| output.name()).collect();
        let mut weights: Vec<TensorProto> = self
            .weights
            .into_iter()
            .filter(|(name, _)| used.contains(name.as_str()) || given.contains(name.as_str()))
            .map(|(_, tensor)| tensor)
            .collect();
        weights.sort_by(|a, b| a.name().cmp(b.name()));
        let inner = &mut graph.graph;
        inner.node = self.nodes;
        inner.initializer = weights;
        inner.input = self.inputs;
        inner.output = self.outputs;
        // What it says of shapes was written for open dimensions.
        inner.value_info.clear();
    }

    pub(crate) fn is_constant(&self, name: &str) -> bool {
        self.weights.contains_key(name)
    }

    /// The values of a constant, if they are of a type that shapes and masks are made of.
    pub(crate) fn value(&self, name: &str) -> Option<Constant> {
        Constant::from_tensor(self.weights.get(name)?)
    }

    pub(crate) fn weight(&self, name: &str) -> Option<&TensorProto> {
        self.weights.get(name)
    }

    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.shapes.get(name).map(Vec::as_slice)
    }

    /// Sets the shape of input `name`, which must be there.
    pub(crate) fn fix_input(&mut self, name: &str, dims: &[usize]) -> Option<()> {
        let input = self.inputs.iter_mut().find(|input| input.name() == name)?;
        *input = value_info(name, element_code(input), dims);
        self.shapes.insert(name.into(), dims.to_vec());
        Some(())
    }

    /// Sets the shape of output `name`, if it is there.
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

    /// An input of one whole number.
    pub(crate) fn add_scalar_input(&mut self, name: &str) {
        self.inputs.push(value_info(name, DataType::Int64 as i32, &[1]));
        self.shapes.insert(name.into(), vec![1]);
    }

    pub(crate) fn add_output(&mut self, name: &str, dims: &[usize]) {
        self.outputs.push(value_info(name, DataType::Float as i32, dims));
    }

    /// A constant; the same values under the same name are kept once.
    pub(crate) fn add_weight(&mut self, tensor: TensorProto) -> String {
        let name = tensor.name().to_owned();
        let dims = tensor
            .dims
            .iter()
            .map(|&dim| usize::try_from(dim).ok())
            .collect::<Option<_>>();
        self.shapes
            .extend(dims.and_then(checked_dims).map(|dims| (name.clone(), dims)));
        self.weights.insert(name.clone(), tensor);
        name
    }

    pub(crate) fn add_value(&mut self, value: &Constant) -> String {
        let name = self.new_name("constant");
        self.add_weight(value.to_tensor(&name))
    }

    pub(crate) fn add_ints(&mut self, values: &[i64]) -> String {
        self.add_value(&Constant::of_ints(vec![values.len()], values))
    }

    pub(crate) fn new_name(&mut self, what: &str) -> String {
        loop {
            self.added += 1;
            let name = format!("plan/{what}_{}", self.added);
            if !self.shapes.contains_key(&name) {
                return name;
            }
        }
    }

    /// Adds a node with one output, and returns its name.
    pub(crate) fn add(&mut self, operation: &str, inputs: &[&str], attributes: &[(&str, Attribute<'_>)]) -> String {
        let output = self.new_name(operation);
        self.add_as(&output, operation, inputs, attributes);
        output
    }

    /// As [`add`](Self::add), with the name of the output given.
    pub(crate) fn add_as(
        &mut self,
        output: &str,
        operation: &str,
        inputs: &[&str],
        attributes: &[(&str, Attribute<'_>)],
    ) {
        self.add_node(&[output.to_owned()], operation, inputs, attributes);
    }

    /// As [`add`](Self::add), with the names of several outputs given.
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

    /// Finds the shapes of what the nodes give, as far as they are fixed. The nodes must be [sorted](Self::sort).
    pub(crate) fn infer_shapes(&mut self) {
        let nodes = std::mem::take(&mut self.nodes);
        nodes.iter().for_each(|node| self.record_shapes(node));
        self.nodes = nodes;
    }

    fn record_shapes(&mut self, node: &NodeProto) {
        let values: Vec<Option<Constant>> = node.input.iter().map(|name| self.value(name)).collect();
        let shapes: Vec<Option<&[usize]>> = node.input.iter().map(|name| self.shape(name)).collect();
        let found = infer(node, &shapes, |index| values.get(index)?.as_ref());
        for (name, dims) in node.output.iter().zip(found) {
            self.shapes.insert(name.clone(), dims);
        }
    }

    pub(crate) fn index(&self) -> DefUse {
        let mut index = DefUse {
            producers: HashMap::new(),
            consumers: HashMap::new(),
        };
        for (number, node) in self.nodes.iter().enumerate() {
            for name in &node.output {
                index.producers.insert(name.clone(), number);
            }
            for name in &node.input {
                index.consumers.entry(name.clone()).or_default().push(number);
            }
        }
        // A graph's output has a user outside of it.
        for output in &self.outputs {
            index
                .consumers
                .entry(output.name().into())
                .or_default()
                .push(usize::MAX);
        }
        index
    }

    /// What `find` finds at any node; it gets the node's number.
    pub(crate) fn find_all<T>(&self, index: &DefUse, find: fn(&Self, &DefUse, usize) -> Option<T>) -> Vec<T> {
        let numbers = 0..self.nodes.len();
        numbers.filter_map(|number| find(self, index, number)).collect()
    }

    /// Lets another node make what node `number` makes: nobody takes its own output any more.
    pub(crate) fn detach(&mut self, number: usize) {
        let unused = self.new_name("unused");
        self.nodes[number].output[0] = unused;
    }

    /// What node `node` does, if it moves values only.
    pub(crate) fn movement(&self, node: &NodeProto) -> Option<DataMovement> {
        let values: Vec<Option<Constant>> = node.input.iter().map(|name| self.value(name)).collect();
        DataMovement::of(node, self.shape(node.input.first()?)?, |index| {
            values.get(index)?.as_ref()
        })
    }

    /// Lets the maker of `old` call it `new`.
    pub(crate) fn rename_output(&mut self, old: &str, new: &str) {
        for output in self.nodes.iter_mut().flat_map(|node| &mut node.output) {
            if output == old {
                *output = new.into();
            }
        }
        if let Some(dims) = self.shapes.remove(old) {
            self.shapes.insert(new.into(), dims);
        }
    }

    /// Lets every user of `old` take `new`.
    pub(crate) fn rename_uses(&mut self, old: &str, new: &str) {
        for input in self.nodes.iter_mut().flat_map(|node| &mut node.input) {
            if input == old {
                *input = new.into();
            }
        }
    }

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

    /// Removes the nodes that no output depends on.
    pub(crate) fn remove_dead(&mut self) {
        let index = self.index();
        let mut alive = vec![false; self.nodes.len()];
        let mut open: Vec<usize> = self
            .outputs
            .iter()
            .filter_map(|output| index.producer(output.name()))
            .collect();
        while let Some(number) = open.pop() {
            if !std::mem::replace(&mut alive[number], true) {
                open.extend(self.nodes[number].input.iter().filter_map(|name| index.producer(name)));
            }
        }
        let mut alive = alive.into_iter();
        self.nodes.retain(|_| alive.next().unwrap_or(true));
    }

    /// Puts every node behind those whose outputs it takes, as ONNX wants it. `None`: they wait for each other in a circle.
    pub(crate) fn sort(&mut self) -> Option<()> {
        #[derive(Clone, Copy, PartialEq)]
        enum Place {
            Open,
            Waiting,
            Placed,
        }
        let index = self.index();
        let mut order = Vec::with_capacity(self.nodes.len());
        let mut places = vec![Place::Open; self.nodes.len()];
        for first in 0..self.nodes.len() {
            let mut stack = vec![(first, false)];
            while let Some((number, ready)) = stack.pop() {
                if ready {
                    places[number] = Place::Placed;
                    order.push(number);
                    continue;
                }
                if places[number] != Place::Open {
                    continue;
                }
                places[number] = Place::Waiting;
                stack.push((number, true));
                for producer in self.nodes[number].input.iter().filter_map(|name| index.producer(name)) {
                    match places[producer] {
                        Place::Open => stack.push((producer, false)),
                        Place::Waiting => return None,
                        Place::Placed => {}
                    }
                }
            }
        }
        let mut nodes: Vec<Option<NodeProto>> = std::mem::take(&mut self.nodes).into_iter().map(Some).collect();
        self.nodes = order.into_iter().filter_map(|number| nodes[number].take()).collect();
        Some(())
    }
}

impl DefUse {
    pub(crate) fn producer(&self, name: &str) -> Option<usize> {
        self.producers.get(name).copied()
    }

    /// Its users; `usize::MAX` stands for the caller of the graph.
    pub(crate) fn consumers(&self, name: &str) -> &[usize] {
        self.consumers.get(name).map_or(&[], Vec::as_slice)
    }

    /// The node that takes `name`, if there is exactly one and nobody outside of the graph does.
    pub(crate) fn single_consumer(&self, name: &str) -> Option<usize> {
        match self.consumers(name) {
            [user] if *user != usize::MAX => Some(*user),
            _ => None,
        }
    }
}

/// A value of a node's attribute.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Attribute<'a> {
    Int(i64),
    Ints(&'a [i64]),
    Float(f32),
}

impl Attribute<'_> {
    pub(crate) fn to_proto(self, name: &str) -> AttributeProto {
        let mut proto = AttributeProto {
            name: Some(name.into()),
            ..Default::default()
        };
        match self {
            Self::Float(value) => (proto.f, proto.r#type) = (Some(value), Some(AttributeType::Float as i32)),
            Self::Int(value) => (proto.i, proto.r#type) = (Some(value), Some(AttributeType::Int as i32)),
            Self::Ints(values) => {
                (proto.ints, proto.r#type) = (values.to_vec(), Some(AttributeType::Ints as i32));
            }
        }
        proto
    }
}
