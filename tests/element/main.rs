// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tests of the element, in this process: between two pads, and in pipelines.

#![allow(clippy::unwrap_used)] // a failed unwrap is how a test fails

mod child;
#[path = "../common/clock.rs"]
mod clock;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/harness.rs"]
mod harness;

mod cues;
mod decoding;
mod device_failure;
// All features are part of the file.
#[cfg(feature = "triton")]
mod inspect;
mod interface;
mod live;
#[cfg(target_os = "linux")]
mod many;
mod metrics;
mod models;
mod output;
mod partials;
mod pipeline;
#[cfg(feature = "triton")]
mod remote;
mod scenarios;
mod shaping;
mod text;
mod timestamps;
mod transcriber;

const MS: gst::ClockTime = gst::ClockTime::MSECOND;
const SECOND: gst::ClockTime = gst::ClockTime::SECOND;

/// NeMo's text of a clip with the demo model; `lookahead` in frames.
fn nemo_text(clip: &str, lookahead: usize) -> String {
    common::Texts::open()
        .get("trained", clip, lookahead, nemostt::DecoderKind::Rnnt)
        .to_owned()
}
