// SPDX-License-Identifier: MIT OR Apache-2.0

//! A microphone: `autoaudiosrc ! audioconvert ! audioresample ! appsink`.

use std::time::{Duration, Instant};

use gst::prelude::*;
use gst_app::AppSink;

use super::source::RATE;
use crate::{
    Result,
    audio::{self, Failure, SourceError},
    interrupt,
};

/// How long to wait for samples before checking for errors.
const POLL_INTERVAL: gst::ClockTime = gst::ClockTime::from_mseconds(50);
/// Buffers that may wait, of 10 ms in most cases.
const MAX_QUEUED_BUFFERS: u32 = 500;

/// A microphone that is recorded.
pub struct Microphone {
    pipeline: gst::Pipeline,
    bus: gst::Bus,
    sink: AppSink,
    timeout: Duration,
    is_live: bool,
    /// Whether there were samples.
    has_recorded: bool,
}

impl Microphone {
    /// Opens the default microphone, or the first one with `name` in its name. No samples within `timeout` are an error.
    pub fn open(name: Option<&str>, timeout: Duration) -> Result<Self> {
        audio::start_gstreamer()?;
        let source = match name {
            Some(name) => device(name)?,
            None => gst::ElementFactory::make("autoaudiosrc").build().map_err(|_| {
                "the GStreamer element autoaudiosrc is missing; install gst-plugins-good (on Debian and Ubuntu: \
                 gstreamer1.0-plugins-good)"
            })?,
        };
        let (convert, resample) = (audio::element("audioconvert")?, audio::element("audioresample")?);
        let caps = gst_audio::AudioCapsBuilder::new_interleaved()
            .format(gst_audio::AUDIO_FORMAT_F32)
            .rate(RATE as i32)
            .channels(1);
        let sink = AppSink::builder()
            .caps(&caps.build())
            .sync(false)
            .max_buffers(MAX_QUEUED_BUFFERS)
            .build();
        sink.set_property("enable-last-sample", false);
        let pipeline = gst::Pipeline::new();
        let all = [&source, &convert, &resample, sink.upcast_ref()];
        pipeline.add_many(all)?;
        gst::Element::link_many(all)?;
        // Timestamps are not used, and the clock of a sound card that is unplugged stops.
        pipeline.use_clock(Some(&gst::SystemClock::obtain()));
        let mut microphone = Self {
            bus: pipeline.bus().ok_or("the pipeline has no bus")?,
            pipeline,
            sink,
            timeout,
            is_live: false,
            has_recorded: false,
        };
        for state in [gst::State::Paused, gst::State::Playing] {
            let changed = microphone.pipeline.set_state(state);
            microphone.handle_messages()?;
            let changed = changed.map_err(|error| failed(&error.to_string(), Failure::Permanent))?;
            microphone.is_live |= changed == gst::StateChangeSuccess::NoPreroll;
        }
        Ok(microphone)
    }

    /// Whether samples arrive as they are recorded.
    pub fn is_live(&self) -> bool {
        self.is_live
    }

    /// Replaces `mono` with the next samples. It is empty after Ctrl-C.
    pub fn read(&mut self, mono: &mut Vec<f32>) -> Result<()> {
        mono.clear();
        let begun = Instant::now();
        while !interrupt::is_requested() {
            self.handle_messages()?;
            if let Some(sample) = self.sink.try_pull_sample(POLL_INTERVAL) {
                let bytes = sample.buffer().and_then(|buffer| buffer.map_readable().ok());
                let bytes = bytes.ok_or_else(|| failed("its samples cannot be read", Failure::Transient))?;
                let (samples, _) = bytes.as_chunks::<4>();
                mono.extend(samples.iter().map(|&sample| f32::from_ne_bytes(sample)));
                if !mono.is_empty() {
                    self.has_recorded = true;
                    break;
                }
            } else if self.sink.is_eos() {
                break;
            } else if begun.elapsed() > self.timeout {
                let problem = format!("it gave no sound for {} s", self.timeout.as_secs());
                return Err(failed(&problem, Failure::Transient).into());
            }
        }
        Ok(())
    }

    fn handle_messages(&self) -> Result<()> {
        while let Some(message) = self.bus.pop() {
            match message.view() {
                gst::MessageView::Error(error) => {
                    let failure = if self.has_recorded {
                        Failure::Transient
                    } else {
                        Failure::Permanent
                    };
                    return Err(failed(error.error().message(), failure).into());
                }
                // It then records silence.
                gst::MessageView::Warning(warning) if is_missing(&message, warning) => {
                    return Err(failed("no microphone was found", Failure::Permanent).into());
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for Microphone {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// Whether `autoaudiosrc` says that it has found no device.
fn is_missing(message: &gst::Message, warning: &gst::message::Warning) -> bool {
    let source = message.src().and_then(|source| source.downcast_ref::<gst::Element>());
    let factory = source.and_then(gst::Element::factory);
    factory.is_some_and(|factory| factory.name() == "autoaudiosrc")
        && warning.error().matches(gst::ResourceError::NotFound)
}

fn failed(problem: &str, failure: Failure) -> SourceError {
    SourceError {
        message: format!("cannot record the microphone: {}", problem.trim_end_matches('.')),
        failure,
    }
}

/// The source element of the microphone with `name` in its name.
fn device(name: &str) -> Result<gst::Element> {
    let monitor = gst::DeviceMonitor::new();
    monitor.add_filter(Some("Audio/Source"), None);
    // Without a provider for devices, there are none.
    let _ = monitor.start();
    let devices = monitor.devices();
    monitor.stop();
    let names: Vec<String> = devices.iter().map(|device| device.display_name().into()).collect();
    let wanted = name.to_lowercase();
    let index = names.iter().position(|other| other.to_lowercase().contains(&wanted));
    let device = index
        .and_then(|index| devices.iter().nth(index))
        .ok_or_else(|| match names.as_slice() {
            [] => format!("there is no microphone {name}, nor any other; is it plugged in?"),
            names => format!("there is no microphone {name}; there is {}", names.join(", ")),
        })?;
    Ok(device.create_element(None)?)
}
