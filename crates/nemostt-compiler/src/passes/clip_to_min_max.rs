// SPDX-License-Identifier: MIT OR Apache-2.0

//! Clips with one bound as `Max` or `Min`, for OpenVINO.
//!
//! OpenVINO computes 64-bit integers in 32 bits, and its release 2025.4 takes the missing upper bound of a `Clip` of such for
//! a negative number: the lengths that NeMo's exports compute become 0.

use crate::Graph;

/// Since this opset, both take integers.
const MIN_OPSET: i64 = 12;

impl Graph {
    /// Replaces each `Clip` that has a single bound; returns how many. The results are the same.
    pub fn clip_to_min_max(&mut self) -> usize {
        if self.opset() < MIN_OPSET {
            return 0;
        }
        let mut count = 0;
        for node in &mut self.nodes {
            if node.op_type() != "Clip" {
                continue;
            }
            let bound = |index: usize| node.input.get(index).filter(|name| !name.is_empty()).cloned();
            let (operation, bound) = match (bound(1), bound(2)) {
                (Some(low), None) => ("Max", low),
                (None, Some(high)) => ("Min", high),
                _ => continue,
            };
            node.op_type = Some(operation.into());
            node.input.truncate(1);
            node.input.push(bound);
            count += 1;
        }
        count
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is how a test fails
mod tests {
    use crate::graph_in;

    #[test]
    fn only_clips_with_one_bound_are_replaced() {
        let mut graph = graph_in("../../tests/data/tiny_random/encoder-rnnt_la13.onnx");
        let count = |graph: &crate::Graph, operation: &str| graph.operations().filter(|&op| op == operation).count();
        let before = ["Clip", "Max", "Min"].map(|operation| count(&graph, operation));
        // One more with both bounds, and one with none.
        for bounds in [&["low", "high"][..], &[]] {
            let inputs = [&["x"][..], bounds].concat();
            graph.add("Clip", &inputs, &[]);
        }
        let lower =
            |node: &&crate::NodeProto| node.op_type() == "Clip" && node.input.get(2).is_none_or(String::is_empty);
        let lower = graph.nodes.iter().find(lower).unwrap().clone();
        assert_eq!(graph.clip_to_min_max(), before[0]);
        let after = ["Clip", "Max", "Min"].map(|operation| count(&graph, operation));
        assert_eq!(after[0], 2);
        assert!(after[1] > before[1] && after[2] > before[2], "{before:?}, {after:?}");
        let replaced = graph.nodes.iter().find(|node| node.output == lower.output).unwrap();
        assert_eq!((replaced.op_type(), &replaced.input[..]), ("Max", &lower.input[..2]));
    }
}
