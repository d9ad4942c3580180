// SPDX-License-Identifier: MIT OR Apache-2.0

//! Splits a joint into the projection of encoder frames, which runs once per chunk, and the scoring, which runs after
//! each token.
//!
//! NeMo's joint projects frames and prediction to the same width and adds them. The projection of the frames does not
//! depend on tokens. That of the prediction is already at the end of the prediction network's graph (see
//! `import/transducer.rs`).

use crate::{ElementType, Graph, Precision, ir::boundary::Side};

/// A joint, split in two.
#[derive(Debug, Clone)]
pub struct ProjectedJoint {
    /// Input `encoder_outputs`, output `projected`.
    pub projection: Graph,
    /// Whether `encoder_outputs` is \[1, T, width\], one row per frame, instead of \[1, width, T\].
    pub takes_rows: bool,
    /// Inputs `projected` and `prediction`, output `outputs`.
    pub scoring: Graph,
}

/// Splits `joint`, which must be in the canonical layout.
///
/// # Errors
/// A sentence that says why it cannot be split.
pub fn split_joint(joint: &Graph) -> Result<ProjectedJoint, String> {
    if joint.precision() > Precision::Fp16 {
        // Dynamic quantization scales by the largest value of all frames, so the result depends on how many there are.
        return Err("it is quantized".into());
    }
    if joint
        .input("encoder_outputs")
        .is_none_or(|input| input.dims.get(2) != Some(&None))
    {
        return Err("its number of frames is fixed".into());
    }
    let boundary = projection_boundary(joint)?;
    if joint.element_of(&boundary) != Some(ElementType::F32) {
        return Err(format!("{boundary} is not float32"));
    }

    let mut projection = joint.clone();
    projection.keep_outputs(&[]);
    projection.declare_unshaped(Side::Output, &boundary, ElementType::F32);
    projection.prune();
    projection.rename(&boundary, "projected");
    let takes_rows = projection.take_rows();

    let mut scoring = joint.clone();
    scoring.remove_producer(&boundary);
    scoring.declare_unshaped(Side::Input, &boundary, ElementType::F32);
    scoring.prune();
    scoring.rename(&boundary, "projected");
    Ok(ProjectedJoint {
        projection,
        takes_rows,
        scoring,
    })
}

impl Graph {
    /// Removes the transpose of `encoder_outputs` to rows, if the graph starts with one, so that the input is rows.
    /// ONNX Runtime takes longer for it than for the matrix product that follows. Returns whether it was removed.
    fn take_rows(&mut self) -> bool {
        let input = "encoder_outputs";
        let readers = self.index().readers(input);
        let (&[reader], Some(mut info)) = (&readers[..], self.input(input)) else {
            return false;
        };
        let node = &self.nodes[reader];
        let axes = node.attribute.iter().find(|attribute| attribute.name() == "perm");
        let is_transpose = node.op_type() == "Transpose" && axes.is_some_and(|axes| axes.ints == [0, 2, 1]);
        let ([rows], true, 3) = (&node.output[..], is_transpose, info.dims.len()) else {
            return false;
        };
        let rows = rows.clone();
        self.remove_node(reader);
        self.rename_uses_of(&rows, input);
        info.dims.swap(1, 2);
        self.redeclare(Side::Input, &info);
        true
    }
}

/// The one tensor that depends only on frames and is combined with the prediction, if it is computed by matrix
/// products.
fn projection_boundary(joint: &Graph) -> Result<String, String> {
    let frames = ["encoder_outputs".to_owned()];
    let prediction = ["prediction".to_owned()];
    let after_frames = joint.downstream(&frames);
    let after_prediction = joint.downstream(&prediction);
    let mut boundary: Vec<&String> = Vec::new();
    for node in &joint.nodes {
        if !node
            .output
            .iter()
            .any(|output| after_prediction.contains(output.as_str()))
        {
            continue;
        }
        let of_frames =
            |input: &&String| after_frames.contains(input.as_str()) && !after_prediction.contains(input.as_str());
        boundary.extend(node.input.iter().filter(of_frames));
    }
    boundary.dedup();
    let [tensor] = boundary[..] else {
        return Err(format!(
            "frames and prediction are combined in {boundary:?}, not in one tensor"
        ));
    };
    let target = [tensor.clone()];
    let before = joint.upstream(&target);
    let is_product = |op: &str| matches!(op, "MatMul" | "Gemm" | "Conv");
    let mut nodes = joint.nodes.iter();
    let projects = nodes
        .any(|node| is_product(node.op_type()) && node.output.iter().any(|output| before.contains(output.as_str())));
    match projects {
        true => Ok(tensor.clone()),
        false => Err("it does not project frames separately".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Component, graph_in, import, transducer_in};

    fn joint(path: &str) -> Graph {
        transducer_in(path).joint
    }

    #[test]
    fn each_half_has_one_matmul() {
        for path in [
            "../nemostt/assets/demo-model/decoder_joint-model.onnx",
            "../../tests/data/tiny_random/decoder_joint-rnnt_la13.onnx",
        ] {
            let joint = joint(path);
            let halves = split_joint(&joint).unwrap();
            let products = |graph: &Graph| graph.operations().filter(|op| ["MatMul", "Gemm"].contains(op)).count();
            assert_eq!([&halves.projection, &halves.scoring].map(products), [1, 1], "{path}");
            assert!(halves.takes_rows && !halves.projection.operations().any(|op| op == "Transpose"));
            assert!(halves.projection.input("prediction").is_none());
            assert!(halves.scoring.input("encoder_outputs").is_none());
            assert!(halves.projection.weights() + halves.scoring.weights() <= joint.weights() + 16);
        }
    }

    #[test]
    fn joints_of_other_layouts_are_split_if_they_take_several_frames() {
        let component = |path: &str| import(graph_in(&format!("../../tests/data/layouts/{path}"))).unwrap().1;
        split_joint(&joint("../../tests/data/layouts/parakeet_rs/decoder_joint.onnx")).unwrap();
        for (prediction, joint) in [
            ("sherpa/decoder.onnx", "sherpa/joiner.onnx"),
            ("genai/decoder.onnx", "genai/joint.onnx"),
        ] {
            let Component::Prediction(prediction) = component(prediction) else {
                panic!("{prediction} is a prediction network");
            };
            let Component::Joint(of_file) = component(joint) else {
                panic!("{joint} is a joint");
            };
            let graphs = of_file.with(prediction, 64).unwrap();
            // They take one frame at a time.
            assert!(split_joint(&graphs.joint).unwrap_err().contains("fixed"), "{joint}");
        }
    }

    #[test]
    fn joint_that_adds_raw_frames_is_not_split() {
        let mut joint = joint("../nemostt/assets/demo-model/decoder_joint-model.onnx");
        for node in &mut joint.nodes {
            if node.input.iter().any(|name| name == "encoder_outputs") {
                // Frames are also added without projection.
                let frames = node.output[0].clone();
                let mut add = node.clone();
                add.op_type = Some("Add".into());
                add.attribute.clear();
                add.input = vec![frames, "prediction".into()];
                add.output = vec!["second".into()];
                joint.nodes.push(add);
                break;
            }
        }
        assert!(split_joint(&joint).unwrap_err().contains("not in one tensor"));
    }
}
