// SPDX-License-Identifier: MIT OR Apache-2.0

//! Settings of the elements that read URLs.

use std::env;

use gst::prelude::*;

use super::location::has_passphrase;

/// What `rtspsrc` buffers for live captions, in milliseconds: packets that are reordered within this time are not lost. Its default
/// is 2000.
const RTSP_LATENCY: u32 = 500;
/// Environment variable with the passphrase of SRT, which, unlike a part of the URL, other users do not see in the list of processes.
const SRT_PASSPHRASE_VARIABLE: &str = "NEMOSTT_SRT_PASSPHRASE";

/// Lets `source`, a `uridecodebin`, set up what reads `url`; for captions of what is said now if `is_live`.
pub fn connect(source: &gst::Element, url: &str, is_live: bool) {
    let passphrase = env::var(SRT_PASSPHRASE_VARIABLE).ok();
    let passphrase = passphrase.filter(|passphrase| !passphrase.is_empty() && !has_passphrase(url));
    source.connect("source-setup", false, move |values| {
        let source = values.get(1)?.get::<gst::Element>().ok()?;
        match source.factory()?.name().as_str() {
            "rtspsrc" if is_live => source.set_property("latency", RTSP_LATENCY),
            "srtsrc" => {
                if let Some(passphrase) = &passphrase {
                    source.set_property("passphrase", passphrase);
                }
                // It would call again by itself, and nobody would know that there was an outage. GStreamer has this property since 1.22.
                if is_live && source.has_property("auto-reconnect") {
                    source.set_property("auto-reconnect", false);
                }
            }
            _ => {}
        }
        None
    });
}
