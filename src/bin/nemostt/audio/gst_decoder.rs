// SPDX-License-Identifier: MIT OR Apache-2.0

//! Audio of any format and rate, decoded by GStreamer:
//! `uridecodebin ! decodebin ! audioconvert ! audioresample ! appsink`.

use std::{
    io::Read,
    sync::Arc,
    time::{Duration, Instant},
};

use gst::prelude::*;
use gst_app::AppSink;
use nemostt::Stream;

use super::{
    BLOCK, Live, Location,
    bus_errors::BusErrors,
    container_length::DeclaredLength,
    pipe,
    source_error::{Failure, SourceError},
    source_setup,
    streams::Streams,
    tap::Tap,
    track::{self, Channel, Track, TrackSelection},
};
use crate::{Result, interrupt};

/// How long to wait for samples before checking for errors.
const POLL_INTERVAL: gst::ClockTime = gst::ClockTime::from_mseconds(50);
/// How long to wait for the metadata of tracks without data.
const TRACK_INFO_TIMEOUT: Duration = Duration::from_secs(2);
/// A stream whose duration is known ends at most this much before it.
const END_TOLERANCE: gst::ClockTime = gst::ClockTime::SECOND;
/// How long to drain the pipeline after Ctrl-C.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(300);
const PIPE_DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a tap may take to finish what it has.
const TAP_TIMEOUT: Duration = Duration::from_secs(5);
/// Buffers that may be decoded in advance.
const MAX_QUEUED_BUFFERS: u32 = 64;
/// A gap in the timestamps longer than this is silence. Shorter ones are rounding errors of containers, which count
/// milliseconds.
const MIN_GAP: gst::ClockTime = gst::ClockTime::from_mseconds(100);

/// Bytes that are not read from a URI.
pub type Bytes = Box<dyn Read + Send>;

/// A decoding pipeline.
pub struct GstDecoder {
    pipeline: gst::Pipeline,
    source: gst::Element,
    sink: AppSink,
    bus: gst::Bus,
    streams: Streams,
    bus_errors: BusErrors,
    tap: Option<Arc<dyn Tap>>,
    declared: DeclaredLength,
    is_pipe: bool,
    is_url: bool,
    is_live: bool,
    /// How long to wait for data.
    timeout: Option<Duration>,
    channel: Option<Channel>,
    track: Option<Track>,
    notice: Option<String>,
    has_invalid_samples: bool,
    /// Samples per second.
    rate: u32,
    /// Samples returned so far.
    returned: u64,
    /// Samples of silence to return before `pending`.
    silence: u64,
    /// Decoded samples.
    pending: Vec<f32>,
    /// When Ctrl-C was detected.
    interrupted: Option<Instant>,
}

impl GstDecoder {
    /// Opens `location`, or `bytes` from it, and decodes the first samples.
    pub fn open(
        location: &Location,
        bytes: Option<Bytes>,
        declared: DeclaredLength,
        rate: u32,
        selection: &TrackSelection,
    ) -> Result<Self> {
        let mut decoded = Self::new(location, bytes, declared, rate, selection, None)?;
        decoded.start(selection)?;
        Ok(decoded)
    }

    /// The same as `live` says.
    pub fn open_live(
        location: &Location,
        declared: DeclaredLength,
        rate: u32,
        selection: &TrackSelection,
        live: Live,
    ) -> Result<Self> {
        let mut decoded = Self::new(location, None, declared, rate, selection, live.tap)?;
        if let Location::Url(url) = location {
            source_setup::connect(&decoded.source, url, live.timeout.is_some());
        }
        decoded.timeout = live.timeout;
        decoded.start(selection)?;
        Ok(decoded)
    }

    fn new(
        location: &Location,
        bytes: Option<Bytes>,
        declared: DeclaredLength,
        rate: u32,
        selection: &TrackSelection,
        tap: Option<Arc<dyn Tap>>,
    ) -> Result<Self> {
        super::start_gstreamer()?;
        let pipeline = gst::Pipeline::new();
        let source = super::element("uridecodebin")?;
        let is_pipe = bytes.is_some();
        match bytes {
            Some(bytes) => pipe::connect(&source, bytes),
            None => source.set_property("uri", location.uri()?),
        }
        let (convert, resample) = (super::element("audioconvert")?, super::element("audioresample")?);
        let sink = sink(rate, selection.channel);
        let all = [&source, &convert, &resample, sink.upcast_ref()];
        pipeline.add_many(all)?;
        gst::Element::link_many(&all[1..])?;
        let target = convert.static_pad("sink").ok_or("audioconvert has no sink pad")?;
        Ok(Self {
            streams: Streams::new(&pipeline, &source, target, tap.clone()),
            tap,
            bus: pipeline.bus().ok_or("the pipeline has no bus")?,
            pipeline,
            source,
            sink,
            bus_errors: BusErrors::new(location),
            declared,
            is_pipe,
            is_url: matches!(location, Location::Url(_)),
            is_live: false,
            timeout: None,
            channel: selection.channel,
            track: None,
            notice: None,
            has_invalid_samples: false,
            rate,
            returned: 0,
            silence: 0,
            pending: Vec::new(),
            interrupted: None,
        })
    }

    /// Waits until a track is selected, the pipeline is prerolled and the duration is known. A live source does not preroll.
    fn start(&mut self, selection: &TrackSelection) -> Result<()> {
        self.set_state(gst::State::Paused)?;
        let (mut is_prerolled, mut complete) = (false, None);
        let begun = Instant::now();
        while !is_prerolled || self.track.is_none() {
            if interrupt::is_requested() {
                return Err(format!("interrupted before the audio of {} began", self.bus_errors.location()).into());
            }
            if let Some(message) = self.bus.timed_pop(POLL_INTERVAL) {
                self.handle_message(&message)?;
                is_prerolled |= message.type_() == gst::MessageType::AsyncDone;
            }
            self.is_live |= self.pipeline.state(gst::ClockTime::ZERO).0 == Ok(gst::StateChangeSuccess::NoPreroll);
            is_prerolled |= self.is_live;
            self.check_timeout(begun)?;
            if is_prerolled {
                // A live source produces no data before.
                self.set_state(gst::State::Playing)?;
            }
            if self.track.is_none() && self.streams.are_complete() {
                let since = complete.get_or_insert_with(Instant::now);
                if self.streams.are_known() || since.elapsed() > TRACK_INFO_TIMEOUT {
                    self.choose(selection)?;
                }
            }
        }
        Ok(())
    }

    fn choose(&mut self, selection: &TrackSelection) -> Result<()> {
        let mut tracks = self.streams.tracks();
        if tracks.is_empty() {
            return Err(self.bus_errors.no_track(&self.streams.others()).into());
        }
        let (index, notice) = track::choose(self.bus_errors.location(), &tracks, selection.track.as_ref())?;
        self.notice = notice;
        self.track = Some(tracks.swap_remove(index));
        self.streams.choose(index)
    }

    fn set_state(&mut self, state: gst::State) -> Result<()> {
        let Err(error) = self.pipeline.set_state(state) else {
            return Ok(());
        };
        // A message on the bus is more specific.
        self.handle_messages()?;
        Err(format!("cannot decode {}: {error}", self.bus_errors.location()).into())
    }

    /// Handles the messages on the bus.
    fn handle_messages(&mut self) -> Result<()> {
        while let Some(message) = self.bus.pop() {
            self.handle_message(&message)?;
        }
        Ok(())
    }

    fn handle_message(&mut self, message: &gst::MessageRef) -> Result<()> {
        if let Some(tap) = &self.tap {
            tap.message(message);
        }
        self.bus_errors.handle(message)
    }

    /// Lets the tap finish what it has, whatever ended the source.
    fn end_tap(&self, tap: &dyn Tap) {
        tap.end();
        let begun = Instant::now();
        while !tap.has_ended() && begun.elapsed() < TAP_TIMEOUT {
            if let Some(message) = self.bus.timed_pop(POLL_INTERVAL) {
                tap.message(&message);
            }
        }
    }

    /// An error if there has been no data since `since`, for too long.
    fn check_timeout(&self, since: Instant) -> Result<()> {
        match self.timeout {
            Some(timeout) if since.elapsed() > timeout => Err(SourceError {
                message: format!(
                    "{} sent no audio for {} s",
                    self.bus_errors.location(),
                    timeout.as_secs()
                ),
                failure: Failure::Transient,
            }
            .into()),
            _ => Ok(()),
        }
    }

    /// A notice about the tracks, if there is a choice.
    pub fn notice(&self) -> Option<&str> {
        self.notice.as_deref()
    }

    /// Whether samples arrive as they are recorded.
    pub fn is_live(&self) -> bool {
        self.is_live
    }

    /// At the end: whether this is the end of a file. Connections end, too: a URL is a file if its size is known, or if its
    /// duration is known and was reached.
    pub fn is_complete(&self) -> bool {
        if !self.is_url {
            return true;
        }
        let source: Option<gst::Element> = self.source.property("source");
        let size = source.and_then(|source| source.query_duration::<gst::format::Bytes>());
        let duration = self.pipeline.query_duration::<gst::ClockTime>();
        let reached = gst::ClockTime::from_seconds_f64(self.reached() as f64 / f64::from(self.rate));
        size.is_some() || duration.is_some_and(|duration| reached + END_TOLERANCE >= duration)
    }

    /// Total number of samples, if the format declares it.
    pub fn samples(&self) -> Option<u64> {
        match self.declared {
            DeclaredLength::Seconds(seconds) => Some((seconds * f64::from(self.rate)).round() as u64),
            DeclaredLength::Open => None,
            // May be generated while it is sent, with any length in its header.
            DeclaredLength::Unread if self.is_url && self.streams.are_in_wav() => None,
            DeclaredLength::Unread => {
                let length = self.pipeline.query_duration::<gst::ClockTime>()?;
                Some(samples(length, self.rate))
            }
        }
    }

    /// Whether that number of samples is an estimate.
    pub fn is_length_estimated(&self) -> bool {
        self.declared == DeclaredLength::Unread && !self.streams.have_container()
    }

    /// End of the longest stream, in samples.
    pub fn reached(&self) -> u64 {
        self.returned.max(samples(self.streams.reached(), self.rate))
    }

    /// See [`Input::has_invalid_samples`](super::Input::has_invalid_samples).
    pub fn has_invalid_samples(&self) -> bool {
        self.has_invalid_samples
    }

    /// The error if there is no sample.
    pub fn no_samples_error(&self) -> String {
        let location = self.bus_errors.location();
        if let Some(declared @ 1..) = self.samples() {
            let seconds = declared as f64 / f64::from(self.rate);
            return format!("{location} is truncated: it declares {seconds:.1} s of audio, but has no samples");
        }
        let track = match &self.track {
            Some(track) => format!(" ({track})"),
            None => String::new(),
        };
        format!("{location} has an audio track{track}, but no samples in it")
    }

    /// Adds the next samples to `mono`, none at the end.
    pub fn read(&mut self, mono: &mut Vec<f32>) -> Result<()> {
        if self.silence == 0 && self.pending.is_empty() {
            self.decode()?;
        }
        if self.silence > 0 {
            let silence = self.silence.min(BLOCK as u64);
            mono.resize(silence as usize, 0.0);
            self.silence -= silence;
        } else {
            mono.append(&mut self.pending);
        }
        self.returned += mono.len() as u64;
        Ok(())
    }

    /// Waits for the next samples.
    fn decode(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            self.handle_messages()?;
            self.check_timeout(begun)?;
            if interrupt::is_requested() && self.is_drained() {
                return Ok(());
            }
            if let Some(sample) = self.sink.try_pull_sample(POLL_INTERVAL) {
                self.take(&sample)?;
                if !self.pending.is_empty() {
                    return Ok(());
                }
            } else if self.sink.is_eos() {
                // An error may have been posted just before the end.
                return self.handle_messages();
            }
        }
    }

    /// Whether the time to drain the pipeline after Ctrl-C is over. Standard input ends by itself within it.
    fn is_drained(&mut self) -> bool {
        let rest = match self.is_pipe {
            true => PIPE_DRAIN_TIMEOUT,
            false => DRAIN_TIMEOUT,
        };
        self.interrupted.get_or_insert_with(Instant::now).elapsed() > rest
    }

    fn take(&mut self, sample: &gst::Sample) -> Result<()> {
        let Some(buffer) = sample.buffer() else {
            return Ok(());
        };
        let time = || {
            let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
            segment.to_running_time(buffer.pts()?)
        };
        // Keeps subtitles in sync if the audio begins after the video, or pauses.
        if let Some(time) = time() {
            let gap = samples(time, self.rate).saturating_sub(self.returned);
            if gap > samples(MIN_GAP, self.rate) {
                self.silence = gap;
            }
        }
        let bytes = buffer.map_readable();
        let bytes = bytes.map_err(|error| format!("cannot decode {}: {error}", self.bus_errors.location()))?;
        let (samples, _) = bytes.as_chunks::<4>();
        let invalid = &mut self.has_invalid_samples;
        let samples = samples.iter().map(|&sample| f32::from_ne_bytes(sample));
        let samples = samples.map(|sample| match Stream::is_valid_sample(sample) {
            true => sample,
            false => {
                *invalid = true;
                0.0
            }
        });
        match self.channel {
            None => self.pending.extend(samples),
            Some(Channel(number)) => {
                let caps = sample.caps().and_then(|caps| caps.structure(0));
                let count = caps.and_then(|caps| caps.get::<i32>("channels").ok()).unwrap_or(1) as usize;
                if number > count {
                    return Err(Channel(number).missing(self.bus_errors.location(), count).into());
                }
                self.pending.extend(samples.skip(number - 1).step_by(count));
            }
        }
        Ok(())
    }
}

impl Drop for GstDecoder {
    fn drop(&mut self) {
        if let Some(tap) = self.tap.clone() {
            self.end_tap(&*tap);
        }
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn samples(time: gst::ClockTime, rate: u32) -> u64 {
    time.nseconds()
        .mul_div_round(u64::from(rate), 1_000_000_000)
        .unwrap_or(u64::MAX)
}

/// A sink for samples at `rate`: mono, or all channels if one of them is selected.
fn sink(rate: u32, channel: Option<Channel>) -> AppSink {
    let caps = gst_audio::AudioCapsBuilder::new_interleaved()
        .format(gst_audio::AUDIO_FORMAT_F32)
        .rate(rate as i32);
    let caps = match channel {
        None => caps.channels(1),
        Some(_) => caps,
    };
    let sink = AppSink::builder()
        .caps(&caps.build())
        .sync(false)
        .max_buffers(MAX_QUEUED_BUFFERS)
        .build();
    sink.set_property("enable-last-sample", false);
    sink
}

#[cfg(test)]
mod tests {
    use hound::{SampleFormat, WavSpec, WavWriter};

    use super::*;

    /// A stereo file whose left channel is a quarter and whose right one is half of full scale, read.
    fn stereo(bits_per_sample: u16, sample_format: SampleFormat) -> Vec<f32> {
        let directory = tempfile::tempdir().unwrap();
        // Characters that a URI must escape.
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
        let mut input = GstDecoder::open(
            &Location::File(path),
            None,
            DeclaredLength::Unread,
            16_000,
            &TrackSelection::default(),
        )
        .unwrap();
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
