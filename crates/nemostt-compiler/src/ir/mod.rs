// SPDX-License-Identifier: MIT OR Apache-2.0

//! The intermediate representation that passes rewrite.

pub(crate) mod boundary;
pub(crate) mod compose;
pub(crate) mod const_eval;
pub(crate) mod constant;
pub(crate) mod data_movement;
pub(crate) mod net;
pub(crate) mod shape_inference;
