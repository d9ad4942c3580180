// SPDX-License-Identifier: MIT OR Apache-2.0

//! The intermediate representation that passes rewrite: graphs, constants, shapes, data movement.

pub(crate) mod attribute;
pub(crate) mod boundary;
pub(crate) mod compose;
pub(crate) mod const_eval;
pub(crate) mod constant;
pub(crate) mod data_movement;
pub(crate) mod def_use;
mod fold;
pub(crate) mod graph;
mod initializers;
mod order;
mod rank;
pub(crate) mod shape_inference;
