// SPDX-License-Identifier: MIT OR Apache-2.0

//! Estimates the memory that a graph needs before it is decoded: two bytes of a file may become a node or an attribute
//! of hundreds of bytes.

use crate::onnx::{
    AttributeProto, GraphProto, NodeProto, OperatorSetIdProto, SparseTensorProto, StringStringEntryProto, TensorProto,
    TypeProto, ValueInfoProto, tensor_shape_proto::Dimension,
};

/// Maximum bytes of a decoded graph, without its weights: ten times as many as the largest model of this family needs.
const MAX_GRAPH_BYTES: usize = 128 << 20;
/// Upper bound of bytes in memory per byte of the file: an empty attribute has two bytes.
const MAX_EXPANSION: usize = size_of::<AttributeProto>() / 2;

/// A type of message that occurs often in graphs (`onnx.proto`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Sparse,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    Dimension,
    OperatorSet,
    Entry,
}

/// Contents of a length-delimited field.
enum Field {
    Message(Kind),
    Text,
    /// Bytes that are not copied.
    Shared,
    /// Up to eight bytes in memory per byte of the file.
    Numbers,
    /// Anything else.
    Other,
    /// Unknown fields, which decoders skip.
    Unknown,
}

/// The largest field number in `onnx.proto`.
const LARGEST_FIELD: u64 = 28;

impl Kind {
    fn field(self, number: u64) -> Field {
        use Field::{Message, Numbers, Other, Shared, Text};
        match (self, number) {
            (Self::Model, 7) => Message(Self::Graph),
            (Self::Model, 8) => Message(Self::OperatorSet),
            (Self::Graph, 1) => Message(Self::Node),
            (Self::Graph, 5) => Message(Self::Tensor),
            (Self::Graph, 11..=13) => Message(Self::ValueInfo),
            (Self::Graph, 15) => Message(Self::Sparse),
            (Self::Node, 5) => Message(Self::Attribute),
            (Self::Attribute, 5 | 10) => Message(Self::Tensor),
            (Self::Attribute, 6 | 11) => Message(Self::Graph),
            (Self::Attribute, 22 | 23) => Message(Self::Sparse),
            (Self::Attribute, 14 | 15) | (Self::ValueInfo, 2) => Message(Self::Type),
            (Self::Attribute, 7 | 8) | (Self::Tensor, 1 | 4 | 5 | 7 | 10 | 11) | (Self::Sparse, 3) => Numbers,
            (Self::Sparse, 1 | 2) => Message(Self::Tensor),
            (Self::Tensor, 13) => Message(Self::Entry),
            (Self::Model | Self::Graph, 14 | 16) | (Self::Tensor, 16) | (Self::Node, 9) | (Self::ValueInfo, 4) => {
                Message(Self::Entry)
            }
            (Self::Tensor, 9) | (Self::Attribute, 4) => Shared,
            (Self::Tensor, 6 | 8 | 12) | (Self::Attribute, 1 | 9 | 13 | 21) => Text,
            (Self::Model, 2 | 3 | 4 | 6) | (Self::Graph, 2 | 10) | (Self::Node, 1..=4 | 6..=8) => Text,
            (Self::ValueInfo, 1 | 3) | (Self::Entry, 1 | 2) | (Self::OperatorSet, 1) => Text,
            (Self::Type, 1) => Message(Self::TensorType),
            (Self::TensorType, 2) => Message(Self::Shape),
            (Self::Shape, 1) => Message(Self::Dimension),
            (Self::Dimension, 2 | 3) | (Self::Type, 6) => Text,
            (_, ..=LARGEST_FIELD) => Other,
            _ => Field::Unknown,
        }
    }

    /// Bytes of a message without what it points to.
    fn size(self) -> usize {
        match self {
            Self::Model | Self::Graph => size_of::<GraphProto>(),
            Self::Node => size_of::<NodeProto>(),
            Self::Attribute => size_of::<AttributeProto>(),
            Self::Tensor => size_of::<TensorProto>(),
            Self::Sparse => size_of::<SparseTensorProto>(),
            Self::ValueInfo => size_of::<ValueInfoProto>(),
            Self::Type | Self::TensorType | Self::Shape => size_of::<TypeProto>(),
            Self::Dimension => size_of::<Dimension>(),
            Self::OperatorSet => size_of::<OperatorSetIdProto>(),
            Self::Entry => size_of::<StringStringEntryProto>(),
        }
    }
}

/// Maximum nesting of messages; prost decodes at most 100 levels.
const MAX_DEPTH: usize = 128;

/// Rejects a message that would need too much memory. Malformed messages are left to the decoder.
pub(crate) fn check(bytes: &[u8], kind: Kind) -> Result<(), String> {
    let mut budget = MAX_GRAPH_BYTES;
    match count(bytes, kind, MAX_DEPTH, &mut budget) {
        Some(()) => Ok(()),
        None => Err(format!(
            "without its weights it needs more than {} MB",
            MAX_GRAPH_BYTES >> 20
        )),
    }
}

/// Subtracts what a message needs from `budget`; `None` if that is not sufficient.
fn count(mut bytes: &[u8], kind: Kind, depth: usize, budget: &mut usize) -> Option<()> {
    consume(budget, kind.size())?;
    let Some(depth) = depth.checked_sub(1) else {
        return Some(());
    };
    while !bytes.is_empty() {
        let Some(key) = varint(&mut bytes) else { return Some(()) };
        let length = match key & 7 {
            0 => {
                varint(&mut bytes);
                consume(budget, size_of::<i64>())?;
                continue;
            }
            1 => 8,
            5 => 4,
            2 => match varint(&mut bytes).map(usize::try_from) {
                Some(Ok(length)) => length,
                _ => return Some(()),
            },
            // Groups do not occur in ONNX, and their contents are skipped.
            _ => 0,
        };
        let Some((inner, rest)) = bytes.split_at_checked(length) else {
            return Some(());
        };
        bytes = rest;
        if key & 7 != 2 {
            consume(budget, length)?;
            continue;
        }
        match kind.field(key >> 3) {
            Field::Message(inner_kind) => count(inner, inner_kind, depth, budget)?,
            Field::Text => consume(budget, size_of::<String>() + length)?,
            Field::Shared => consume(budget, size_of::<bytes::Bytes>())?,
            // Some tools also store weights this way (`int32_data` of older quantizers); they are limited by the file
            // size.
            Field::Numbers => {}
            Field::Other => consume(budget, length.saturating_add(2).saturating_mul(MAX_EXPANSION))?,
            Field::Unknown => {}
        }
    }
    Some(())
}

fn consume(budget: &mut usize, bytes: usize) -> Option<()> {
    *budget = budget.checked_sub(bytes)?;
    Some(())
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..10 {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{Graph, lazy_load};

    /// A length-delimited field.
    fn field(number: u8, inner: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2];
        let mut length = inner.len();
        while length >= 0x80 {
            bytes.push(length as u8 | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend(inner);
        bytes
    }

    #[test]
    fn unknown_fields_need_no_memory() {
        let numbers = include_str!("onnx.proto").lines().filter_map(|line| {
            let (_, number) = line.split("//").next()?.split_once(" = ")?;
            number
                .trim_end()
                .strip_suffix(';')?
                .split([' ', '['])
                .next()?
                .parse()
                .ok()
        });
        assert_eq!(numbers.max(), Some(LARGEST_FIELD));
        // Field 1000: 1000 << 3 | 2, and a length of 16 MB.
        let unknown = [&[0xc2, 0x3e, 0x80, 0x80, 0x80, 0x08][..], &vec![0; 16 << 20]].concat();
        assert_eq!(check(&unknown, Kind::Model), Ok(()));
    }

    #[test]
    fn small_files_that_expand_are_rejected() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("graph.onnx");
        let many = |number: u8| field(number, b"").repeat(2 << 20);
        for graph in [
            // Nodes, weights, attributes, tensors inside of one, names.
            many(1),
            many(5),
            field(1, &many(5)),
            field(1, &field(5, &many(10))),
            [many(1), field(1, &many(1))].concat(),
            // Quantization annotations, which are not used here.
            many(14).repeat(8),
        ] {
            let model = field(7, &graph);
            let error = Graph::decode(model.clone().into()).unwrap_err().to_string();
            assert!(error.contains("more than 128 MB"), "{error}");
            std::fs::write(&path, model).unwrap();
            assert!(lazy_load(&path).is_err());
        }
    }

    #[test]
    fn valid_graphs_are_within_the_limit() {
        let file = |path: &str| std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        // Four layers, and 17.
        for path in [
            "../nemostt/assets/demo-model/encoder-model.onnx",
            "../../tools/bench/weightless_model/encoder-model.onnx",
        ] {
            let mut budget = MAX_GRAPH_BYTES;
            assert_eq!(count(&file(path), Kind::Model, MAX_DEPTH, &mut budget), Some(()));
            let used = MAX_GRAPH_BYTES - budget;
            assert!(((1 << 18)..MAX_GRAPH_BYTES / 10).contains(&used), "{path}: {used}");
        }
        // A weight of 32 MB in `int32_data`.
        let unpacked = field(7, &field(5, &field(5, &vec![1; 32 << 20])));
        assert_eq!(check(&unpacked, Kind::Model), Ok(()));
        let file = file("../nemostt/assets/demo-model/encoder-model.onnx");
        // Malformed messages are left to the decoder.
        for length in [0, 1, 100, file.len() / 2] {
            assert_eq!(check(&file[..length], Kind::Model), Ok(()));
        }
    }

    #[test]
    fn nesting_is_limited() {
        let mut graph = Vec::new();
        for _ in 0..2_000 {
            graph = field(1, &field(5, &field(6, &graph)));
        }
        assert_eq!(check(&field(7, &graph), Kind::Model), Ok(()));
        assert!(Graph::decode(field(7, &graph).into()).is_err());
    }
}
