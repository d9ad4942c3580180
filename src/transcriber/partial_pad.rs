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

/// The STREAM_START of the partials of the text stream of `start`.
fn stream_start(start: &event::StreamStart) -> gst::Event {
    let id = format!("{}/partial", start.stream_id());
    let builder = text_stream(event::StreamStart::builder(&id).seqnum(start.seqnum()), &id);
    match start.group_id() {
        Some(group) => builder.group_id(group).build(),
        None => builder.build(),
    }
}

/// The stream's id.
fn id_of(event: &gst::Event) -> Option<&str> {
    match event.view() {
        gst::EventView::StreamStart(start) => Some(start.stream_id()),
        _ => None,
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
        let weak = self.downgrade();
        pad.connect_linked(move |pad, _| {
            if let Some(imp) = weak.upgrade() {
                imp.end_partials_again(pad);
            }
        });
        *lock(&self.partial_pad) = Some(pad.clone());
        if obj.add_pad(&pad).is_err() {
            *lock(&self.partial_pad) = None;
            return None;
        }
        // A handler of `pad-added` may have released it; the bindings do not allow to return a pad of no element.
        self.has_partial_pad(&pad).then_some(pad)
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

    /// Whether `pad` has not been released.
    fn has_partial_pad(&self, pad: &gst::Pad) -> bool {
        lock(&self.partial_pad).as_ref() == Some(pad)
    }

    /// Sends what `src` has sent at the beginning of the stream, as far as `pad` has not, before `next`.
    fn begin_partials(&self, pad: &gst::Pad, next: Option<&PartialItem>) {
        let src = self.obj().src_pad().clone();
        if let Some(start) = src.sticky_event::<event::StreamStart>(0) {
            let start = stream_start(&start);
            let own = pad.sticky_event::<event::StreamStart>(0);
            if own.is_none_or(|own| Some(own.stream_id()) != id_of(&start)) {
                pad.push_event(start);
            }
        }
        if pad.sticky_event::<event::Caps>(0).is_none() {
            pad.push_event(event::Caps::new(&caps()));
        }
        let is_segment = matches!(next, Some(PartialItem::Event(event)) if event.type_() == gst::EventType::Segment);
        if !is_segment
            && pad.sticky_event::<event::Segment>(0).is_none()
            && let Some(segment) = src.sticky_event::<event::Segment>(0)
        {
            pad.push_event(segment);
        }
    }

    /// Ends what was linked after the end: the streaming thread sends nothing more.
    fn end_partials_again(&self, pad: &gst::Pad) {
        if self.obj().src_pad().sticky_event::<event::Eos>(0).is_some() {
            self.begin_partials(pad, None);
            pad.push_event(event::Eos::new());
        }
    }

    /// Sends `event`, which concerns all output, to the pad, if there is one.
    pub(super) fn forward_to_partials(&self, event: &gst::Event) {
        if let Some(pad) = self.partial_pad() {
            if event.type_() == gst::EventType::Eos {
                self.begin_partials(&pad, None);
            }
            pad.push_event(event.clone());
        }
    }

    /// Pushes `item`. If the pad is not linked, or flushing, or at its end, the stream goes on.
    ///
    /// # Errors
    /// If what is downstream has failed.
    pub(super) fn push_partial(&self, item: PartialItem) -> Result<(), gst::FlowError> {
        let Some(pad) = self.partial_pad() else {
            return Ok(());
        };
        self.begin_partials(&pad, Some(&item));
        match item {
            // It may have been released in a probe on those events.
            _ if !self.has_partial_pad(&pad) => Ok(()),
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
