// SPDX-License-Identifier: MIT OR Apache-2.0

//! The latency that the element reports.

use gst::{prelude::*, subclass::prelude::*};

use super::{imp::NemoStt, model_loader};
use nemostt::sync::lock;

impl NemoStt {
    /// Time from sound to word: the chunk, the time that words are held back, and the time allowed for computing.
    pub(super) fn processing_latency(&self) -> gst::ClockTime {
        let settings = self.settings();
        let output = lock(&self.published).active.output;
        let chunk = model_loader::latency(&settings, self.loader.ready().as_ref().map(|loaded| &loaded.recognizer));
        chunk + settings.word_hold_time(output) + settings.processing_latency()
    }

    /// What the element adds to the pipeline's latency.
    pub(super) fn latency(&self) -> gst::ClockTime {
        let active = lock(&self.published).active;
        let latency = self.processing_latency() + active.cue_delay();
        // Text whose running time is shifted may arrive later by the same amount.
        latency.saturating_sub(active.lateness)
    }

    pub(super) fn announce_latency(&self, before: gst::ClockTime) {
        if self.latency() != before {
            let obj = self.obj();
            let _ = obj.post_message(gst::message::Latency::builder().src(&*obj).build());
        }
    }
}
