// SPDX-License-Identifier: MIT OR Apache-2.0

//! The request pad `partial_src`, for applications that show text as it grows beside what they record.

use gst::{event, glib, prelude::*, subclass::prelude::*};
use gst_base::{prelude::*, subclass::prelude::*};

use super::{imp::NemoStt, log::CAT, partial_output::PartialItem, source_pad::text_stream};
use nemostt::sync::lock;

/// Name of the pad and of its template.
pub(super) const NAME: &str = "partial_src";

/// Caps of the pad: JSON objects.
pub(super) fn caps() -> gst::Caps {
    gst::Caps::new_empty_simple("application/x-json")
}

/// The STREAM_START of partials of the audio stream `id`.
fn stream_start(id: &str, start: &event::StreamStart) -> gst::Event {
    let id = format!("{id}/partial-text");
    let builder = text_stream(event::StreamStart::builder(&id).seqnum(start.seqnum()), &id);
    match start.group_id() {
        Some(group) => builder.group_id(group).build(),
        None => builder.build(),
    }
}

impl NemoStt {
    /// Adds the pad, unless there is one.
    pub(super) fn request_partial_pad(&self, template: &gst::PadTemplate) -> Option<gst::Pad> {
        if self.partial_pad().is_some() {
            gst::warning!(CAT, imp = self, "there is a pad {NAME} already");
            return None;
        }
        let pad = gst::Pad::builder_from_template(template)
            .name(NAME)
            .event_function(|_, parent, event| {
                Self::catch_panic_pad_function(parent, || false, |imp| BaseTransformImpl::src_event(imp, event))
            })
            .query_function(|pad, parent, query| {
                Self::catch_panic_pad_function(parent, || false, |imp| imp.partial_query(pad, query))
            })
            .build();
        let obj = self.obj();
        if obj.current_state() > gst::State::Ready || obj.pending_state() > gst::State::Ready {
            let _ = pad.set_active(true);
        }
        *lock(&self.partial_pad) = Some(pad.clone());
        if obj.add_pad(&pad).is_err() {
            *lock(&self.partial_pad) = None;
            return None;
        }
        // What the streaming thread sent before.
        if let Some(start) = obj.sink_pad().sticky_event::<event::StreamStart>(0) {
            self.begin_partials(&start);
            if let Some(segment) = obj.src_pad().sticky_event::<event::Segment>(0) {
                pad.push_event(segment);
            }
        }
        Some(pad)
    }

    /// Removes the pad.
    pub(super) fn release_partial_pad(&self, pad: &gst::Pad) {
        lock(&self.partial_pad).take_if(|own| own == pad);
        let _ = pad.set_active(false);
        let _ = self.obj().remove_pad(pad);
    }

    pub(super) fn partial_pad(&self) -> Option<gst::Pad> {
        lock(&self.partial_pad).clone()
    }

    /// Sends the beginning of the stream to the pad, if there is one.
    pub(super) fn begin_partials(&self, start: &event::StreamStart) {
        if let Some(pad) = self.partial_pad() {
            pad.push_event(stream_start(start.stream_id(), start));
            pad.push_event(event::Caps::new(&caps()));
        }
    }

    /// Sends `event`, which concerns all output, to the pad, if there is one.
    pub(super) fn forward_to_partials(&self, event: &gst::Event) {
        if let Some(pad) = self.partial_pad() {
            pad.push_event(event.clone());
        }
    }

    /// Pushes `item`. That nobody takes it is no reason to end the stream.
    ///
    /// # Errors
    /// If what is downstream has failed.
    pub(super) fn push_partial(&self, item: PartialItem) -> Result<(), gst::FlowError> {
        let Some(pad) = self.partial_pad() else {
            return Ok(());
        };
        match item {
            PartialItem::Event(event) => {
                pad.push_event(event);
                Ok(())
            }
            PartialItem::Buffer(buffer) => match pad.push(buffer) {
                Ok(_) | Err(gst::FlowError::NotLinked | gst::FlowError::Flushing | gst::FlowError::Eos) => Ok(()),
                Err(error) => Err(error),
            },
        }
    }

    fn partial_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        match query.type_() {
            gst::QueryType::Latency | gst::QueryType::Position | gst::QueryType::Duration | gst::QueryType::Seeking => {
                BaseTransformImpl::query(self, gst::PadDirection::Src, query)
            }
            _ => gst::Pad::query_default(pad, Some(&*self.obj()), query),
        }
    }
}

/// Its template.
pub(super) fn template() -> Result<gst::PadTemplate, glib::BoolError> {
    gst::PadTemplate::new(NAME, gst::PadDirection::Src, gst::PadPresence::Request, &caps())
}
