// SPDX-License-Identifier: MIT OR Apache-2.0

//! nemostt in gst-plugins-rs' `transcriberbin`, which adds captions to live video.

#![allow(clippy::unwrap_used)] // a failed unwrap is how a test fails

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use gst::prelude::*;
use nemostt_interop::{Cea708, Run, STT, init, samples, speech, transcript};

const MS: gst::ClockTime = gst::ClockTime::MSECOND;
const TIMEOUT: Duration = Duration::from_secs(55);
/// By how much a thread may wake up late on a busy machine, as in tools/live_test. transcriberbin releases each frame 25 ms before
/// the latency is over, by a timer, whether its audio is muted or not.
const JITTER: gst::ClockTime = gst::ClockTime::from_mseconds(60);
/// Frames for the length of the clip, and some seconds for the last captions.
const FRAMES: u32 = 29 * 30;

/// Output of `transcriberbin`.
#[derive(Default)]
struct Seen {
    decoder: Cea708,
    frames: u32,
    /// Running time of the frame in which the first word began.
    first_word: Option<gst::ClockTime>,
    /// Longest time from the creation of a frame to its arrival at the sink.
    delay: gst::ClockTime,
    /// Latency of the pipeline at the last frame.
    latency: gst::ClockTime,
}

impl Seen {
    fn assert_in_time(&self) {
        assert_eq!(self.frames, FRAMES);
        let Self { delay, latency, .. } = self;
        assert!(
            *delay <= *latency + JITTER,
            "a frame arrived {delay} after it was created, the latency is {latency}"
        );
    }
}

struct Live {
    run: Run,
    transcriberbin: gst::Element,
    seen: Arc<Mutex<Seen>>,
}

impl Live {
    /// The clip and a test picture through `transcriberbin transcriber=nemostt`.
    fn new(stt: &str, properties: &[(&str, &str)]) -> Self {
        Self::with_audio(&speech(), stt, properties)
    }

    /// Like [`new`](Self::new), with other audio.
    fn with_audio(audio: &str, stt: &str, properties: &[(&str, &str)]) -> Self {
        init();
        let video =
            format!("videotestsrc is-live=true num-buffers={FRAMES} ! video/x-raw,width=320,height=240,framerate=30/1");
        let run = Run::new(&format!(
            "{audio} ! capsfilter name=audio caps=audio/x-raw {video} ! capsfilter name=video caps=video/x-raw \
             appsink name=out sync=true qos=false fakesink name=sound sync=true"
        ));
        // The other method, CEA-608, needs the element cea608mux of GStreamer 1.24.
        let mut factory = gst::ElementFactory::make("transcriberbin")
            .property_from_str("mux-method", "cea708")
            .property_from_str("cc-caps", "closedcaption/x-cea-708,format=cc_data");
        for (name, value) in properties {
            factory = factory.property_from_str(name, value);
        }
        let transcriberbin = factory.build().unwrap();
        let pad = transcriberbin.static_pad("sink_audio").unwrap();
        pad.set_property("transcriber", gst::parse::launch(stt).unwrap());
        run.pipeline.add(&transcriberbin).unwrap();
        for (from, pad, bin_pad) in [("audio", "src", "sink_audio"), ("video", "src", "sink_video")] {
            run.element(from)
                .link_pads(Some(pad), &transcriberbin, Some(bin_pad))
                .unwrap();
        }
        for (bin_pad, to) in [("src_audio", "sound"), ("src_video", "out")] {
            transcriberbin
                .link_pads(Some(bin_pad), &run.element(to), Some("sink"))
                .unwrap();
        }

        let seen = Arc::new(Mutex::new(Seen::default()));
        Self::watch(&run, &seen);
        Self {
            run,
            transcriberbin,
            seen,
        }
    }

    fn watch(run: &Run, seen: &Arc<Mutex<Seen>>) {
        let sink = seen.clone();
        run.each_sample("out", move |sample| {
            let buffer = sample.buffer().unwrap();
            let mut seen = sink.lock().unwrap();
            seen.frames += 1;
            for meta in buffer.iter_meta::<gst_video::VideoCaptionMeta>() {
                assert_eq!(meta.caption_type(), gst_video::VideoCaptionType::Cea708Raw);
                seen.decoder.push(meta.data());
            }
            if seen.first_word.is_none() && !seen.decoder.cea608.shown.words().is_empty() {
                seen.first_word = buffer.pts();
            }
        });
        // A probe sees the frame before the sink waits until it is due.
        let arrived = seen.clone();
        let out = run.element("out");
        let pipeline = run.pipeline.downgrade();
        out.static_pad("sink")
            .unwrap()
            .add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
                let segment = pad.sticky_event::<gst::event::Segment>(0).unwrap();
                let segment = segment.segment().downcast_ref::<gst::ClockTime>().unwrap().clone();
                let made = segment.to_running_time(info.buffer().unwrap().pts()).unwrap();
                let pipeline = pipeline.upgrade().unwrap();
                let Some(now) = pipeline.current_running_time() else {
                    return gst::PadProbeReturn::Ok;
                };
                let mut query = gst::query::Latency::new();
                assert!(pipeline.query(&mut query));
                let mut seen = arrived.lock().unwrap();
                seen.delay = seen.delay.max(now.saturating_sub(made));
                seen.latency = query.result().1;
                gst::PadProbeReturn::Ok
            });
    }

    /// Stops, so that it can start again.
    fn stop(&self) {
        self.run.stop();
        // transcriberbin makes this link whenever it starts, and panics if it still exists, with any transcriber.
        let captions = self.run.element("transcription-bin").static_pad("src").unwrap();
        let peer = captions.peer().unwrap();
        captions.unlink(&peer).unwrap();
        self.run.element("cccombiner").release_request_pad(&peer);
    }

    /// Words shown so far; the last one may be incomplete.
    fn words(&self) -> Vec<String> {
        self.seen.lock().unwrap().decoder.shown.words()
    }
}

#[test]
fn live_captions_contain_the_transcript() {
    let live = Live::new(STT, &[]);
    live.run.play();
    live.run.wait(TIMEOUT);
    let seen = live.seen.lock().unwrap();
    assert_eq!(seen.decoder.cea608.shown.words(), transcript());
    assert_eq!(seen.decoder.shown.words(), transcript());
    seen.assert_in_time();
    // It is spoken at 0.32 s; captions need some frames to begin.
    let first_word = seen.first_word.unwrap();
    assert!((300 * MS..600 * MS).contains(&first_word), "first word at {first_word}");
}

/// A live source that [`feed`] feeds.
const MICROPHONE: &str = "appsrc name=microphone is-live=true format=time min-latency=20000000 \
                          caps=audio/x-raw,format=S16LE,rate=16000,channels=1,layout=interleaved";

/// Feeds the clip in real time, except for the part in `muted`, and then EOS.
fn feed(run: &Run, muted: std::ops::Range<Duration>) {
    const BLOCK: Duration = Duration::from_millis(20);
    let source = run.element("microphone").downcast::<gst_app::AppSrc>().unwrap();
    let samples = samples();
    let since = std::time::Instant::now();
    for (index, block) in samples.chunks(320).enumerate() {
        let start = BLOCK * index as u32;
        std::thread::sleep((start + BLOCK).saturating_sub(since.elapsed()));
        if muted.contains(&start) {
            continue;
        }
        let bytes: Vec<u8> = block.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let mut buffer = gst::Buffer::from_slice(bytes);
        let writable = buffer.get_mut().unwrap();
        writable.set_pts(gst::ClockTime::try_from(start).unwrap());
        writable.set_duration(gst::ClockTime::try_from(BLOCK).unwrap());
        if start == muted.end {
            writable.set_flags(gst::BufferFlags::DISCONT);
        }
        source.push_buffer(buffer).unwrap();
    }
    source.end_of_stream().unwrap();
}

#[test]
fn muted_microphone_does_not_delay_video() {
    let live = Live::with_audio(MICROPHONE, STT, &[]);
    live.run.play();
    feed(&live.run, Duration::from_secs(8)..Duration::from_secs(14));
    live.run.wait(TIMEOUT);
    let seen = live.seen.lock().unwrap();
    seen.assert_in_time();
    let shown = seen.decoder.shown.words();
    assert!(shown.len() > 25, "{shown:?}");
    assert_eq!(shown[..15], transcript()[..15]);
    assert_eq!(shown[shown.len() - 10..], transcript()[transcript().len() - 10..]);
}

#[test]
fn pop_on_captions_contain_the_transcript() {
    let live = Live::new(STT, &[("accumulate-time", "3000")]);
    let pad = live.transcriberbin.static_pad("sink_audio").unwrap();
    pad.set_property_from_str("mode", "pop-on");
    let emitted = live.run.emitted();
    live.run.play();
    live.run.wait(TIMEOUT);
    let seen = live.seen.lock().unwrap();
    assert_eq!(emitted.lock().unwrap().words, transcript());
    // Does not check the CEA-608 captions in it: tttocea708 breaks their lines anywhere, even within words. And it puts
    // a space before each pop-on line and drops everything beyond column 32, while transcriberbin's textwrap fills
    // lines with up to 32 letters: such a line loses its last letter (closedcaption 0.14.2, tttocea708/translate.rs,
    // "Dropping characters after 32nd column"). Which words share a line depends on timing, so this happens only
    // sometimes.
    let shown = seen.decoder.shown.words();
    let is_shown = |(shown, word): (&String, String)| word.starts_with(shown) && shown.len() + 1 >= word.len();
    assert_eq!(shown.len(), transcript().len(), "{shown:?}");
    assert!(shown.iter().zip(transcript()).all(is_shown), "{shown:?}");
    seen.assert_in_time();
}

#[test]
fn late_captions_do_not_delay_video() {
    // Half a second is less than nemostt's chunk alone, so its words arrive seconds after their picture.
    let live = Live::new(STT, &[("latency", "500"), ("lateness", "4000")]);
    live.run.play();
    live.run.wait(TIMEOUT);
    let seen = live.seen.lock().unwrap();
    assert_eq!(seen.decoder.cea608.shown.words(), transcript());
    assert!(seen.latency < 2000 * MS, "latency {}", seen.latency);
    seen.assert_in_time();
    let first_word = seen.first_word.unwrap();
    assert!(
        (4300 * MS..4600 * MS).contains(&first_word),
        "first word at {first_word}"
    );
}

#[test]
fn language_can_be_changed_while_playing() {
    let live = Live::new(STT, &[]);
    let stt = live.run.element("stt");
    let pad = live.transcriberbin.static_pad("sink_audio").unwrap();
    live.run.play();
    live.run.wait_until(TIMEOUT, || live.words().len() > 5);
    // transcriberbin takes nemostt to NULL and back for this, so pending text is lost.
    pad.set_property("language-code", "fr-FR");
    live.run
        .wait_until(TIMEOUT, || live.words().contains(&"song".to_owned()));
    assert_eq!(stt.property::<String>("language-code"), "fr-FR");
    assert_eq!(live.words()[..5], transcript()[..5]);
}

#[test]
fn repeated_starts_and_stops_work() {
    let live = Live::new(STT, &[]);
    let stt = live.run.element("stt");
    let pad = live.transcriberbin.static_pad("sink_audio").unwrap();
    for (language, latency, lateness) in [("en-GB", 3000, 0), ("en-US", 2500, 700_u32), ("de-DE", 2000, 0)] {
        pad.set_property("language-code", language);
        live.transcriberbin.set_property("latency", latency);
        live.transcriberbin.set_property("lateness", lateness);
        live.run.play();
        live.run.wait_until(TIMEOUT, || live.words().len() > 5);
        assert_eq!(stt.property::<String>("language-code"), language);
        assert_eq!(stt.property::<u32>("latency"), latency);
        assert_eq!(stt.property::<u32>("lateness"), lateness);
        live.stop();
        assert_eq!(stt.current_state(), gst::State::Null);
        let seen = std::mem::take(&mut *live.seen.lock().unwrap());
        // The muxer forgets about CEA-608 when it stops, with any transcriber.
        assert_eq!(seen.decoder.shown.words()[..5], transcript()[..5]);
    }
}
