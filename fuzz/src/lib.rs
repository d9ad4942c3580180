// SPDX-License-Identifier: MIT OR Apache-2.0

//! Shared by the fuzz targets.

pub mod mutate;
pub mod random;
