// SPDX-License-Identifier: MIT OR Apache-2.0

//! Lowers a whole graph to one program: a list of calls that the [executor](nemostt_kernels::executor) runs without ONNX
//! Runtime, for any number of streams at a time. ONNX Runtime cannot batch such a graph: its operators would have to gather
//! the caches of all streams into one tensor for each step, and scatter them again.
//!
//! What fusions leave of an encoder lowers to few further operations: a selection of frames, a mask, views of the same values
//! with other shapes. Nodes that depend on constants only become a graph of their own, which runs once.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;

use crate::{
    AttributeValue, CALLS, ElementType, Encoded, FUSED_SUBGRAPH, Graph, NodeProto, OUTPUTS, RESHAPE, SubgraphCall,
    TensorInfo,
    fusions::subgraph::attribute_value,
    ir::{attribute::Attribute, boundary::Side, constant::attribute, graph::is_onnx_domain},
    onnx::tensor_proto::DataType,
    ops::{self, DOMAIN, LOG_SOFTMAX, PACKED_MATMUL, SCALE_ROWS, SELECT_ROWS, WEIGHTS_INDEX, WIDTH},
};

/// A graph as a program.
pub struct LoweredGraph {
    /// The inputs of the graph that the program reads. They are its first values.
    pub inputs: Vec<LoweredInput>,
    /// The constants that its operations are created with. They are its next values.
    pub constants: Vec<String>,
    /// Computes the constants: a graph without inputs.
    pub constants_graph: Encoded,
    /// The calls. Each numbers its outputs after all values before.
    pub calls: Vec<SubgraphCall>,
    /// All outputs of the graph.
    pub outputs: Vec<LoweredOutput>,
}

/// An input of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoweredInput {
    /// Its name in the graph.
    pub name: String,
    /// Its shape for the program.
    pub dims: Vec<usize>,
    /// In the graph. The program reads float32 and scalars.
    pub element: ElementType,
    /// Whether its last two axes are swapped for the program.
    pub is_transposed: bool,
}

/// An output of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoweredOutput {
    /// Its name in the graph.
    pub name: String,
    /// Number of the value.
    pub value: usize,
    /// Whether its last two axes are swapped in the program.
    pub is_transposed: bool,
}

impl Encoded {
    /// Lowers the graph.
    ///
    /// # Errors
    /// A sentence that says why that is not possible.
    pub fn lower(&self) -> Result<LoweredGraph, String> {
        let mut graph = Graph::decode(Bytes::copy_from_slice(&self.model)).map_err(|fault| fault.to_string())?;
        graph.packed.clone_from(&self.packed_weights);
        remove_float_casts(&mut graph);
        graph.infer_shapes();
        let mut lowered = lower(graph)?;
        lowered.constants_graph.files.clone_from(&self.files);
        Ok(lowered)
    }
}

/// What a name stands for.
#[derive(Debug, Clone, Copy)]
struct Value {
    number: usize,
    /// Values per row, if known.
    width: Option<usize>,
    /// Whether its last two axes are swapped in the program.
    is_transposed: bool,
    /// The value that is stored, if this one is a view with another width.
    root: usize,
}

struct Lowering<'a> {
    graph: &'a Graph,
    values: HashMap<&'a str, Value>,
    /// Tensors that depend on constants only.
    constant: HashSet<&'a str>,
    constants: Vec<String>,
    calls: Vec<SubgraphCall>,
    next: usize,
}

fn lower(graph: Graph) -> Result<LoweredGraph, String> {
    let constant = constant_tensors(&graph);
    let inputs = lowered_inputs(&graph)?;
    let constants = constants_read(&graph, &constant);
    let mut lowering = Lowering {
        graph: &graph,
        values: HashMap::new(),
        next: inputs.len() + constants.len(),
        constant,
        constants,
        calls: Vec::new(),
    };
    for (number, input) in inputs.iter().enumerate() {
        let name = graph.inputs.iter().find(|info| info.name() == input.name);
        let value = Value {
            number,
            width: input.dims.last().copied(),
            is_transposed: input.is_transposed,
            root: number,
        };
        lowering.values.extend(name.map(|info| (info.name(), value)));
    }
    for node in &graph.nodes {
        if !node
            .output
            .iter()
            .all(|output| lowering.constant.contains(output.as_str()))
        {
            lowering.node(node)?;
        }
    }
    let output = |info: TensorInfo| {
        let value = lowering.value(&info.name)?;
        Ok(LoweredOutput {
            name: info.name,
            value: value.root,
            is_transposed: value.is_transposed,
        })
    };
    let outputs = graph.outputs().into_iter().map(output).collect::<Result<_, String>>()?;
    let Lowering { constants, calls, .. } = lowering;
    Ok(LoweredGraph {
        constants_graph: constants_graph(&graph, &constants)?,
        inputs,
        constants,
        calls,
        outputs,
    })
}

impl<'a> Lowering<'a> {
    fn node(&mut self, node: &'a NodeProto) -> Result<(), String> {
        match (node.domain(), node.op_type()) {
            (DOMAIN, FUSED_SUBGRAPH) => self.subgraph(node),
            (DOMAIN, _) => self.custom_op(node),
            (domain, operation) if is_onnx_domain(domain) => match operation {
                "Reshape" | "Unsqueeze" | "Squeeze" | "Identity" => self.view(node),
                "Transpose" => self.transpose(node),
                "Gather" => self.select_rows(node),
                "Mul" => self.scale_rows(node),
                "LogSoftmax" => self.log_softmax(node),
                _ => Err(unsupported(node)),
            },
            _ => Err(unsupported(node)),
        }
    }

    fn value(&self, name: &str) -> Result<Value, String> {
        let found = self.values.get(name).copied();
        found.ok_or_else(|| format!("{name} is not a value of the program"))
    }

    fn input(&self, node: &NodeProto, index: usize) -> Result<Value, String> {
        self.value(node.input.get(index).ok_or_else(|| unsupported(node))?)
    }

    /// An input as rows, and their width.
    fn rows(&self, node: &NodeProto, index: usize) -> Result<(Value, usize), String> {
        let value = self.input(node, index)?;
        match value.width {
            Some(width) if !value.is_transposed && width > 0 => Ok((value, width)),
            _ => Err(unsupported(node)),
        }
    }

    fn define(&mut self, node: &'a NodeProto, value: Value) -> Result<(), String> {
        let [output] = &node.output[..] else {
            return Err(unsupported(node));
        };
        self.values.insert(output, value);
        Ok(())
    }

    /// Adds a call with one output, rows of `width` values.
    fn call(
        &mut self,
        node: &'a NodeProto,
        (operation, inputs): (&str, Vec<usize>),
        width: usize,
    ) -> Result<(), String> {
        let number = self.next;
        self.next += 1;
        self.calls.push(SubgraphCall {
            operation: operation.into(),
            inputs,
            outputs: vec![number],
            attributes: BTreeMap::from([(WIDTH.into(), AttributeValue::Int(width as i64))]),
        });
        let value = Value {
            number,
            width: Some(width),
            is_transposed: false,
            root: number,
        };
        self.define(node, value)
    }

    /// The number of what an operation reads: a value, or a constant that it is created with.
    fn number(&self, name: &str) -> Result<usize, String> {
        match self.constants.iter().position(|constant| constant == name) {
            // After the inputs.
            Some(index) => Ok(self.graph.inputs.len() + index),
            None => match self.value(name)? {
                value if value.is_transposed => Err(format!("{name} is read in another layout")),
                value => Ok(value.number),
            },
        }
    }

    /// Adds the calls of a fused subgraph, with numbers of this program.
    fn subgraph(&mut self, node: &'a NodeProto) -> Result<(), String> {
        let find = |name: &str| node.attribute.iter().find(|attribute| attribute.name() == name);
        let calls = find(CALLS).and_then(|calls| serde_json::from_slice(calls.s()).ok());
        let calls: Vec<SubgraphCall> = calls.ok_or_else(|| unsupported(node))?;
        let mut numbers: Vec<usize> = node
            .input
            .iter()
            .map(|name| self.number(name))
            .collect::<Result<_, _>>()?;
        let mut widths: HashMap<usize, usize> = HashMap::new();
        for call in calls {
            // Outputs are numbered in this order.
            let first = numbers.len();
            if call.outputs != (first..first + call.outputs.len()).collect::<Vec<_>>() {
                return Err(unsupported(node));
            }
            numbers.extend((self.next..).take(call.outputs.len()));
            let renumber = |values: &[usize]| values.iter().map(|&value| numbers.get(value).copied()).collect();
            let inputs: Option<Vec<usize>> = renumber(&call.inputs);
            let outputs = renumber(&call.outputs).unwrap_or_default();
            self.next += outputs.len();
            widths.extend(
                self.width_of(&call)
                    .zip(outputs.first())
                    .map(|(width, &output)| (output, width)),
            );
            self.calls.push(SubgraphCall {
                inputs: inputs.ok_or_else(|| unsupported(node))?,
                outputs,
                ..call
            });
        }
        let outputs = find(OUTPUTS).map(|outputs| &outputs.ints[..]).unwrap_or_default();
        if outputs.len() != node.output.len() {
            return Err(unsupported(node));
        }
        for (name, output) in node.output.iter().zip(outputs) {
            let number = usize::try_from(*output).ok().and_then(|output| numbers.get(output));
            let number = *number.ok_or_else(|| unsupported(node))?;
            let value = Value {
                number,
                width: widths.get(&number).copied(),
                is_transposed: false,
                root: number,
            };
            self.values.insert(name, value);
        }
        Ok(())
    }

    /// Adds the call of an operation that is not part of a fused subgraph.
    fn custom_op(&mut self, node: &'a NodeProto) -> Result<(), String> {
        let schema = ops::schema(node.op_type()).ok_or_else(|| unsupported(node))?;
        if node.output.len() != schema.outputs {
            return Err(unsupported(node));
        }
        let inputs = node.input.iter().map(|name| self.number(name));
        let call = SubgraphCall {
            operation: node.op_type().into(),
            inputs: inputs.collect::<Result<_, _>>()?,
            outputs: (self.next..).take(schema.outputs).collect(),
            attributes: node.attribute.iter().filter_map(attribute_value).collect(),
        };
        self.next += schema.outputs;
        for (index, (name, &number)) in node.output.iter().zip(&call.outputs).enumerate() {
            let value = Value {
                number,
                width: self.width_of(&call).filter(|_| index == 0),
                is_transposed: false,
                root: number,
            };
            self.values.insert(name, value);
        }
        self.calls.push(call);
        Ok(())
    }

    /// The width of the rows of a call's first output, where it is easy to tell.
    fn width_of(&self, call: &SubgraphCall) -> Option<usize> {
        let int = |name: &str| match call.attributes.get(name) {
            Some(AttributeValue::Int(value)) => usize::try_from(*value).ok(),
            _ => None,
        };
        match call.operation.as_str() {
            RESHAPE => int(WIDTH),
            operation if operation == PACKED_MATMUL.name => Some(self.graph.packed.get(int(WEIGHTS_INDEX)?)?.n()),
            _ => None,
        }
    }

    /// The same values in the same order with another shape.
    fn view(&mut self, node: &'a NodeProto) -> Result<(), String> {
        let value = self.input(node, 0)?;
        let output = node.output.first().ok_or_else(|| unsupported(node))?;
        let width = match self.graph.shape(output) {
            Some(dims) => dims.last().copied(),
            None => {
                let shape = node
                    .input
                    .get(1)
                    .and_then(|shape| self.graph.constants().remove(shape.as_str()));
                shape.and_then(|shape| usize::try_from(*shape.last()?).ok())
            }
        };
        let width = width.filter(|&width| width > 0).ok_or_else(|| unsupported(node))?;
        if value.is_transposed {
            return Err(unsupported(node));
        }
        // Inputs of the program get their width where it is run.
        if value.width == Some(width) || value.number < self.graph.inputs.len() {
            return self.define(
                node,
                Value {
                    width: Some(width),
                    ..value
                },
            );
        }
        self.call(node, (RESHAPE, vec![value.number]), width)?;
        let view = self.input_of_view(node, value.root)?;
        self.define(node, view)
    }

    fn input_of_view(&self, node: &NodeProto, root: usize) -> Result<Value, String> {
        let name = node.output.first().ok_or_else(|| unsupported(node))?;
        Ok(Value {
            root,
            ..self.value(name)?
        })
    }

    /// A transpose at the start or the end of the graph is left to the caller, who writes inputs and reads outputs in any
    /// order.
    fn transpose(&mut self, node: &'a NodeProto) -> Result<(), String> {
        let value = self.input(node, 0)?;
        let axes = node.attribute.iter().find(|attribute| attribute.name() == "perm");
        let swaps_last = axes.is_some_and(|axes| axes.ints == [0, 2, 1]);
        let output = node.output.first().ok_or_else(|| unsupported(node))?;
        let is_at_end = self.graph.outputs.iter().any(|info| info.name() == output)
            && self.graph.index().readers(output).is_empty();
        let is_at_start = value.number < self.graph.inputs.len() && value.is_transposed;
        match (swaps_last, is_at_start, is_at_end) {
            (true, true, _) => self.define(
                node,
                Value {
                    is_transposed: false,
                    ..value
                },
            ),
            (true, false, true) if !value.is_transposed => self.define(
                node,
                Value {
                    is_transposed: true,
                    ..value
                },
            ),
            _ => Err(unsupported(node)),
        }
    }

    /// `Gather` of rows with indices that are computed outside.
    fn select_rows(&mut self, node: &'a NodeProto) -> Result<(), String> {
        let ((rows, width), indices) = (self.rows(node, 0)?, self.input(node, 1)?);
        let data = node.input.first().and_then(|name| self.graph.shape(name));
        let axis = match attribute(node, "axis").unwrap_or(0) {
            0 => data.is_none_or(|dims| dims.len() == 2),
            1 => data.is_some_and(|dims| matches!(dims, [1, _, _])),
            _ => false,
        };
        match axis && indices.number < self.graph.inputs.len() {
            true => self.call(node, (SELECT_ROWS, vec![rows.number, indices.number]), width),
            false => Err(unsupported(node)),
        }
    }

    /// `Mul` of rows with one factor per row, an input.
    fn scale_rows(&mut self, node: &'a NodeProto) -> Result<(), String> {
        let [a, b] = &node.input[..] else {
            return Err(unsupported(node));
        };
        let is_column = |name: &str| {
            let is_input = self
                .values
                .get(name)
                .is_some_and(|value| value.number < self.graph.inputs.len());
            let dims = self.graph.shape(name).unwrap_or_default();
            is_input && dims.last() == Some(&1)
        };
        let (data, factors) = match (is_column(a), is_column(b)) {
            (false, true) => (0, 1),
            (true, false) => (1, 0),
            _ => return Err(unsupported(node)),
        };
        let ((rows, width), factors) = (self.rows(node, data)?, self.input(node, factors)?);
        self.call(node, (SCALE_ROWS, vec![rows.number, factors.number]), width)
    }

    /// `LogSoftmax` over the last axis.
    fn log_softmax(&mut self, node: &'a NodeProto) -> Result<(), String> {
        let (rows, width) = self.rows(node, 0)?;
        let dims = node
            .input
            .first()
            .and_then(|name| self.graph.shape(name))
            .map(<[usize]>::len);
        match attribute(node, "axis").unwrap_or(-1) {
            -1 => self.call(node, (LOG_SOFTMAX, vec![rows.number]), width),
            axis if dims == usize::try_from(axis + 1).ok() => self.call(node, (LOG_SOFTMAX, vec![rows.number]), width),
            _ => Err(unsupported(node)),
        }
    }
}

fn unsupported(node: &NodeProto) -> String {
    format!("{} ({}) cannot be a part of a program", node.op_type(), node.name())
}

/// Removes casts of float32 inputs to float32, which are left where an fp16 export is converted to fp32.
fn remove_float_casts(graph: &mut Graph) {
    let inputs = graph
        .inputs()
        .into_iter()
        .filter(|input| input.element == ElementType::F32);
    let inputs: HashSet<String> = inputs.map(|input| input.name).collect();
    let is_no_op = |node: &NodeProto| {
        let casts_input = node.op_type() == "Cast" && node.input.first().is_some_and(|input| inputs.contains(input));
        casts_input && attribute(node, "to") == Some(DataType::Float as i64)
    };
    let outputs: HashSet<String> = graph.outputs().into_iter().map(|output| output.name).collect();
    let casts: Vec<(String, String)> = graph
        .nodes
        .iter()
        .filter(|node| is_no_op(node))
        .filter_map(|node| Some((node.output.first()?.clone(), node.input.first()?.clone())))
        .filter(|(output, _)| !outputs.contains(output))
        .collect();
    for (output, input) in casts {
        graph.remove_producer(&output);
        graph.rename_uses(&output, &input);
    }
}

/// Tensors that depend on constants only.
fn constant_tensors(graph: &Graph) -> HashSet<&str> {
    let mut constant: HashSet<&str> = graph.initializers.iter().map(|weight| weight.name()).collect();
    for node in &graph.nodes {
        let mut inputs = node.input.iter().filter(|input| !input.is_empty());
        if is_onnx_domain(node.domain()) && inputs.all(|input| constant.contains(input.as_str())) {
            constant.extend(node.output.iter().map(String::as_str));
        }
    }
    constant
}

/// The inputs of the program. One that is transposed before anything else reads it is stored transposed.
fn lowered_inputs(graph: &Graph) -> Result<Vec<LoweredInput>, String> {
    let index = graph.index();
    let input = |info: TensorInfo| {
        let dims: Option<Vec<usize>> = info.dims.iter().copied().collect();
        let mut dims = dims.ok_or_else(|| format!("the shape of its input {} is not fixed", info.name))?;
        let is_swap = |node: &NodeProto| {
            let axes = node.attribute.iter().find(|attribute| attribute.name() == "perm");
            node.op_type() == "Transpose" && axes.is_some_and(|axes| axes.ints == [0, 2, 1])
        };
        // One that is an output, too, has a consumer outside of the graph.
        let consumers = index.consumers(&info.name).iter();
        let mut consumers = consumers.map(|&number| graph.nodes.get(number)).peekable();
        let is_transposed =
            dims.len() == 3 && consumers.peek().is_some() && consumers.all(|node| node.is_some_and(is_swap));
        if is_transposed {
            dims.swap(1, 2);
        }
        Ok(LoweredInput {
            name: info.name,
            dims,
            element: info.element,
            is_transposed,
        })
    };
    graph.inputs().into_iter().map(input).collect()
}

/// The constants that custom operations are created with, in the order of their first use.
fn constants_read(graph: &Graph, constant: &HashSet<&str>) -> Vec<String> {
    let custom_ops = graph.nodes.iter().filter(|node| node.domain() == DOMAIN);
    let mut seen = HashSet::new();
    let names = custom_ops.flat_map(|node| &node.input).map(String::as_str);
    let read = names.filter(|name| constant.contains(name) && seen.insert(*name));
    read.map(String::from).collect()
}

/// A graph that computes `constants`. Its outputs have their names; constants of the graph itself pass through a node, because
/// an output must be written by one.
fn constants_graph(graph: &Graph, constants: &[String]) -> Result<Encoded, String> {
    let mut folded = graph.clone();
    folded.inputs.clear();
    folded.outputs.clear();
    for name in constants {
        let element = folded
            .element_of(name)
            .ok_or_else(|| format!("the type of constant {name} is unknown"))?;
        if folded.is_constant(name) {
            let inner = folded.new_name("given");
            let Some(mut tensor) = folded.weight(name).cloned() else {
                continue;
            };
            tensor.name = Some(inner.clone());
            folded.add_weight(tensor);
            folded.initializers.retain(|weight| weight.name() != name);
            folded.rename_uses(name, &inner);
            folded.add_as(name, "Identity", &[&inner], &[] as &[(&str, Attribute<'_>)]);
        }
        folded.declare_unshaped(Side::Output, name, element);
    }
    folded.prune();
    folded.packed.clear();
    folded.header.opset_import.retain(|set| is_onnx_domain(set.domain()));
    Ok(folded.encode())
}

#[cfg(test)]
mod tests;
