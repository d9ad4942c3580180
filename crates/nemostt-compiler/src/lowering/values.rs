// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is known of the values of a program while a graph is lowered.

use std::collections::{HashMap, HashSet};

use crate::{ElementType, Graph, NodeProto, SubgraphCall, TensorInfo, ops::OpInput};

/// The size of an axis, if it is known.
pub(super) type Axis = Option<usize>;

/// What is known of a shape. The graph itself does not say much: shapes of what custom operations write are unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    /// All axes but the last one. `None`: not even their number is known.
    pub(super) outer: Option<Vec<Axis>>,
    /// The last axis: values per row.
    pub(super) width: Axis,
}

impl Shape {
    /// `None` for a tensor without axes, which has no rows.
    pub(super) fn new(axes: &[Axis]) -> Option<Self> {
        let (&width, outer) = axes.split_last()?;
        Some(Self {
            outer: Some(outer.to_vec()),
            width,
        })
    }

    /// Of rows in a tensor of any rank.
    pub(super) fn of_rows(width: Axis) -> Self {
        Self { outer: None, width }
    }

    /// Of an input. One without axes may also be one whose shape is not declared.
    pub(super) fn of_input(dims: &[usize]) -> Self {
        let axes: Vec<Axis> = dims.iter().copied().map(Some).collect();
        Self::new(&axes).unwrap_or_else(|| Self::of_rows(None))
    }

    /// All axes, if their number is known.
    pub(super) fn axes(&self) -> Option<Vec<Axis>> {
        let outer = self.outer.as_ref()?;
        Some(outer.iter().copied().chain([self.width]).collect())
    }
}

/// What a name stands for.
#[derive(Debug, Clone)]
pub(super) struct Value {
    pub(super) number: usize,
    /// In the program.
    pub(super) shape: Shape,
    /// Whether its last two axes are swapped in the program.
    pub(super) is_transposed: bool,
    /// The value that is stored, if this one is a view with another width.
    pub(super) root: usize,
}

impl Value {
    pub(super) fn new(number: usize, shape: Shape) -> Self {
        Self {
            number,
            shape,
            is_transposed: false,
            root: number,
        }
    }
}

/// The state of a lowering.
pub(super) struct Lowering<'a> {
    pub(super) graph: &'a Graph,
    /// As the graph declares them.
    pub(super) inputs: Vec<TensorInfo>,
    pub(super) values: HashMap<&'a str, Value>,
    /// Tensors that depend on constants only.
    pub(super) constant: HashSet<&'a str>,
    /// Those that operations are created with.
    pub(super) constants: Vec<String>,
    pub(super) calls: Vec<SubgraphCall>,
    /// The number of the next value.
    pub(super) next: usize,
}

impl<'a> Lowering<'a> {
    pub(super) fn value(&self, name: &str) -> Result<Value, String> {
        let found = self.values.get(name).cloned();
        found.ok_or_else(|| format!("{name} is not a value of the program"))
    }

    pub(super) fn input(&self, node: &NodeProto, index: usize) -> Result<Value, String> {
        self.value(node.input.get(index).ok_or_else(|| unsupported(node))?)
    }

    /// An input as rows of floats, and their width.
    pub(super) fn rows(&self, node: &NodeProto, index: usize) -> Result<(Value, usize), String> {
        let value = self.input(node, index)?;
        match value.shape.width {
            Some(width) if !value.is_transposed && width > 0 && self.is_read_as(value.number, OpInput::Tensor) => {
                Ok((value, width))
            }
            _ => Err(unsupported(node)),
        }
    }

    /// Whether the value is an input of the program, in whichever shape.
    pub(super) fn is_input(&self, value: &Value) -> bool {
        value.number < self.inputs.len()
    }

    /// Whether value `number` is what an operation reads as `kind`. All that operations write is float32.
    pub(super) fn is_read_as(&self, number: usize, kind: OpInput) -> bool {
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

    pub(super) fn define(&mut self, node: &'a NodeProto, value: Value) -> Result<(), String> {
        let [output] = &node.output[..] else {
            return Err(unsupported(node));
        };
        self.values.insert(output, value);
        Ok(())
    }
}

pub(super) fn unsupported(node: &NodeProto) -> String {
    format!("{} ({}) cannot be a part of a program", node.op_type(), node.name())
}
