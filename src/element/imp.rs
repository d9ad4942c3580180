// SPDX-License-Identifier: MIT OR Apache-2.0

/**
 * SECTION:element-nemostt
 *
 * Live speech to text with NVIDIA NeMo's cache-aware streaming models.
 *
 * Takes 16 kHz mono audio and gives one word per text buffer, stamped with the time it was said at, and (with
 * #GstNemoStt:post-messages) an element message `nemostt` for each. Its latency is the chunk (#GstNemoStt:lookahead and
 * 80 ms), 12.5 ms of analysis window, and #GstNemoStt:latency for computing.
 *
 * ## Words of a file
 *
 * |[
 * gst-launch-1.0 -m filesrc location=speech.wav ! wavparse ! audioconvert ! audioresample ! nemostt ! fakesink
 * ]|
 */
use std::sync::{LazyLock, Mutex, MutexGuard};

use gst::{glib, prelude::*, subclass::prelude::*};
use gst_base::{
    prelude::*,
    subclass::{base_transform::GenerateOutputSuccess, prelude::*},
};

use super::{loading, output::Item, session::Session, settings::Settings};
use crate::error::Error;

pub(super) static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "nemostt",
        gst::DebugColorFlags::empty(),
        Some("NeMo streaming speech to text"),
    )
});

/// Sample rate of the sink pad; models with another one are refused.
const SAMPLE_RATE: u32 = 16_000;

/// The element.
///
/// Locks: `session` before `settings`, neither while pushing, posting or loading. The streaming thread holds `session`
/// while it computes; properties and queries need `settings` and `latency` only, so they never wait for it.
#[derive(Default)]
pub struct NemoStt {
    settings: Mutex<Settings>,
    session: Mutex<Option<Session>>,
    /// Chunk and window tail of the loaded model.
    latency: Mutex<Option<gst::ClockTime>>,
}

#[glib::object_subclass]
impl ObjectSubclass for NemoStt {
    const NAME: &'static str = "GstNemoStt";
    type Type = super::NemoStt;
    type ParentType = gst_base::BaseTransform;
}

impl ObjectImpl for NemoStt {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(Settings::param_specs);
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let before = self.latency();
        self.settings().set(pspec.name(), value);
        self.announce_latency(before);
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        self.settings().get(pspec.name())
    }
}

impl GstObjectImpl for NemoStt {}

impl ElementImpl for NemoStt {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "NeMo speech to text",
                "Audio/Text/Filter",
                "Turns live speech into words with NVIDIA NeMo's streaming models",
                "the nemostt developers",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let template = |name, direction, caps| {
                gst::PadTemplate::new(name, direction, gst::PadPresence::Always, caps).expect("a valid pad template")
            };
            vec![
                template("sink", gst::PadDirection::Sink, &audio_caps()),
                template("src", gst::PadDirection::Src, &text_caps()),
            ]
        });
        &TEMPLATES
    }
}

impl BaseTransformImpl for NemoStt {
    const MODE: gst_base::subclass::BaseTransformMode = gst_base::subclass::BaseTransformMode::NeverInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let settings = self.settings().clone();
        let before = self.latency();
        let recognizer = loading::load(&self.obj(), &settings)?;
        let rate = recognizer.config().front_end.sample_rate;
        if rate != SAMPLE_RATE {
            return Err(gst::error_msg!(
                gst::LibraryError::Settings,
                ("the model hears {rate} Hz; nemostt serves models of {SAMPLE_RATE} Hz only")
            ));
        }
        gst::info!(CAT, imp = self, "loaded {:?}", recognizer.config());
        let latency = loading::latency(&settings, Some(&recognizer));
        let session = Session::new(recognizer)
            .map_err(|error| gst::error_msg!(gst::ResourceError::NoSpaceLeft, ("cannot start a stream: {error}")))?;
        *self.session() = Some(session);
        *lock(&self.latency) = Some(latency);
        self.announce_latency(before);
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        *self.session() = None;
        *lock(&self.latency) = None;
        Ok(())
    }

    fn transform_caps(
        &self,
        direction: gst::PadDirection,
        _caps: &gst::Caps,
        filter: Option<&gst::Caps>,
    ) -> Option<gst::Caps> {
        let other = match direction {
            gst::PadDirection::Src => audio_caps(),
            _ => text_caps(),
        };
        Some(match filter {
            Some(filter) => filter.intersect_with_mode(&other, gst::CapsIntersectMode::First),
            None => other,
        })
    }

    fn query(&self, direction: gst::PadDirection, query: &mut gst::QueryRef) -> bool {
        if !BaseTransformImplExt::parent_query(self, direction, query) {
            return false;
        }
        if direction == gst::PadDirection::Src
            && let gst::QueryViewMut::Latency(latency) = query.view_mut()
        {
            let (live, min, max) = latency.result();
            let ours = self.latency();
            latency.set(live, min.saturating_add(ours), max.map(|max| max.saturating_add(ours)));
        }
        true
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        use gst::EventView;
        gst::log!(CAT, imp = self, "{event:?}");
        match event.view() {
            EventView::FlushStop(_) => {
                if let Some(session) = &mut *self.session() {
                    session.flush();
                }
            }
            EventView::Eos(_) | EventView::SegmentDone(_) | EventView::StreamStart(_) => self.drain(),
            EventView::Segment(segment) => match segment.segment().downcast_ref::<gst::ClockTime>() {
                Some(segment) => self.new_segment(segment.clone()),
                None => {
                    gst::element_imp_error!(
                        self,
                        gst::StreamError::Format,
                        [
                            "segment in format {:?}; nemostt needs one in time",
                            segment.segment().format()
                        ]
                    );
                    return false;
                }
            },
            EventView::Caps(_) => self.drain(),
            EventView::Gap(gap) => {
                let (pts, duration) = gap.get();
                return self
                    .give(|session, settings| session.gap(pts, duration, settings))
                    .is_ok();
            }
            _ => {}
        }
        self.parent_sink_event(event)
    }

    fn src_event(&self, event: gst::Event) -> bool {
        // Text that comes late is no reason to drop audio: neither BaseTransform's QoS nor upstream shall hear of it.
        if event.type_() == gst::EventType::Qos {
            return true;
        }
        self.parent_src_event(event)
    }

    fn generate_output(&self) -> Result<GenerateOutputSuccess, gst::FlowError> {
        if let Some(buffer) = self.take_queued_buffer() {
            gst::trace!(CAT, imp = self, "{buffer:?}");
            self.hear(|session, settings| session.audio(buffer, settings))?;
        }
        // BaseTransform pushes the buffer and calls again until there is none.
        Ok(match self.push_until_buffer() {
            Some(buffer) => GenerateOutputSuccess::Buffer(buffer),
            None => GenerateOutputSuccess::NoOutput,
        })
    }
}

impl NemoStt {
    fn settings(&self) -> MutexGuard<'_, Settings> {
        lock(&self.settings)
    }

    fn session(&self) -> MutexGuard<'_, Option<Session>> {
        lock(&self.session)
    }

    /// What the element adds to the pipeline's latency.
    fn latency(&self) -> gst::ClockTime {
        let settings = self.settings().clone();
        let loaded = *lock(&self.latency);
        let chunk = loaded.unwrap_or_else(|| loading::latency(&settings, None));
        chunk + settings.processing()
    }

    fn announce_latency(&self, before: gst::ClockTime) {
        if self.latency() != before {
            let obj = self.obj();
            let _ = obj.post_message(gst::message::Latency::builder().src(&*obj).build());
        }
    }

    /// Lets the session do something, which leaves items to push; an error ends the stream.
    fn hear(
        &self,
        act: impl FnOnce(&mut Session, &Settings) -> Result<(), Error>,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let settings = self.settings().clone();
        let result = match &mut *self.session() {
            Some(session) => act(session, &settings),
            None => return Err(gst::FlowError::Flushing),
        };
        result.map_err(|error| {
            gst::element_imp_error!(self, gst::StreamError::Failed, ("{error}"));
            gst::FlowError::Error
        })?;
        Ok(gst::FlowSuccess::Ok)
    }

    /// As [`hear`](Self::hear), and pushes the items.
    fn give(
        &self,
        act: impl FnOnce(&mut Session, &Settings) -> Result<(), Error>,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        self.hear(act)?;
        while let Some(buffer) = self.push_until_buffer() {
            self.obj().src_pad().push(buffer)?;
        }
        Ok(gst::FlowSuccess::Ok)
    }

    /// Says everything heard so far. What becomes of it does not change what happens next, so errors are only noted.
    fn drain(&self) {
        if self.session().is_none() {
            return;
        }
        if let Err(error) = self.give(|session, settings| session.restart(settings)) {
            gst::debug!(CAT, imp = self, "drained into {error:?}");
        }
    }

    fn new_segment(&self, segment: gst::FormattedSegment<gst::ClockTime>) {
        let same = self
            .session()
            .as_ref()
            .is_none_or(|session| session.is_same_segment(&segment));
        if !same {
            self.drain();
        }
        if let Some(session) = &mut *self.session() {
            session.set_segment(segment);
        }
    }

    /// Pushes events and posts messages up to the next buffer.
    fn push_until_buffer(&self) -> Option<gst::Buffer> {
        loop {
            // The lock is let go before anything leaves.
            let item = self.session().as_mut()?.pop()?;
            match item {
                Item::Buffer(buffer) => {
                    gst::debug!(CAT, imp = self, "word {buffer:?}");
                    return Some(buffer);
                }
                Item::Event(event) => {
                    let _ = self.obj().src_pad().push_event(event);
                }
                Item::Message(structure) => {
                    let obj = self.obj();
                    let message = gst::message::Element::builder(structure).src(&*obj).build();
                    let _ = obj.post_message(message);
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while it was held was turned into an element error; the value is still the best there is.
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn audio_caps() -> gst::Caps {
    gst_audio::AudioCapsBuilder::new_interleaved()
        .format(gst_audio::AudioFormat::S16le)
        .rate(SAMPLE_RATE as i32)
        .channels(1)
        .build()
}

fn text_caps() -> gst::Caps {
    gst::Caps::builder("text/x-raw").field("format", "utf8").build()
}
