// SPDX-License-Identifier: MIT OR Apache-2.0

#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![warn(unreachable_pub)]

mod address;
mod client;
mod connection;
mod error;
mod interrupt;
mod messages;
#[cfg(feature = "mock")]
pub mod mock;
mod runtime;
mod sequence;
mod service;
mod tensor;

pub use address::{Address, AddressError, Server};
pub use client::{Client, ClientOptions, ModelInfo, Probe, Probed, TensorSpec, Trial};
pub use error::{Error, Result, printable};
pub use interrupt::Interrupt;
pub use sequence::{Response, Sequence};
pub use tensor::{DataType, Tensor};
