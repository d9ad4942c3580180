// SPDX-License-Identifier: MIT OR Apache-2.0

//! Passes the bytes of standard input to GStreamer as they arrive.

use std::{io::Read, thread};

use gst::{glib, prelude::*};
use gst_app::{AppSrc, AppStreamType};

use super::gst_decoder::Bytes;

/// Bytes per buffer.
const BLOCK_BYTES: usize = 16 * 1024;
/// Bytes that may be queued.
const MAX_QUEUED_BYTES: u64 = 256 * 1024;

/// Makes `source`, a `uridecodebin`, read `bytes`.
pub fn connect(source: &gst::Element, bytes: Bytes) {
    source.set_property("uri", "appsrc://");
    let bytes = std::sync::Mutex::new(Some(bytes));
    source.connect("source-setup", false, move |values| {
        let source = values.get(1)?.get::<AppSrc>().ok()?;
        source.set_stream_type(AppStreamType::Stream);
        source.set_format(gst::Format::Bytes);
        source.set_max_bytes(MAX_QUEUED_BYTES);
        source.set_block(true);
        let bytes = bytes.lock().ok()?.take()?;
        let source = source.downgrade();
        thread::spawn(move || pump(bytes, &source));
        None
    });
}

/// Runs until the end of the bytes, or of the pipeline.
fn pump(mut bytes: Bytes, source: &glib::WeakRef<AppSrc>) {
    loop {
        let mut block = vec![0; BLOCK_BYTES];
        let read = bytes.read(&mut block);
        let Some(source) = source.upgrade() else {
            return;
        };
        match read {
            Ok(0) => {
                // Fails only while the pipeline shuts down.
                let _ = source.end_of_stream();
                return;
            }
            Ok(read) => {
                block.truncate(read);
                if source.push_buffer(gst::Buffer::from_mut_slice(block)).is_err() {
                    return;
                }
            }
            Err(error) => {
                gst::element_error!(
                    source,
                    gst::ResourceError::Read,
                    ["cannot read standard input: {error}"]
                );
                return;
            }
        }
    }
}
