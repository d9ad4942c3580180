// SPDX-License-Identifier: MIT OR Apache-2.0

//! Converts prediction network and joint of all layouts to two graphs in the canonical layout:
//!
//! | graph | inputs | outputs |
//! |---|---|---|
//! | prediction network | `targets` i32 \[1, 1\], `input_states_1`, `input_states_2` f32 \[layers, 1, hidden\] | `prediction` f32, `output_states_1`, `output_states_2` |
//! | joint | `encoder_outputs` f32 \[1, width, T\], `prediction` | `outputs` f32 \[1, T, 1, tokens + 1\] (or without the third axis): raw logits |
//!
//! NeMo exports both as one graph, which would run the LSTM again in each run of the joint. It is split where the joint
//! combines predictions with encoder frames, so that the prediction network, including its projection, only runs once
//! per token.

use crate::{
    ElementType, Graph, GraphError, TensorInfo,
    import::{
        canonicalize::{expect_rank, expect_sizes, rename_and_convert, shape},
        layouts::{DecoderJointNames, JointNames, PredictionNames},
    },
    ir::boundary::Side,
};

const STATES: [&str; 2] = ["input_states_1", "input_states_2"];
const STATES_NEXT: [&str; 2] = ["output_states_1", "output_states_2"];

/// Prediction network and joint.
#[derive(Debug, Clone)]
pub struct TransducerGraphs {
    /// The prediction network.
    pub prediction: Graph,
    /// The joint.
    pub joint: Graph,
}

/// Sizes of a transducer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransducerShape {
    /// Width of the joint's encoder frames.
    pub width: usize,
    /// LSTM layers of the prediction network.
    pub layers: usize,
    /// Hidden size of the LSTM.
    pub hidden: usize,
    /// Outputs of the joint: tokens and blank.
    pub classes: usize,
    /// Axes of the logits: 4, or 3 without the token axis.
    pub logits_axes: usize,
    /// Whether the joint processes only one frame per run.
    pub one_frame: bool,
}

impl TransducerGraphs {
    /// Reads the sizes from the graphs.
    ///
    /// # Errors
    /// If a graph lacks an input or output, or sizes are invalid.
    pub fn shape(&self) -> Result<TransducerShape, GraphError> {
        let state = expect_sizes(&self.prediction, Side::Input, STATES[0], &[None, Some(1), None], 1)?;
        // Both states are [layers, 1, hidden]; a size may be declared by one of them only.
        expect_sizes(
            &self.prediction,
            Side::Input,
            STATES[1],
            &[state.dims[0], Some(1), state.dims[2]],
            1,
        )?;
        for name in STATES_NEXT {
            expect_sizes(
                &self.prediction,
                Side::Output,
                name,
                &[state.dims[0], Some(1), state.dims[2]],
                1,
            )?;
        }
        expect_sizes(&self.prediction, Side::Input, "targets", &[Some(1), Some(1)], 0)?;
        let frames = expect_sizes(&self.joint, Side::Input, "encoder_outputs", &[Some(1), None, None], 0)?;
        let logits = expect_rank(&self.joint, Side::Output, "outputs", 4)
            .or_else(|fault| expect_rank(&self.joint, Side::Output, "outputs", 3).map_err(|_| fault))?;
        // As many frames as are given, for one token.
        let mut scored = vec![Some(1); logits.dims.len()];
        (scored[1], scored[logits.dims.len() - 1]) = (frames.dims[2], None);
        if frames.dims[2].is_none() && logits.dims[1].is_some() {
            return Err(GraphError::Contradiction {
                what: format!(
                    "its outputs are {}, whatever the number of encoder frames",
                    shape(&logits.dims)
                ),
            });
        }
        expect_sizes(&self.joint, Side::Output, "outputs", &scored, 0)?;
        let size = |info: &TensorInfo, axis: usize, what: &str| {
            info.dims[axis].ok_or_else(|| GraphError::CannotInfer(format!("the {what} (axis {axis} of {})", info.name)))
        };
        let classes = size(&logits, logits.dims.len() - 1, "number of classes")?;
        let sizes = TransducerShape {
            width: size(&frames, 1, "width of its encoder frames")?,
            layers: size(&state, 0, "number of LSTM layers")?,
            hidden: size(&state, 2, "width of its LSTM")?,
            classes,
            logits_axes: logits.dims.len(),
            one_frame: frames.dims[2] == Some(1),
        };
        let all = [sizes.width, sizes.layers, sizes.hidden, sizes.classes];
        if all.iter().any(|size| !(1..=MAX_SIZE).contains(size)) || classes < 2 {
            return Err(GraphError::Contradiction {
                what: format!("its sizes are out of range: {sizes:?}"),
            });
        }
        Ok(sizes)
    }
}

/// Larger than any width or vocabulary; prevents excessive allocations.
pub(crate) const MAX_SIZE: usize = 1 << 20;

/// Splits a graph that contains both.
pub(crate) fn split(mut graph: Graph, names: &DecoderJointNames) -> Result<TransducerGraphs, GraphError> {
    make_length_constant(&mut graph, names.target_length);
    let boundary = prediction_boundary(&graph, names)?;
    let element = graph.element_of(&boundary).unwrap_or(ElementType::F32);

    let mut joint = graph.clone();
    joint.keep_outputs(&[names.logits]);
    joint.remove_producer(&boundary);
    joint.declare_unshaped(Side::Input, &boundary, element);
    joint.prune();
    canonicalize_joint(&mut joint, names.frames, &boundary, names.logits, None)?;

    graph.declare_unshaped(Side::Output, &boundary, element);
    graph.keep_outputs(&[&boundary, names.states_next[0], names.states_next[1]]);
    graph.prune();
    canonicalize_prediction(&mut graph, names.targets, names.states, &boundary, names.states_next)?;
    Ok(TransducerGraphs {
        prediction: graph,
        joint,
    })
}

/// The only tensor that depends on tokens alone and is combined with encoder frames.
fn prediction_boundary(graph: &Graph, names: &DecoderJointNames) -> Result<String, GraphError> {
    let frames = [names.frames.to_owned()];
    let sources = [names.targets, names.states[0], names.states[1]].map(String::from);
    let after_frames = graph.downstream(&frames);
    let after_tokens = graph.downstream(&sources);
    let mut candidates: Vec<&String> = Vec::new();
    for node in &graph.nodes {
        let joins = node.output.iter().any(|output| after_frames.contains(output.as_str()));
        let predicted =
            |input: &&String| after_tokens.contains(input.as_str()) && !after_frames.contains(input.as_str());
        for input in node.input.iter().filter(|_| joins).filter(predicted) {
            if !candidates.contains(&input) {
                candidates.push(input);
            }
        }
    }
    match candidates[..] {
        [boundary] if !sources.contains(boundary) => Ok(boundary.clone()),
        _ => Err(GraphError::CannotInfer(format!(
            "the tensor between prediction network and joint (found {candidates:?})"
        ))),
    }
}

/// Converts a prediction network from a separate file.
pub(crate) fn prediction(mut graph: Graph, names: &PredictionNames) -> Result<Graph, GraphError> {
    if let Some(length) = names.target_length {
        make_length_constant(&mut graph, length);
    }
    let states = named_or_in_order(&graph, Side::Input, names.states, "")?;
    let next = named_or_in_order(&graph, Side::Output, names.states_next, names.output)?;
    let [states, next] = [&states, &next].map(|pair| [pair[0].as_str(), pair[1].as_str()]);
    graph.keep_outputs(&[names.output, next[0], next[1]]);
    graph.prune();
    canonicalize_prediction(&mut graph, names.targets, states, names.output, next)?;
    Ok(graph)
}

/// The two LSTM states: by name, or the two tensors with three axes that are not `other`.
fn named_or_in_order(
    graph: &Graph,
    side: Side,
    names: Option<[&'static str; 2]>,
    other: &str,
) -> Result<[String; 2], GraphError> {
    if let Some(names) = names {
        return Ok(names.map(String::from));
    }
    let three_axes = |info: &TensorInfo| info.dims.len() == 3 && info.name != other;
    let found: Vec<String> = graph
        .all(side)
        .into_iter()
        .filter(three_axes)
        .map(|info| info.name)
        .collect();
    found.try_into().map_err(|found: Vec<String>| {
        GraphError::CannotInfer(format!(
            "which {}s are the LSTM's two states (found {found:?})",
            side.name()
        ))
    })
}

/// Converts a joint from a separate file, and matches it with its prediction network; encoder frames have `width`
/// values.
pub(crate) fn join(
    mut prediction: Graph,
    mut joint: Graph,
    names: &JointNames,
    width: usize,
) -> Result<TransducerGraphs, GraphError> {
    canonicalize_joint(&mut joint, names.frames, names.prediction, names.logits, Some(width))?;
    let single = [Some(1), None, None];
    let produced = expect_sizes(&prediction, Side::Output, "prediction", &single, 0)?.dims;
    let takes = expect_sizes(&joint, Side::Input, "prediction", &single, 0)?.dims;
    // The order of width and the token axis may differ.
    let transposed =
        produced[1] != takes[1] && produced[2] != takes[2] && (produced[1] == takes[2] || produced[2] == takes[1]);
    if transposed {
        rename_and_convert(
            &mut prediction,
            Side::Output,
            "prediction",
            "prediction",
            ElementType::F32,
            &[0, 2, 1],
        )?;
    } else if let (Some(gives), Some(takes)) = (produced[1].max(produced[2]), takes[1].max(takes[2]))
        && gives != takes
    {
        return Err(GraphError::OtherModel {
            what: "predictions",
            takes,
            giver: "prediction network",
            gives,
        });
    }
    Ok(TransducerGraphs { prediction, joint })
}

fn canonicalize_prediction(
    graph: &mut Graph,
    targets: &str,
    states: [&str; 2],
    output: &str,
    states_next: [&str; 2],
) -> Result<(), GraphError> {
    rename_and_convert(graph, Side::Input, targets, "targets", ElementType::I32, &[])?;
    // Renamed first, because its name may be one of the new names of the others.
    rename_and_convert(graph, Side::Output, output, "prediction", ElementType::F32, &[])?;
    for index in 0..2 {
        rename_and_convert(graph, Side::Input, states[index], STATES[index], ElementType::F32, &[])?;
        rename_and_convert(
            graph,
            Side::Output,
            states_next[index],
            STATES_NEXT[index],
            ElementType::F32,
            &[],
        )?;
    }
    Ok(())
}

fn canonicalize_joint(
    graph: &mut Graph,
    frames: &str,
    prediction: &str,
    logits: &str,
    width: Option<usize>,
) -> Result<(), GraphError> {
    let dims = expect_rank(graph, Side::Input, frames, 3)?.dims;
    let time_first = width.is_some() && dims[1] != width && (dims[2] == width || dims[2].is_none());
    let axes: &[usize] = if time_first { &[0, 2, 1] } else { &[] };
    rename_and_convert(graph, Side::Input, prediction, "prediction", ElementType::F32, &[])?;
    rename_and_convert(graph, Side::Input, frames, "encoder_outputs", ElementType::F32, axes)?;
    rename_and_convert(graph, Side::Output, logits, "outputs", ElementType::F32, &[])
}

/// The length of the targets is always 1.
fn make_length_constant(graph: &mut Graph, name: &str) {
    if let Some(length) = graph.find(Side::Input, name) {
        graph.remove(Side::Input, name);
        graph.add_constant(name, length.element, &[1]);
    }
}
