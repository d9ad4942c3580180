// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the fuzz targets share.

pub mod mutate;
pub mod random;
