// SPDX-License-Identifier: MIT OR Apache-2.0

//! The pipeline of the captions, `appsrc ! nemostt ! fakesink`. It is live, and lasts as long as the session: when no samples
//! come, the element finishes what was said.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::Sender,
    },
    time::Duration,
};

use gst::prelude::*;
use gst_app::{AppLeakyType, AppSrc};

use super::{
    args::Live,
    caption::{Caption, MESSAGE},
    event::Event,
    source::RATE,
    timeline::Placed,
};
use crate::{Result, audio};

/// Samples that wait while computing does not keep up; older ones are lost then.
const MAX_BACKLOG: gst::ClockTime = gst::ClockTime::from_seconds(20);
/// How much later than others samples may come from a network before the element takes the source for stalled.
const JITTER: gst::ClockTime = gst::ClockTime::from_mseconds(200);
/// Name of what the element says of an encoder on a server.
const REMOTE: &str = "nemostt/remote";
/// Longest utterance in milliseconds: someone who never pauses gets a new line at the best place up to then.
pub const MAX_UTTERANCE: u32 = 10_000;

/// The running pipeline.
pub struct Captioner {
    pipeline: gst::Pipeline,
    input: CaptionerInput,
}

/// Where samples go.
#[derive(Clone)]
pub struct CaptionerInput {
    source: AppSrc,
    /// Running time at which the session began, in nanoseconds, plus 1; 0: not yet.
    zero: Arc<AtomicU64>,
}

impl Captioner {
    /// Begins to load the model; [`Event::Loaded`] follows.
    ///
    /// # Errors
    /// One line that names the option that is wrong.
    pub fn load(arguments: &Live, events: Sender<Event>) -> Result<Self> {
        audio::start_gstreamer()?;
        gstnemostt::plugin_register_static()?;
        let element = audio::element("nemostt")?;
        arguments.model.configure(&element)?;
        arguments.speech.configure(&element)?;
        arguments.text.configure(&element)?;
        arguments.decoding.configure(&element)?;
        element.set_property_from_str("output", "utterances");
        element.set_property("post-partials", true);
        element.set_property("max-utterance", MAX_UTTERANCE);

        let caps = gst_audio::AudioCapsBuilder::new_interleaved()
            .format(gst_audio::AudioFormat::S16le)
            .rate(RATE as i32)
            .channels(1);
        let source = AppSrc::builder()
            .caps(&caps.build())
            .format(gst::Format::Time)
            .is_live(true)
            .min_latency(JITTER.nseconds() as i64)
            .max_bytes(0)
            .max_time(MAX_BACKLOG)
            .leaky_type(AppLeakyType::Downstream)
            .build();
        let sink = audio::element("fakesink")?;
        sink.set_property("sync", false);
        sink.set_property("async", false);
        let zero = Arc::new(AtomicU64::new(0));
        watch(&sink, zero.clone(), events.clone())?;
        let pipeline = gst::Pipeline::new();
        let all = [source.upcast_ref(), &element, &sink];
        pipeline.add_many(all)?;
        gst::Element::link_many(all)?;
        // A source whose clock stops must not stop this one.
        pipeline.use_clock(Some(&gst::SystemClock::obtain()));

        let input = CaptionerInput {
            source,
            zero: zero.clone(),
        };
        let bus = pipeline.bus().ok_or("the pipeline has no bus")?;
        bus.set_sync_handler(move |_, message| {
            let zero = running_time(zero.load(Ordering::Acquire));
            if let Some(event) = translate(message, zero.unwrap_or_default()) {
                // The session may have ended.
                let _ = events.send(event);
            }
            gst::BusSyncReply::Drop
        });
        // What is wrong is in a message.
        let _ = pipeline.set_state(gst::State::Paused);
        Ok(Self { pipeline, input })
    }

    /// Lets time begin.
    pub fn play(&self) {
        let _ = self.pipeline.set_state(gst::State::Playing);
    }

    /// Where samples go.
    pub fn input(&self) -> CaptionerInput {
        self.input.clone()
    }

    /// Applies the latency, which has changed.
    pub fn update_latency(&self) {
        // Fails only while the pipeline shuts down.
        let _ = self.pipeline.recalculate_latency();
    }

    /// No more samples come: [`Event::CaptionsEnded`] follows after the last caption.
    pub fn end(&self) {
        // Fails only while the pipeline shuts down.
        let _ = self.input.source.end_of_stream();
    }
}

impl Drop for Captioner {
    fn drop(&mut self) {
        if let Some(bus) = self.pipeline.bus() {
            bus.unset_sync_handler();
        }
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

impl CaptionerInput {
    /// The running time.
    pub fn now(&self) -> Duration {
        self.source.current_running_time().unwrap_or_default().into()
    }

    /// The session begins at the running time `zero`, if it has not begun yet.
    pub fn begin(&self, zero: Duration) {
        let zero = u64::try_from(zero.as_nanos()).unwrap_or_default() + 1;
        // Another connection began it if this fails.
        let _ = self.zero.compare_exchange(0, zero, Ordering::AcqRel, Ordering::Acquire);
    }

    /// The time of the session at the running time `time`; `None` before it has begun.
    pub fn session_time(&self, time: Duration) -> Option<Duration> {
        let zero = running_time(self.zero.load(Ordering::Acquire))?;
        Some(time.saturating_sub(zero))
    }

    /// Takes samples, -1.0 to 1.0, that were placed.
    pub fn push(&self, samples: &[f32], placed: Placed) {
        let bytes: Vec<u8> = samples
            .iter()
            .map(|sample| (sample * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16)
            .flat_map(i16::to_le_bytes)
            .collect();
        let mut buffer = gst::Buffer::from_mut_slice(bytes);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(clock_time(placed.start));
            buffer.set_duration(clock_time(placed.end.saturating_sub(placed.start)));
            if placed.is_new {
                buffer.set_flags(gst::BufferFlags::DISCONT);
            }
        }
        // Fails only while the pipeline shuts down.
        let _ = self.source.push_buffer(buffer);
    }

    /// No samples follow for a while: what was said is final.
    pub fn finish(&self) {
        let event = gst::event::CustomDownstream::new(gst::Structure::new_empty("nemostt/finish"));
        self.source.send_event(event);
    }
}

/// What [`CaptionerInput::zero`] means.
fn running_time(zero: u64) -> Option<Duration> {
    zero.checked_sub(1).map(Duration::from_nanos)
}

/// Sends [`Event::Settled`] as the element's output goes on: utterances, and GAPs in which none begins.
fn watch(sink: &gst::Element, zero: Arc<AtomicU64>, events: Sender<Event>) -> Result<()> {
    let pad = sink.static_pad("sink").ok_or("fakesink has no sink pad")?;
    let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
    pad.add_probe(kinds, move |_, info| {
        // The segment begins at 0, so timestamps are running times.
        let until = match &info.data {
            // Its message has been posted.
            Some(gst::PadProbeData::Buffer(buffer)) => buffer.pts(),
            Some(gst::PadProbeData::Event(event)) => match event.view() {
                gst::EventView::Gap(gap) => {
                    let (start, duration) = gap.get();
                    Some(start + duration.unwrap_or_default())
                }
                _ => None,
            },
            _ => None,
        };
        if let (Some(until), Some(zero)) = (until, running_time(zero.load(Ordering::Acquire))) {
            // The session may have ended.
            let _ = events.send(Event::Settled(Duration::from(until).saturating_sub(zero)));
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

fn clock_time(time: Duration) -> gst::ClockTime {
    gst::ClockTime::try_from(time).unwrap_or(gst::ClockTime::MAX)
}

/// What a message of the pipeline means.
fn translate(message: &gst::Message, zero: Duration) -> Option<Event> {
    match message.view() {
        gst::MessageView::Element(element) => {
            let structure = element.structure().filter(|structure| structure.name() == MESSAGE)?;
            Caption::of(structure, zero).map(Event::Caption)
        }
        gst::MessageView::Progress(progress) if progress.get().0 == gst::ProgressType::Complete => Some(Event::Loaded),
        gst::MessageView::Latency(_) => Some(Event::Latency),
        gst::MessageView::Eos(_) => Some(Event::CaptionsEnded),
        gst::MessageView::Warning(warning) => Some(Event::Notice(warning.error().message().into())),
        // A server has been found again. What else the element says is of no interest here.
        gst::MessageView::Info(info) if info.details().is_some_and(|details| details.name() == REMOTE) => {
            Some(Event::Notice(info.error().message().into()))
        }
        gst::MessageView::Error(error) => Some(Event::Failed(error.error().message().into())),
        _ => None,
    }
}
