// SPDX-License-Identifier: MIT OR Apache-2.0

//! Rewrites a split joint to custom operations on 2-D tensors, which can be [fused](Graph::fuse_subgraphs).
//!
//! NeMo's joint adds frames \[1, T, 1, width\] and predictions \[1, 1, U, width\] to \[1, T, U, width\]. With one
//! prediction at a time (U = 1) these are T rows.

use crate::ops::{DOMAIN, JOINT_ADD_RELU, PACKED_MATMUL, WEIGHTS_INDEX, WIDTH};
use crate::{
    ElementType, Graph, NodeProto, ProjectedJoint, TensorInfo,
    ir::boundary::Side,
    onnx::{AttributeProto, attribute_proto::AttributeType},
};

/// Operators that only change the shape of their first input.
const RESHAPES: [&str; 4] = ["Identity", "Reshape", "Squeeze", "Unsqueeze"];

impl ProjectedJoint {
    /// Both halves in 2-D, if they have NeMo's structure and their matrix products were
    /// [packed](Graph::prepack_matmuls): the projection computes `projected` \[T, width\] from `encoder_outputs` \[T,
    /// …\], and the scoring `outputs` \[T, classes\] from that and `prediction`. The caller must have checked that
    /// `projected` and `outputs` of the original halves have one row per frame; otherwise the addition could broadcast
    /// differently.
    pub fn to_2d(&self) -> Option<Self> {
        let projects = self.projection.matmul_producing("projected")?;
        let scores = self.scoring.matmul_producing("outputs")?;
        if !self.takes_rows || projects.input != ["encoder_outputs"] {
            return None;
        }
        let [activated] = &scores.input[..] else { return None };
        let relu = self.scoring.producer(self.scoring.skip_reshapes(activated), "Relu")?;
        let sum = self
            .scoring
            .producer(self.scoring.skip_reshapes(relu.input.first()?), "Add")?;
        let mut added = sum.input.iter().map(|input| self.scoring.skip_reshapes(input));
        let (first, second) = (added.next()?, added.next()?);
        if ![["projected", "prediction"], ["prediction", "projected"]].contains(&[first, second]) {
            return None;
        }

        let (width, classes) = (self.projection.columns(projects)?, self.scoring.columns(scores)?);
        let info = |name: &str, width: Option<usize>| TensorInfo {
            name: name.into(),
            element: ElementType::F32,
            dims: vec![None, width],
        };
        let mut projects = projects.clone();
        projects.output = vec!["projected".into()];
        let mut projection = self.projection.with_nodes(vec![projects]);
        projection.redeclare(Side::Input, &info("encoder_outputs", None));
        projection.redeclare(Side::Output, &info("projected", Some(width)));

        let mut scores = scores.clone();
        let activated = self.scoring.unique_name("met");
        scores.input = vec![activated.clone()];
        scores.output = vec!["outputs".into()];
        let add_relu = NodeProto {
            op_type: Some(JOINT_ADD_RELU.name.into()),
            domain: Some(DOMAIN.into()),
            name: relu.name.clone(),
            input: ["projected", "prediction"].map(String::from).into(),
            output: vec![activated],
            attribute: vec![AttributeProto {
                name: Some(WIDTH.into()),
                r#type: Some(AttributeType::Int as i32),
                i: Some(width as i64),
                ..Default::default()
            }],
            ..Default::default()
        };
        let mut scoring = self.scoring.with_nodes(vec![add_relu, scores]);
        scoring.redeclare(Side::Input, &info("projected", Some(width)));
        scoring.redeclare(Side::Output, &info("outputs", Some(classes)));
        Some(Self {
            projection,
            scoring,
            ..*self
        })
    }
}

impl Graph {
    /// Replaces the output `name`, one row, by the output of the packed matrix product that computes it, without the
    /// reshapes in between. Returns whether there is such a product.
    pub fn output_row(&mut self, name: &str) -> bool {
        let Some([row, ..]) = self.matmul_producing(name).map(|product| &product.output[..]) else {
            return false;
        };
        let row = row.clone();
        self.remove(Side::Output, name);
        self.rename(&row, name);
        self.declare_unshaped(Side::Output, name, ElementType::F32);
        self.prune();
        true
    }

    /// The packed matrix product that computes `name`, directly or through reshapes.
    fn matmul_producing(&self, name: &str) -> Option<&NodeProto> {
        self.producer(self.skip_reshapes(name), PACKED_MATMUL.name)
    }

    /// The producer of `name`, if it is an `operation`.
    fn producer(&self, name: &str, operation: &str) -> Option<&NodeProto> {
        let mut nodes = self.nodes.iter();
        nodes.find(|node| node.op_type() == operation && node.output.first().is_some_and(|output| output == name))
    }

    /// Follows reshapes back from `name`, and returns the tensor that is reshaped.
    fn skip_reshapes<'a>(&'a self, name: &'a str) -> &'a str {
        let index = self.index();
        let mut source = name;
        // Bounded, because the graph was not checked for cycles.
        for _ in &self.nodes {
            match index.node(self, source) {
                Some(node) if RESHAPES.contains(&node.op_type()) => {
                    source = node.input.first().map_or(source, String::as_str);
                }
                _ => break,
            }
        }
        source
    }

    /// The number of columns of a packed matrix product.
    fn columns(&self, product: &NodeProto) -> Option<usize> {
        let number = product
            .attribute
            .iter()
            .find(|attribute| attribute.name() == WEIGHTS_INDEX)?;
        let weights = self.packed.get(usize::try_from(number.i()).ok()?)?;
        Some(weights.n())
    }

    /// The same graph with `nodes` instead of its own, and without constants.
    fn with_nodes(&self, nodes: Vec<NodeProto>) -> Self {
        let mut graph = self.clone();
        graph.nodes = nodes;
        graph.initializers = Default::default();
        graph.files.clear();
        graph
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{packed_halves, split_joint, transducer_in};

    fn operations(graph: &Graph) -> Vec<&str> {
        graph.operations().collect()
    }

    #[test]
    fn split_joint_in_2d_uses_custom_ops_only() {
        let halves = packed_halves();
        let rows = halves.to_2d().unwrap();
        assert_eq!(operations(&rows.projection), [PACKED_MATMUL.name]);
        assert_eq!(operations(&rows.scoring), [JOINT_ADD_RELU.name, PACKED_MATMUL.name]);
        let width = |side, graph: &Graph, name| graph.find(side, name).unwrap().dims[..].to_vec();
        let projected = width(Side::Output, &rows.projection, "projected");
        assert_eq!(projected, width(Side::Input, &rows.scoring, "projected"));
        assert!(matches!(projected[..], [None, Some(_)]));
        let classes = width(Side::Output, &halves.scoring, "outputs").pop();
        assert_eq!(width(Side::Output, &rows.scoring, "outputs"), [None, classes.unwrap()]);
        assert!(rows.scoring.input("prediction").is_some());
    }

    #[test]
    fn other_joints_are_not_rewritten() {
        let change = |change: fn(&mut NodeProto)| {
            let mut halves = packed_halves();
            halves.scoring.nodes.iter_mut().for_each(change);
            halves.to_2d().is_none()
        };
        assert!(!change(|_| {}));
        // Another activation, another operator than addition, and a sum of other tensors.
        for other in [
            |node: &mut NodeProto| {
                if node.op_type() == "Relu" {
                    node.op_type = Some("Tanh".into());
                }
            },
            |node: &mut NodeProto| {
                if node.op_type() == "Add" {
                    node.op_type = Some("Mul".into());
                }
            },
            |node: &mut NodeProto| {
                if node.op_type() == "Add" {
                    node.input = vec![node.input[0].clone(); 2];
                }
            },
        ] {
            assert!(change(other));
        }
        // Unpacked products, and frames as columns.
        let unpacked =
            split_joint(&transducer_in("../nemostt/assets/demo-model/decoder_joint-model.onnx").joint).unwrap();
        assert!(unpacked.to_2d().is_none());
        let mut columns = packed_halves();
        columns.takes_rows = false;
        assert!(columns.to_2d().is_none());
    }

    #[test]
    fn output_row_removes_reshapes() {
        let mut graph = transducer_in("../nemostt/assets/demo-model/decoder_joint-model.onnx").prediction;
        assert!(
            !graph.clone().output_row("prediction"),
            "its matrix products are not packed"
        );
        graph.prepack_matmuls().unwrap();
        let before = graph.nodes.len();
        assert!(graph.output_row("prediction"));
        assert!(graph.nodes.len() < before);
        assert!(graph.producer("prediction", PACKED_MATMUL.name).is_some());
        let names = |graph: &Graph| {
            graph
                .outputs()
                .into_iter()
                .map(|output| output.name)
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&graph).iter().filter(|name| *name == "prediction").count(), 1);
        // Repeating it changes nothing.
        assert!(graph.output_row("prediction"));
        assert_eq!(names(&graph).len(), 3);
    }
}
