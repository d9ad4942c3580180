// SPDX-License-Identifier: MIT OR Apache-2.0

//! Attributes of nodes.

use crate::onnx::{AttributeProto, attribute_proto::AttributeType};

/// The value of a node's attribute.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Attribute<'a> {
    Int(i64),
    Ints(&'a [i64]),
    Float(f32),
}

impl Attribute<'_> {
    pub(crate) fn to_proto(self, name: &str) -> AttributeProto {
        let mut proto = AttributeProto {
            name: Some(name.into()),
            ..Default::default()
        };
        match self {
            Self::Float(value) => (proto.f, proto.r#type) = (Some(value), Some(AttributeType::Float as i32)),
            Self::Int(value) => (proto.i, proto.r#type) = (Some(value), Some(AttributeType::Int as i32)),
            Self::Ints(values) => {
                (proto.ints, proto.r#type) = (values.to_vec(), Some(AttributeType::Ints as i32));
            }
        }
        proto
    }
}
