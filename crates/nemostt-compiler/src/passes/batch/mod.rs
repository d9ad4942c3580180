// SPDX-License-Identifier: MIT OR Apache-2.0

//! Lets one run of a specialized encoder compute a step of several streams, on devices where it runs in ONNX Runtime.
//!
//! Specialized graphs have a batch of one everywhere: in the shapes of inputs, in the sizes that `Reshape` nodes contain,
//! in rows without a batch axis. [`open`] follows the batch from the inputs to the outputs, by a rule for each operator
//! ([`rules`]), and replaces the sizes. A rule proves that a stream's part of the output depends only on its part of the
//! inputs; an operator without a rule, or one that would mix streams, is the reason why a graph is not supported.
//!
//! There are two forms:
//!
//! * **Plain**, by [`Encoded::open_batch`]: all inputs and outputs have a first axis of size `batch`. Caches come in and go
//!   out whole, for servers that keep them, such as Triton; [`Encoded::stack_states`] then makes them few.
//! * **With slots**, by [`Encoded::add_slots`] after it: a cache is a tensor \[slots, …\] that stays on the device, and
//!   inputs name the rows that a run reads and writes. See [`slots`].

mod caches;
mod follow;
mod rules;
mod slots;
mod stack;
#[cfg(test)]
mod tests;

use crate::{
    Encoded, Graph, StateSpec,
    ir::boundary::Side,
    onnx::{ValueInfoProto, tensor_shape_proto::dimension, type_proto},
};
use follow::Follower;

pub use slots::{READ_SLOTS_INPUT, SLOTS_INPUT};

/// The name of the batch axis in the declarations of inputs and outputs.
const BATCH_AXIS: &str = "batch";

impl Encoded {
    /// Opens the batch of a specialized encoder without custom operators. All inputs and outputs then have the batch as
    /// their first axis; `length`, `drop_extra_pre_encoded` and `cache_last_channel_len` have a value for each stream. All
    /// caches in `states` are whole: outputs have the shape of their inputs.
    ///
    /// # Errors
    /// A sentence that says why this graph is not supported; encoder and states are then unchanged.
    pub fn open_batch(&mut self, states: &mut Vec<StateSpec>) -> Result<(), String> {
        let mut graph = self.decode_graph()?;
        let mut whole = states.clone();
        open(&mut graph, &mut whole)?;
        self.replace_graph(graph, 0);
        *states = whole;
        Ok(())
    }

    /// Stacks the caches of the layers of an encoder with open batch: \[batch, caches, …\], in `states`, too.
    ///
    /// # Errors
    /// A sentence that says why this graph is not supported; encoder and states are then unchanged.
    pub fn stack_states(&mut self, states: &mut Vec<StateSpec>) -> Result<(), String> {
        let mut graph = self.decode_graph()?;
        let stacked = stack::stack(&mut graph, states)?;
        self.replace_graph(graph, 0);
        *states = stacked;
        Ok(())
    }

    /// Replaces the caches of an encoder with open batch by tensors of slots, which are updated in place.
    ///
    /// # Errors
    /// A sentence that says why this graph is not supported; the encoder is then unchanged.
    pub fn add_slots(&mut self, states: &[StateSpec]) -> Result<(), String> {
        let mut graph = self.decode_graph()?;
        slots::add(&mut graph, states)?;
        self.replace_graph(graph, 0);
        Ok(())
    }
}

/// See [`Encoded::open_batch`].
fn open(graph: &mut Graph, states: &mut [StateSpec]) -> Result<(), String> {
    graph.sort().ok_or("its nodes form a cycle")?;
    graph.infer_shapes();
    caches::make_whole(graph, states)?;
    follow::select_frames_by_stream(graph);
    graph.clean_up();
    graph.infer_shapes();
    let mut follower = Follower::new(graph)?;
    follower.run()?;
    follower.check_outputs()?;
    for output in graph.outputs() {
        // Exports leave the number of frames open, which is fixed now.
        if let Some(dims) = graph.shape(&output.name).map(<[usize]>::to_vec) {
            graph.fix_output(&output.name, &dims);
        }
    }
    for side in [Side::Input, Side::Output] {
        for info in graph.infos_mut(side) {
            name_first_axis(info, BATCH_AXIS);
        }
    }
    graph.clean_up();
    Ok(())
}

/// Makes the first axis of a declared tensor dynamic.
fn name_first_axis(info: &mut ValueInfoProto, name: &str) {
    let value = info.r#type.as_mut().and_then(|r#type| r#type.value.as_mut());
    if let Some(type_proto::Value::TensorType(tensor)) = value
        && let Some(first) = tensor.shape.as_mut().and_then(|shape| shape.dim.first_mut())
    {
        first.value = Some(dimension::Value::DimParam(name.into()));
    }
}
