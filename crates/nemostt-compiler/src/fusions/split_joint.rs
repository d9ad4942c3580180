// SPDX-License-Identifier: MIT OR Apache-2.0

//! A joint cut in two: what it makes of encoder frames alone, once for a chunk, and what is left for each label.
//!
//! NeMo's joint projects frames and prediction to one width and adds them. The first projection does not change with
//! labels, so it is a graph of its own; the second one ends the prediction network already.

use crate::{ElementType, Graph, Precision, ir::boundary::Side};

/// The two halves.
#[derive(Debug, Clone)]
pub struct ProjectedJoint {
    /// Takes `encoder_outputs`, gives `projected`.
    pub projection: Graph,
    /// Whether the projection takes a row for each frame, \[1, T, width\], and not a column.
    pub takes_rows: bool,
    /// Takes `projected` and `prediction`, gives `outputs`.
    pub scoring: Graph,
}

/// Cuts `joint`, which is brought to the contract.
///
/// # Errors
/// A sentence that says why it stays whole.
pub fn split_joint(joint: &Graph) -> Result<ProjectedJoint, String> {
    if joint.precision() > Precision::Fp16 {
        // Inputs are scaled by the largest of all frames: fewer frames would be scaled otherwise.
        return Err("it is quantised".into());
    }
    if joint
        .input("encoder_outputs")
        .is_none_or(|input| input.dims.get(2) != Some(&None))
    {
        return Err("its number of frames is fixed".into());
    }
    let place = projection_boundary(joint)?;
    if joint.element_of(&place) != Some(ElementType::F32) {
        return Err(format!("{place} is not float32"));
    }

    let mut projection = joint.clone();
    projection.keep_outputs(&[]);
    projection.declare_unshaped(Side::Output, &place, ElementType::F32);
    projection.prune();
    projection.rename(&place, "projected");
    let takes_rows = projection.take_rows();

    let mut scoring = joint.clone();
    scoring.remove_producer(&place);
    scoring.declare_unshaped(Side::Input, &place, ElementType::F32);
    scoring.prune();
    scoring.rename(&place, "projected");
    Ok(ProjectedJoint {
        projection,
        takes_rows,
        scoring,
    })
}

impl Graph {
    /// Lets a projection take rows where all it does to `encoder_outputs` at first is to make rows of them: ONNX Runtime
    /// takes longer for that than for the product behind it. Gives whether it does now.
    fn take_rows(&mut self) -> bool {
        let input = "encoder_outputs";
        let readers = self.index().readers(input);
        let (&[reader], Some(mut info)) = (&readers[..], self.input(input)) else {
            return false;
        };
        let node = &self.nodes[reader];
        let axes = node.attribute.iter().find(|attribute| attribute.name() == "perm");
        let turns = node.op_type() == "Transpose" && axes.is_some_and(|axes| axes.ints == [0, 2, 1]);
        let ([rows], true, 3) = (&node.output[..], turns, info.dims.len()) else {
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

/// The one tensor that depends on frames alone and is read where the prediction is known, if products lead to it.
fn projection_boundary(joint: &Graph) -> Result<String, String> {
    let frames = ["encoder_outputs".to_owned()];
    let prediction = ["prediction".to_owned()];
    let after_frames = joint.downstream(&frames);
    let after_prediction = joint.downstream(&prediction);
    let mut meeting: Vec<&String> = Vec::new();
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
        meeting.extend(node.input.iter().filter(of_frames));
    }
    meeting.dedup();
    let [place] = meeting[..] else {
        return Err(format!("frames and prediction meet in {meeting:?}, not in one tensor"));
    };
    let target = [place.clone()];
    let before = joint.upstream(&target);
    let is_product = |op: &str| matches!(op, "MatMul" | "Gemm" | "Conv");
    let mut nodes = joint.nodes.iter();
    let projects = nodes
        .any(|node| is_product(node.op_type()) && node.output.iter().any(|output| before.contains(output.as_str())));
    match projects {
        true => Ok(place.clone()),
        false => Err("nothing is computed of frames alone".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Component, import, read_file, transducer_in};

    fn joint(path: &str) -> Graph {
        transducer_in(path).joint
    }

    #[test]
    fn each_half_has_its_own_products() {
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
    fn joints_of_other_layouts_are_cut_if_they_take_several_frames() {
        let part = |path: String| {
            let graph = Graph::decode_file(read_file(path.as_ref()).unwrap()).unwrap();
            import(graph).unwrap().1
        };
        let directory = format!("{}/../../tests/data/layouts", env!("CARGO_MANIFEST_DIR"));
        let Component::Transducer(graphs) = part(format!("{directory}/parakeet_rs/decoder_joint.onnx")) else {
            panic!("it holds both");
        };
        split_joint(&graphs.joint).unwrap();
        for (prediction, joint) in [
            ("sherpa/decoder.onnx", "sherpa/joiner.onnx"),
            ("genai/decoder.onnx", "genai/joint.onnx"),
        ] {
            let Component::Prediction(prediction) = part(format!("{directory}/{prediction}")) else {
                panic!("{prediction} is a prediction network");
            };
            let Component::Joint(of_file) = part(format!("{directory}/{joint}")) else {
                panic!("{joint} is a joint");
            };
            let graphs = of_file.with(prediction, 64).unwrap();
            // They take one frame at a time.
            assert!(split_joint(&graphs.joint).unwrap_err().contains("fixed"), "{joint}");
        }
    }

    #[test]
    fn a_joint_that_adds_raw_frames_stays_whole() {
        let mut joint = joint("../nemostt/assets/demo-model/decoder_joint-model.onnx");
        for node in &mut joint.nodes {
            if node.input.iter().any(|name| name == "encoder_outputs") {
                // The frames go past the projection, too.
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
