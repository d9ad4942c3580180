// SPDX-License-Identifier: MIT OR Apache-2.0

//! `nemostt live`: captions of what is said now.
//!
//! There are two pipelines. That of the source is opened again when a connection is lost; that of the captions,
//! `appsrc ! nemostt ! fakesink`, stays, so the model stays loaded and time goes on:
//!
//! | from → to | file |
//! |---|---|
//! | argument → microphone, URL or file → samples | `source.rs`, `microphone.rs`, `../audio/` |
//! | samples → timestamps on the clock of the captions; lost connections | `feed.rs`, `timeline.rs`, `backoff.rs` |
//! | samples → messages of the element → captions | `captioner.rs`, `caption.rs` |
//! | captions → terminal, file, browsers | `printer.rs`, `terminal.rs`, `record/`, `serve/` |
//! | captions and the source's own picture and sound → HLS | `hls/` |
//!
//! Everything that happens reaches the main thread as an [`Event`](event::Event), and [`session`] acts on it. Each output has a
//! thread of its own, so that one that waits delays no other.

mod args;
mod backoff;
mod caption;
mod captioner;
mod event;
mod feed;
mod hls;
mod microphone;
mod outputs;
mod printer;
mod record;
#[cfg(feature = "serve")]
mod serve;
mod session;
mod source;
mod terminal;
mod timeline;

pub use args::Live;
