// SPDX-License-Identifier: MIT OR Apache-2.0

//! Lowers a whole graph to one program: a list of calls that the [executor](nemostt_kernels::executor) runs without ONNX
//! Runtime, for any number of streams at a time. ONNX Runtime cannot batch such a graph: its operators would have to gather
//! the caches of all streams into one tensor for each step, and scatter them again.
//!
//! What fusions leave of an encoder lowers to few further operations: a selection of frames, a mask, views of the same values
//! with other shapes. Nodes that depend on constants only become a graph of their own, which runs once.
//!
//! A program knows rows of values, not axes. So each operator is only lowered if what is known of the shapes and types of
//! its inputs leaves no doubt that rows mean the same.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;

use crate::{
    AttributeValue, CALLS, ElementType, Encoded, FUSED_SUBGRAPH, Graph, NodeProto, OUTPUTS, RESHAPE, SubgraphCall,
    TensorInfo,
    fusions::subgraph::attribute_value,
    ir::{
        attribute::Attribute,
        boundary::Side,
        constant::{attribute, attribute_list, axis_of, checked_dims},
        data_movement::resolve_reshape,
        graph::is_onnx_domain,
    },
    onnx::tensor_proto::DataType,
    ops::{self, DOMAIN, LOG_SOFTMAX, OpInput, PACKED_MATMUL, SCALE_ROWS, SELECT_ROWS, WEIGHTS_INDEX, WIDTH},
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

/// An input of a program: float32, unless it is a scalar or indices of rows, which the graph declares as int64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoweredInput {
    /// Its name in the graph.
    pub name: String,
    /// Its shape for the program.
    pub dims: Vec<usize>,
    /// Whether its last two axes are swapped for the program. Only those of `audio_signal` may be.
    pub is_transposed: bool,
}

/// An output of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoweredOutput {
    /// Its name in the graph.
    pub name: String,
    /// Number of the value.
    pub value: usize,
    /// Whether its last two axes are swapped in the program. Only those of `outputs` may be.
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
        let mut lowered = lower(&graph)?;
        lowered.constants_graph.files.clone_from(&self.files);
        Ok(lowered)
    }
}

fn lower(graph: &Graph) -> Result<LoweredGraph, String> {
    let constant = constant_tensors(graph);
    let inputs = lowered_inputs(graph)?;
    let constants = constants_read(graph, &constant);
    let mut lowering = Lowering {
        graph,
        inputs: graph.inputs(),
        values: HashMap::new(),
        next: inputs.len() + constants.len(),
        constant,
        constants,
        calls: Vec::new(),
    };
    for (number, (info, input)) in graph.inputs.iter().zip(&inputs).enumerate() {
        let value = Value {
            is_transposed: input.is_transposed,
            ..Value::new(number, Shape::of_input(&input.dims))
        };
        lowering.values.insert(info.name(), value);
    }
    for node in &graph.nodes {
        let mut outputs = node.output.iter();
        if !outputs.all(|output| lowering.constant.contains(output.as_str())) {
            lowering.node(node)?;
        }
    }
    let output = |info: TensorInfo| {
        let value = lowering.value(&info.name)?;
        Ok(LoweredOutput {
            value: value.root,
            is_transposed: value.is_transposed,
            name: info.name,
        })
    };
    let outputs = graph.outputs().into_iter().map(output).collect::<Result<_, String>>()?;
    let Lowering { constants, calls, .. } = lowering;
    Ok(LoweredGraph {
        constants_graph: constants_graph(graph, &constants)?,
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
}

/// The size of an axis, if it is known.
type Axis = Option<usize>;

/// What is known of a shape. The graph itself does not say much: shapes of what custom operations write are unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shape {
    /// All axes but the last one. `None`: not even their number is known.
    outer: Option<Vec<Axis>>,
    /// The last axis: values per row.
    width: Axis,
}

impl Shape {
    /// `None` for a tensor without axes, which has no rows.
    fn new(axes: &[Axis]) -> Option<Self> {
        let (&width, outer) = axes.split_last()?;
        Some(Self {
            outer: Some(outer.to_vec()),
            width,
        })
    }

    /// Of rows in a tensor of any rank.
    fn of_rows(width: Axis) -> Self {
        Self { outer: None, width }
    }

    /// Of an input. One without axes may also be one whose shape is not declared.
    fn of_input(dims: &[usize]) -> Self {
        let axes: Vec<Axis> = dims.iter().copied().map(Some).collect();
        Self::new(&axes).unwrap_or_else(|| Self::of_rows(None))
    }

    /// All axes, if their number is known.
    fn axes(&self) -> Option<Vec<Axis>> {
        let outer = self.outer.as_ref()?;
        Some(outer.iter().copied().chain([self.width]).collect())
    }
}

/// What a name stands for.
#[derive(Debug, Clone)]
struct Value {
    number: usize,
    /// In the program.
    shape: Shape,
    /// Whether its last two axes are swapped in the program.
    is_transposed: bool,
    /// The value that is stored, if this one is a view with another width.
    root: usize,
}

impl Value {
    fn new(number: usize, shape: Shape) -> Self {
        Self {
            number,
            shape,
            is_transposed: false,
            root: number,
        }
    }
}

/// The state of a lowering.
struct Lowering<'a> {
    graph: &'a Graph,
    /// As the graph declares them.
    inputs: Vec<TensorInfo>,
    values: HashMap<&'a str, Value>,
    /// Tensors that depend on constants only.
    constant: HashSet<&'a str>,
    /// Those that operations are created with.
    constants: Vec<String>,
    calls: Vec<SubgraphCall>,
    /// The number of the next value.
    next: usize,
}

impl<'a> Lowering<'a> {
    fn value(&self, name: &str) -> Result<Value, String> {
        let found = self.values.get(name).cloned();
        found.ok_or_else(|| format!("{name} is not a value of the program"))
    }

    fn input(&self, node: &NodeProto, index: usize) -> Result<Value, String> {
        self.value(node.input.get(index).ok_or_else(|| unsupported(node))?)
    }

    /// An input as rows of floats, and their width.
    fn rows(&self, node: &NodeProto, index: usize) -> Result<(Value, usize), String> {
        let value = self.input(node, index)?;
        match value.shape.width {
            Some(width) if !value.is_transposed && width > 0 && self.is_read_as(value.number, OpInput::Tensor) => {
                Ok((value, width))
            }
            _ => Err(unsupported(node)),
        }
    }

    /// Whether the value is an input of the program, in whichever shape.
    fn is_input(&self, value: &Value) -> bool {
        value.number < self.inputs.len()
    }

    /// Whether value `number` is what an operation reads as `kind`. All that operations write is float32.
    fn is_read_as(&self, number: usize, kind: OpInput) -> bool {
        let input = self.inputs.get(number);
        let is_constant = input.is_none() && number < self.inputs.len() + self.constants.len();
        match kind {
            OpInput::Tensor | OpInput::Optional => {
                !is_constant && input.is_none_or(|input| input.element == ElementType::F32)
            }
            OpInput::Scalar => input.is_some_and(|input| {
                let mut dims = input.dims.iter();
                input.element == ElementType::I64 && dims.all(|dim| *dim == Some(1))
            }),
            OpInput::Weights | OpInput::Indices => is_constant,
        }
    }

    fn define(&mut self, node: &'a NodeProto, value: Value) -> Result<(), String> {
        let [output] = &node.output[..] else {
            return Err(unsupported(node));
        };
        self.values.insert(output, value);
        Ok(())
    }
}

fn unsupported(node: &NodeProto) -> String {
    format!("{} ({}) cannot be a part of a program", node.op_type(), node.name())
}

impl<'a> Lowering<'a> {
    /// Adds a call of an operation on rows, whose output has `width` values per row. Returns the output's number.
    fn call(&mut self, operation: &str, inputs: Vec<usize>, width: usize) -> usize {
        let number = self.next;
        self.next += 1;
        self.calls.push(SubgraphCall {
            operation: operation.into(),
            inputs,
            outputs: vec![number],
            attributes: BTreeMap::from([(WIDTH.into(), AttributeValue::Int(width as i64))]),
        });
        number
    }

    /// Adds a call of a custom operation, whose inputs must be of the kinds that it reads.
    fn custom_call(&mut self, call: SubgraphCall) -> Result<(), String> {
        let kind = |index: usize| match call.operation.as_str() {
            RESHAPE => (index == 0).then_some(OpInput::Tensor),
            operation => ops::schema(operation)?.inputs.get(index).copied(),
        };
        for (index, &number) in call.inputs.iter().enumerate() {
            if !kind(index).is_some_and(|kind| self.is_read_as(number, kind)) {
                let mut names = self.inputs.iter().map(|input| &input.name).chain(&self.constants);
                let name = names.nth(number).map_or("a computed value", String::as_str);
                return Err(format!("{} cannot read {name} as its input {index}", call.operation));
            }
        }
        self.calls.push(call);
        Ok(())
    }

    /// The number of what an operation reads: a value, or a constant that it is created with.
    fn number(&self, name: &str) -> Result<usize, String> {
        match self.constants.iter().position(|constant| constant == name) {
            // After the inputs.
            Some(index) => Ok(self.inputs.len() + index),
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
            self.custom_call(SubgraphCall {
                inputs: inputs.ok_or_else(|| unsupported(node))?,
                outputs,
                ..call
            })?;
        }
        let outputs = find(OUTPUTS).map(|outputs| &outputs.ints[..]).unwrap_or_default();
        if outputs.len() != node.output.len() {
            return Err(unsupported(node));
        }
        for (name, output) in node.output.iter().zip(outputs) {
            let number = usize::try_from(*output).ok().and_then(|output| numbers.get(output));
            let number = *number.ok_or_else(|| unsupported(node))?;
            let shape = Shape::of_rows(widths.get(&number).copied());
            self.values.insert(name, Value::new(number, shape));
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
            let width = self.width_of(&call).filter(|_| index == 0);
            self.values.insert(name, Value::new(number, Shape::of_rows(width)));
        }
        self.custom_call(call)
    }

    /// The width of the rows of a call's first output, where it is easy to tell.
    fn width_of(&self, call: &SubgraphCall) -> Axis {
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
}

/// The only output that the caller can read in another order of axes.
const TRANSPOSED_OUTPUT: &str = "outputs";

impl<'a> Lowering<'a> {
    /// The same values in the same order with another shape.
    fn view(&mut self, node: &'a NodeProto) -> Result<(), String> {
        let value = self.input(node, 0)?;
        let shape = self.viewed_shape(node, &value.shape);
        let shape = shape
            .filter(|_| !value.is_transposed)
            .ok_or_else(|| unsupported(node))?;
        let width = shape.width.filter(|&width| width > 0);
        let width = width.ok_or_else(|| unsupported(node))?;
        // Inputs of the program get their width where it is run.
        let number = match value.shape.width == Some(width) || self.is_input(&value) {
            true => value.number,
            false => self.call(RESHAPE, vec![value.number], width),
        };
        self.define(node, Value { number, shape, ..value })
    }

    /// The shape of the output of a node that changes shapes.
    fn viewed_shape(&self, node: &NodeProto, from: &Shape) -> Option<Shape> {
        let constant = || self.graph.constants().remove(node.input.get(1)?.as_str());
        match node.op_type() {
            "Identity" => Some(from.clone()),
            "Reshape" => {
                let keeps_zero = attribute(node, "allowzero") == Some(1);
                Shape::new(&reshaped(from.axes().as_deref(), &constant()?, keeps_zero)?)
            }
            "Unsqueeze" => Shape::new(&unsqueezed(&from.axes()?, &constant()?)?),
            // Without axes, it depends on sizes that may be unknown.
            "Squeeze" => Shape::new(&squeezed(&from.axes()?, &constant()?)?),
            _ => None,
        }
    }

    /// A transpose of the audio or of the outputs, at the start or the end of the graph, is left to the caller, who writes and
    /// reads them in any order.
    fn transpose(&mut self, node: &'a NodeProto) -> Result<(), String> {
        let value = self.input(node, 0)?;
        let is_frames = matches!(value.shape.outer.as_deref(), Some([Some(1), _]));
        let output = node.output.first().ok_or_else(|| unsupported(node))?;
        let is_at_end = output == TRANSPOSED_OUTPUT && self.graph.index().readers(output).is_empty();
        // An input is only transposed if it is at the start.
        let is_transposed = match (self.is_input(&value), value.is_transposed) {
            (true, true) => false,
            (false, false) if is_at_end => true,
            _ => return Err(unsupported(node)),
        };
        match is_frames && swaps_last_axes(node) {
            true => self.define(node, Value { is_transposed, ..value }),
            false => Err(unsupported(node)),
        }
    }
}

/// Whether a node swaps the last two of three axes.
fn swaps_last_axes(node: &NodeProto) -> bool {
    let is_transpose = is_onnx_domain(node.domain()) && node.op_type() == "Transpose";
    is_transpose && attribute_list(node, "perm") == Some(&[0, 2, 1])
}

/// The result of a `Reshape`; `from` is `None` if the rank of its input is unknown.
fn reshaped(from: Option<&[Axis]>, target: &[i64], keeps_zero: bool) -> Option<Vec<Axis>> {
    if target.iter().filter(|&&size| size == -1).count() > 1 {
        return None;
    }
    let known: Option<Vec<usize>> = from.and_then(|from| from.iter().copied().collect());
    if let Some(known) = known {
        let axes = resolve_reshape(&checked_dims(known)?, target, keeps_zero)?;
        return Some(axes.into_iter().map(Some).collect());
    }
    let size = |(axis, &size): (usize, &i64)| match (size, from) {
        // Takes what is left.
        (-1, _) => Some(None),
        // Copied.
        (0, Some(from)) if !keeps_zero => from.get(axis).copied(),
        (0, None) if !keeps_zero => Some(None),
        (size, _) => usize::try_from(size).ok().map(Some),
    };
    let axes: Vec<Axis> = target.iter().enumerate().map(size).collect::<Option<_>>()?;
    checked_dims(axes.iter().copied().flatten().collect()).map(|_| axes)
}

/// The result of an `Unsqueeze`, which inserts axes of size 1: `new` of its output.
fn unsqueezed(from: &[Axis], new: &[i64]) -> Option<Vec<Axis>> {
    let rank = from.len() + new.len();
    let new: Vec<usize> = new.iter().map(|&axis| axis_of(axis, rank)).collect::<Option<_>>()?;
    let mut from = from.iter();
    let size = |axis: usize| match new.contains(&axis) {
        true => Some(Some(1)),
        false => from.next().copied(),
    };
    let axes: Vec<Axis> = (0..rank).map(size).collect::<Option<_>>()?;
    // If an axis is given twice, sizes are left over.
    from.next().is_none().then_some(axes)
}

/// The result of a `Squeeze`, which removes the axes `removed`, of size 1.
fn squeezed(from: &[Axis], removed: &[i64]) -> Option<Vec<Axis>> {
    let removed = removed.iter().map(|&axis| axis_of(axis, from.len()));
    let removed: Vec<usize> = removed.collect::<Option<_>>()?;
    let is_one = removed.iter().all(|&axis| from[axis] == Some(1));
    let remaining = (0..from.len()).filter(|axis| !removed.contains(axis));
    is_one.then(|| remaining.map(|axis| from[axis]).collect())
}

impl<'a> Lowering<'a> {
    /// `Gather` of rows with indices that are computed outside.
    fn select_rows(&mut self, node: &'a NodeProto) -> Result<(), String> {
        let ((rows, width), indices) = (self.rows(node, 0)?, self.input(node, 1)?);
        // The axis of the rows. The other axes must not have rows of their own.
        let axis = match rows.shape.outer.as_deref() {
            Some([_]) => 0,
            Some([Some(1), _]) => 1,
            _ => return Err(unsupported(node)),
        };
        let is_axis = axis_of(attribute(node, "axis").unwrap_or(0), axis + 2) == Some(axis);
        // Indices are int64 in the graph, and become rows' numbers where the program is run.
        let input = self.inputs.get(indices.number);
        let is_indices = !indices.is_transposed && input.is_some_and(|input| input.element == ElementType::I64);
        let selected = indices.shape.axes().filter(|_| is_axis && is_indices);
        let mut outer = selected.ok_or_else(|| unsupported(node))?;
        outer.splice(0..0, (0..axis).map(|_| Some(1)));
        let shape = Shape {
            outer: Some(outer),
            width: Some(width),
        };
        let number = self.call(SELECT_ROWS, vec![rows.number, indices.number], width);
        self.define(node, Value::new(number, shape))
    }

    /// `Mul` of rows with one factor per row, an input.
    fn scale_rows(&mut self, node: &'a NodeProto) -> Result<(), String> {
        let [a, b] = [self.input(node, 0)?, self.input(node, 1)?];
        let is_column = |value: &Value| self.is_input(value) && value.shape.width == Some(1);
        let (data, factors) = match (is_column(&a), is_column(&b)) {
            (false, true) => (0, b),
            (true, false) => (1, a),
            _ => return Err(unsupported(node)),
        };
        let (rows, width) = self.rows(node, data)?;
        // Nothing else may be broadcast: as many factors as rows do not have to belong to them in this order. Only with two
        // axes the number says it, which is compared where the program is run.
        let has_factor_per_row = match (rows.shape.outer.as_deref(), factors.shape.outer.as_deref()) {
            (Some([None]), Some([_])) => true,
            (Some(rows), Some(factors)) => rows == factors && !factors.contains(&None),
            _ => false,
        };
        if !has_factor_per_row || !self.is_read_as(factors.number, OpInput::Tensor) {
            return Err(unsupported(node));
        }
        let number = self.call(SCALE_ROWS, vec![rows.number, factors.number], width);
        self.define(node, Value::new(number, rows.shape))
    }

    /// `LogSoftmax` over the last axis.
    fn log_softmax(&mut self, node: &'a NodeProto) -> Result<(), String> {
        let (rows, width) = self.rows(node, 0)?;
        let is_last = match (attribute(node, "axis").unwrap_or(-1), &rows.shape.outer) {
            (-1, _) => true,
            (axis, Some(outer)) => axis_of(axis, outer.len() + 1) == Some(outer.len()),
            (_, None) => false,
        };
        if !is_last {
            return Err(unsupported(node));
        }
        let number = self.call(LOG_SOFTMAX, vec![rows.number], width);
        self.define(node, Value::new(number, rows.shape))
    }
}

/// The only input that the caller can write in another order of axes.
const AUDIO: &str = "audio_signal";

/// The inputs of the program. Audio that is transposed before anything else reads it is stored transposed.
fn lowered_inputs(graph: &Graph) -> Result<Vec<LoweredInput>, String> {
    let index = graph.index();
    let input = |info: TensorInfo| {
        let dims: Option<Vec<usize>> = info.dims.iter().copied().collect();
        let mut dims = dims.ok_or_else(|| format!("the shape of its input {} is not fixed", info.name))?;
        // One that is an output, too, has a consumer outside of the graph.
        let consumers = index.consumers(&info.name).iter();
        let mut consumers = consumers.map(|&number| graph.nodes.get(number)).peekable();
        let is_transposed = info.name == AUDIO
            && dims.len() == 3
            && consumers.peek().is_some()
            && consumers.all(|node| node.is_some_and(swaps_last_axes));
        if is_transposed {
            dims.swap(1, 2);
        }
        Ok(LoweredInput {
            name: info.name,
            dims,
            is_transposed,
        })
    };
    graph.inputs().into_iter().map(input).collect()
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
