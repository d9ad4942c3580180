// SPDX-License-Identifier: MIT OR Apache-2.0

//! Our own operations, as ONNX Runtime calls them: inputs and outputs are unpacked here, [`crate::kernels`] does the rest.
//!
//! Each has a file of its own; a [`chain`] of them is one, too. Pieces of the work go to the threads that ONNX Runtime's own
//! operations use. Nothing here panics on what a graph holds: an error of a kernel is an error of the run. Where one panics all the
//! same, that is an error, too ([`caught`]), which also gives it the tensors of a run: inputs, and each output once.

mod attention;
mod caught;
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

use self::caught::Caught;
pub(super) use self::caught::panicked;
use crate::{graph::DOMAIN, kernels::matrix::Weights};

/// All of them, with the weights of a graph's products, for a session of `threads` threads.
pub(super) fn all(products: &Arc<[Arc<Weights>]>, threads: usize) -> ort::Result<OperatorDomain> {
    OperatorDomain::new(DOMAIN)?
        .add(Caught(product::Product(products.clone())))?
        .add(Caught(attention::Attend))?
        .add(Caught(convolution::Convolve))?
        .add(Caught(normalisation::Normalise))?
        .add(Caught(subsampling::Subsample))?
        .add(Caught(gates::Gate))?
        .add(Caught(meeting::Meet))?
        .add(Caught(chain::Run {
            products: products.clone(),
            threads,
        }))
}
