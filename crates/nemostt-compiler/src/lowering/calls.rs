// SPDX-License-Identifier: MIT OR Apache-2.0

//! Calls of custom operations, alone and in fused subgraphs.

use std::collections::{BTreeMap, HashMap};

use super::values::{Axis, Lowering, Shape, Value, unsupported};
use crate::{
    AttributeValue, CALLS, NodeProto, OUTPUTS, RESHAPE, SubgraphCall,
    fusions::subgraph::attribute_value,
    ops::{self, OpInput, PACKED_MATMUL, WEIGHTS_INDEX, WIDTH},
};

impl<'a> Lowering<'a> {
    /// Adds a call of an operation on rows, whose output has `width` values per row. Returns the output's number.
    pub(super) fn call(&mut self, operation: &str, inputs: Vec<usize>, width: usize) -> usize {
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
    pub(super) fn subgraph(&mut self, node: &'a NodeProto) -> Result<(), String> {
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
    pub(super) fn custom_op(&mut self, node: &'a NodeProto) -> Result<(), String> {
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
