// SPDX-License-Identifier: MIT OR Apache-2.0

//! A file of any format and rate, decoded by GStreamer: `uridecodebin ! audioconvert ! audioresample ! appsink`.

use std::path::{self, Path, PathBuf};

use gst::{glib, prelude::*};
use gst_app::AppSink;

use super::{
    BLOCK,
    trouble::{self, Trouble},
};
use crate::Result;

/// How long to wait for samples before looking whether something went wrong.
const PATIENCE: gst::ClockTime = gst::ClockTime::from_mseconds(50);
/// Blocks that may be decoded before they are heard.
const AHEAD: u32 = 64;
/// A hole in the timestamps longer than this is silence; shorter ones are the rounding of containers, which count
/// milliseconds.
const HOLE: gst::ClockTime = gst::ClockTime::from_mseconds(100);

/// A file on its way through GStreamer.
pub struct Decoded {
    pipeline: gst::Pipeline,
    sink: AppSink,
    bus: gst::Bus,
    trouble: Trouble,
    /// Samples per second.
    rate: u32,
    /// Samples given.
    given: u64,
    /// Samples of silence to give before `waiting`.
    silence: u64,
    /// Samples that came after a hole.
    waiting: Vec<f32>,
}

impl Decoded {
    /// Opens `path` and decodes its first samples.
    pub fn open(path: &Path, rate: u32) -> Result<Self> {
        gst::init().map_err(|error| format!("GStreamer could not be started: {error}"))?;
        let pipeline = gst::Pipeline::new();
        let sink = build(&pipeline, path, rate)?;
        let bus = pipeline.bus().ok_or("GStreamer gave a pipeline without a bus")?;
        let mut decoded = Self {
            pipeline,
            sink,
            bus,
            trouble: Trouble::new(path),
            rate,
            given: 0,
            silence: 0,
            waiting: Vec::new(),
        };
        decoded.start()?;
        Ok(decoded)
    }

    /// Waits until the first samples are there, and the length is known.
    fn start(&mut self) -> Result<()> {
        self.set_state(gst::State::Paused)?;
        for message in self.bus.iter_timed(gst::ClockTime::NONE) {
            self.trouble.see(&message)?;
            if message.type_() == gst::MessageType::AsyncDone {
                break;
            }
        }
        self.set_state(gst::State::Playing)
    }

    fn set_state(&mut self, state: gst::State) -> Result<()> {
        let Err(error) = self.pipeline.set_state(state) else {
            return Ok(());
        };
        // What is on the bus says more.
        self.listen()?;
        Err(format!("cannot decode {}: {error}", self.trouble.path()).into())
    }

    /// Takes the messages that are there.
    fn listen(&mut self) -> Result<()> {
        while let Some(message) = self.bus.pop() {
            self.trouble.see(&message)?;
        }
        Ok(())
    }

    /// Samples in all, where the format tells.
    pub fn samples(&self) -> Option<u64> {
        let length = self.pipeline.query_duration::<gst::ClockTime>()?;
        Some(samples(length, self.rate))
    }

    /// Adds the next samples to `mono`; none at the end.
    pub fn read(&mut self, mono: &mut Vec<f32>) -> Result<()> {
        if self.silence == 0 && self.waiting.is_empty() {
            self.decode()?;
        }
        if self.silence > 0 {
            let silence = self.silence.min(BLOCK as u64);
            mono.resize(silence as usize, 0.0);
            self.silence -= silence;
        } else {
            mono.append(&mut self.waiting);
        }
        self.given += mono.len() as u64;
        Ok(())
    }

    /// Waits for the next samples.
    fn decode(&mut self) -> Result<()> {
        loop {
            self.listen()?;
            if let Some(sample) = self.sink.try_pull_sample(PATIENCE) {
                self.take(&sample)?;
                if !self.waiting.is_empty() {
                    return Ok(());
                }
            } else if self.sink.is_eos() {
                // An error just before the end comes first.
                return self.listen();
            }
        }
    }

    fn take(&mut self, sample: &gst::Sample) -> Result<()> {
        let Some(buffer) = sample.buffer() else {
            return Ok(());
        };
        let time = || {
            let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
            segment.to_running_time(buffer.pts()?)
        };
        // Subtitles would run ahead of a picture whose sound begins later, or pauses.
        if let Some(time) = time() {
            let hole = samples(time, self.rate).saturating_sub(self.given);
            if hole > samples(HOLE, self.rate) {
                self.silence = hole;
            }
        }
        let bytes = buffer.map_readable();
        let bytes = bytes.map_err(|error| format!("cannot decode {}: {error}", self.trouble.path()))?;
        let (samples, _) = bytes.as_chunks::<4>();
        self.waiting
            .extend(samples.iter().map(|&sample| f32::from_ne_bytes(sample)));
        Ok(())
    }
}

impl Drop for Decoded {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn samples(time: gst::ClockTime, rate: u32) -> u64 {
    time.nseconds()
        .mul_div_round(u64::from(rate), 1_000_000_000)
        .unwrap_or(u64::MAX)
}

/// Builds the pipeline; the sink gives mono samples at `rate`.
fn build(pipeline: &gst::Pipeline, path: &Path, rate: u32) -> Result<AppSink> {
    let source = element("uridecodebin")?;
    source.set_property("uri", uri(path)?);
    // Pictures stay as they are: only sound is decoded.
    source.set_property("caps", gst::Caps::new_empty_simple("audio/x-raw"));
    source.set_property("expose-all-streams", false);

    let (convert, resample) = (element("audioconvert")?, element("audioresample")?);
    let caps = gst_audio::AudioCapsBuilder::new_interleaved()
        .format(gst_audio::AUDIO_FORMAT_F32)
        .rate(rate as i32)
        .channels(1)
        .build();
    let sink = AppSink::builder().caps(&caps).sync(false).max_buffers(AHEAD).build();
    sink.set_property("enable-last-sample", false);

    let all = [&source, &convert, &resample, sink.upcast_ref()];
    pipeline.add_many(all)?;
    gst::Element::link_many(&all[1..])?;

    let target = convert.static_pad("sink").ok_or("audioconvert has no sink pad")?;
    let heard = target.clone();
    source.connect_pad_added(move |_, pad| {
        // The first stream of sound is the one to hear.
        if !heard.is_linked() {
            // A pad that does not fit makes the source post an error.
            let _ = pad.link(&heard);
        }
    });
    source.connect_no_more_pads(move |source| {
        if !target.is_linked() {
            trouble::no_sound(source);
        }
    });
    Ok(sink)
}

fn element(name: &str) -> Result<gst::Element> {
    let element = gst::ElementFactory::make(name).build();
    Ok(element.map_err(|_| {
        format!("GStreamer lacks its element {name}; install gst-plugins-base (on Debian and Ubuntu: gstreamer1.0-plugins-base)")
    })?)
}

fn uri(path: &Path) -> Result<glib::GString> {
    let absolute: PathBuf = path::absolute(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let uri = glib::filename_to_uri(absolute, None);
    Ok(uri.map_err(|error| format!("cannot read {}: {error}", path.display()))?)
}

#[cfg(test)]
mod tests {
    use hound::{SampleFormat, WavSpec, WavWriter};

    use super::*;

    /// A stereo file whose left channel is a quarter and whose right one is half of full scale, read.
    fn stereo(bits_per_sample: u16, sample_format: SampleFormat) -> Vec<f32> {
        let directory = tempfile::tempdir().unwrap();
        // What a URI must escape.
        let path = directory.path().join("stereo #1 100%?.wav");
        let spec = WavSpec {
            channels: 2,
            sample_rate: 16_000,
            bits_per_sample,
            sample_format,
        };
        let mut writer = WavWriter::create(&path, spec).unwrap();
        for _ in 0..2000 {
            for shift in [3, 2] {
                match sample_format {
                    SampleFormat::Float => writer.write_sample(2.0 / (1 << shift) as f32).unwrap(),
                    SampleFormat::Int => writer.write_sample(1_i32 << (bits_per_sample - shift)).unwrap(),
                }
            }
        }
        writer.finalize().unwrap();
        let mut input = Decoded::open(&path, 16_000).unwrap();
        assert_eq!(input.samples(), Some(2000));
        let (mut all, mut block) = (Vec::new(), vec![1.0]);
        while !block.is_empty() {
            block.clear();
            input.read(&mut block).unwrap();
            all.extend_from_slice(&block);
        }
        all
    }

    #[test]
    fn channels_are_averaged_whatever_the_sample_type() {
        for bits in [8, 16, 24, 32] {
            assert_eq!(stereo(bits, SampleFormat::Int), vec![0.375; 2000], "{bits} bits");
        }
        assert_eq!(stereo(32, SampleFormat::Float), vec![0.375; 2000]);
    }
}
