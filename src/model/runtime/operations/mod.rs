// SPDX-License-Identifier: MIT OR Apache-2.0

//! Our own operations, as ONNX Runtime calls them: inputs and outputs are unpacked here, [`crate::kernels`] does the rest.
//!
//! Each has a file of its own; a [`chain`] of them is one, too. Pieces of the work go to the threads that ONNX Runtime's own
//! operations use. Nothing here panics on what a graph holds: an error of a kernel is an error of the run.

mod attention;
mod chain;
mod convolution;
mod gates;
mod meeting;
mod normalisation;
mod product;
mod shapes;
mod source;
mod subsampling;

use std::sync::Arc;

use ort::operator::OperatorDomain;

use crate::{graph::DOMAIN, kernels::matrix::Weights};

/// All of them, with the weights of a graph's products, for a session of `threads` threads.
pub(super) fn all(products: &Arc<[Arc<Weights>]>, threads: usize) -> ort::Result<OperatorDomain> {
    OperatorDomain::new(DOMAIN)?
        .add(product::Product(products.clone()))?
        .add(attention::Attend)?
        .add(convolution::Convolve)?
        .add(normalisation::Normalise)?
        .add(subsampling::Subsample)?
        .add(gates::Gate)?
        .add(meeting::Meet)?
        .add(chain::Run {
            products: products.clone(),
            threads,
        })
}
