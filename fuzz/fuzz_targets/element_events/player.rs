// SPDX-License-Identifier: MIT OR Apache-2.0

//! An element with an upstream, a downstream and an application that execute acts.
//!
//! Upstream behaves like GStreamer's sources: it sends serialized data and events with a lock (its stream lock), which
//! a flush takes between FLUSH_START and FLUSH_STOP.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, MutexGuard},
    time::Duration,
};

use gst::prelude::*;

use crate::{
    acts::{Act, Clock, Decoder, Deed, Flow, Format, Lookahead, Model, Segment, Served, Setup, State, Time},
    build,
    clock::TestClock,
    harness::{Harness, Seen},
    sound::data,
};

/// Limit of samples per run. Audio beyond it is dropped.
pub const MOST: usize = 80_000;
/// Limit of buffers per act.
pub const MOST_BUFFERS: usize = 32;
/// Limit of waits for the element's clock thread, and the duration of one of its iterations.
const MOST_WAITS: usize = 3;
const TURN: Duration = Duration::from_millis(55);

#[derive(Default)]
pub struct Upstream {
    /// Expected timestamp of the next sample in nanoseconds.
    pub due: u64,
    /// Samples sent so far.
    pub heard: usize,
    /// Segment to send after a flush.
    pub segment: Option<Segment>,
}

pub struct Player {
    pub harness: Harness,
    pub src: gst::Pad,
    pub sink: gst::Pad,
    pub clock: TestClock,
    pub upstream: Mutex<Upstream>,
    pub flow: Arc<Mutex<Flow>>,
    begins: bool,
    waits: usize,
    seen: Vec<Seen>,
    pub messages: Mutex<Vec<gst::Message>>,
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("a panic ends the process")
}

pub fn lookahead(lookahead: Lookahead) -> i32 {
    match lookahead {
        Lookahead::Least => 0,
        Lookahead::Small => 80,
        Lookahead::Most => -1,
    }
}

pub fn path(model: Model) -> String {
    let model = match model {
        Model::Random => "tiny_random",
        Model::Multilingual => "kinds/nemotron_multi",
        Model::Turns => "kinds/eou",
    };
    data(model).display().to_string()
}

pub fn decoder(decoder: Decoder) -> &'static str {
    match decoder {
        Decoder::Auto => "auto",
        Decoder::Ctc => "ctc",
    }
}

fn properties(setup: &Setup) -> String {
    let (path, lookahead, decoder) = (path(setup.model), lookahead(setup.lookahead), decoder(setup.decoder));
    format!("model-path={path} lookahead={lookahead} decoder={decoder}")
}

/// Loads the model of `setup` and keeps it for later runs. (A model without a CTC decoder fails to load in every run.)
pub fn keep_model(setup: &Setup) {
    type Kept = HashMap<(Model, Lookahead, Decoder), Harness>;
    static KEPT: LazyLock<Mutex<Kept>> = LazyLock::new(Mutex::default);
    let mut kept = lock(&KEPT);
    let key = (setup.model, setup.lookahead, setup.decoder);
    kept.entry(key).or_insert_with(|| {
        let harness = Harness::play(&properties(setup));
        // Blocks until the model is loaded.
        let _ = harness.push(crate::harness::buffer(&[0; 320], None));
        let _ = harness.element.set_state(gst::State::Null);
        harness
    });
}

fn gst_state(state: State) -> gst::State {
    match state {
        State::Playing => gst::State::Playing,
        State::Paused => gst::State::Paused,
        State::Ready => gst::State::Ready,
        State::Null => gst::State::Null,
    }
}

impl Player {
    pub fn new(setup: &Setup) -> Self {
        let caps = match setup.format {
            Format::Any => "ANY",
            Format::Markup => "text/x-raw, format=pango-markup",
            Format::Json => "application/x-json",
        };
        let harness = Harness::with_caps(&properties(setup), caps);
        let peer = |name| {
            let pad = harness.element.static_pad(name).expect("a pad of the element");
            pad.peer().expect("a pad of the harness")
        };
        let (src, sink) = (peer("sink"), peer("src"));
        let (live, latency) = setup.upstream;
        harness.set_upstream_latency(live, gst::ClockTime::from_mseconds(latency.into()));
        let flow = Arc::new(Mutex::new(Flow::Ok));
        let answer = flow.clone();
        sink.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let refusal = match *lock(&answer) {
                Flow::Ok => return gst::PadProbeReturn::Ok,
                Flow::Eos => gst::FlowError::Eos,
                Flow::Flushing => gst::FlowError::Flushing,
                Flow::NotLinked => gst::FlowError::NotLinked,
                Flow::Error => gst::FlowError::Error,
                Flow::Custom => gst::FlowError::CustomError,
            };
            info.flow_res = Err(refusal);
            gst::PadProbeReturn::Handled
        });
        let mut player = Self {
            harness,
            src,
            sink,
            clock: TestClock::default(),
            upstream: Mutex::default(),
            flow,
            begins: setup.begins,
            waits: 0,
            seen: Vec::new(),
            messages: Mutex::default(),
        };
        player.clock.set(100 * gst::ClockTime::SECOND);
        player.set_clock(setup.clock);
        player.element().set_base_time(100 * gst::ClockTime::SECOND);
        player.start(setup.state);
        player
    }

    pub fn element(&self) -> &gst::Element {
        &self.harness.element
    }

    /// All output so far.
    pub fn take_all(&mut self) -> Vec<Seen> {
        self.seen.extend(self.harness.take());
        std::mem::take(&mut self.seen)
    }

    pub fn messages(&self) -> Vec<gst::Message> {
        let mut messages = lock(&self.messages);
        messages.extend(self.harness.messages());
        std::mem::take(&mut messages)
    }

    pub fn act(&mut self, act: &Act) {
        match act {
            Act::Serve(served) => self.serve(*served),
            Act::Do(deed) => self.do_deed(*deed),
            Act::Beside {
                serves,
                does,
                is_blocked,
            } => self.beside(serves, does, *is_blocked),
            Act::Restart { state, from } => {
                let from = match from {
                    State::Null => State::Null,
                    _ => State::Ready,
                };
                self.stop(from);
                self.start(*state);
            }
            Act::Wait => {
                self.waits += 1;
                if self.waits <= MOST_WAITS {
                    std::thread::sleep(TURN);
                }
            }
        }
    }

    fn start(&mut self, state: State) {
        // Deactivating a pad clears its caps and segment, as in a pipeline.
        for pad in [&self.sink, &self.src] {
            pad.set_active(false).expect("the harness's pad can be deactivated");
            pad.set_active(true).expect("the harness's pad can be activated");
        }
        self.harness.forget_position();
        lock(&self.upstream).due = 0;
        let _ = self.element().set_state(gst_state(state));
        if self.begins && matches!(state, State::Playing | State::Paused) {
            self.serve(Served::StreamStart(0));
            self.serve(Served::Caps(crate::acts::Caps::Plain));
            self.serve(Served::Segment(Segment::Plain));
        }
    }

    /// Like a pipeline, stops downstream first, so that it does not block the element.
    pub fn stop(&self, state: State) {
        let _ = self.sink.set_active(false);
        let _ = self.element().set_state(gst_state(state));
    }

    /// Upstream does not send FLUSH_STOP here, so the application's next flush ends what it sends, even if downstream
    /// is blocked.
    fn beside(&self, serves: &[Served], does: &[Deed], is_blocked: bool) {
        let kinds = gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
        let block = match is_blocked {
            true => self.sink.add_probe(kinds, |_, _| gst::PadProbeReturn::Ok),
            false => None,
        };
        std::thread::scope(|scope| {
            let upstream = scope.spawn(|| {
                let serves = serves.iter().filter(|served| !matches!(served, Served::FlushStop(_)));
                for served in serves.take(MOST_BUFFERS) {
                    self.serve(*served);
                }
            });
            for deed in does.iter().take(MOST_BUFFERS) {
                self.do_deed(*deed);
            }
            if let Some(block) = block {
                self.sink.remove_probe(block);
            }
            upstream.join().expect("a panic ends the process");
        });
    }

    pub fn set_clock(&self, clock: Clock) {
        let clock: Option<gst::Clock> = match clock {
            Clock::None => None,
            Clock::Test => Some(self.clock.clone().upcast()),
            Clock::System => Some(gst::SystemClock::obtain()),
        };
        let _ = self.element().set_clock(clock.as_ref());
    }

    /// Evaluates `time` for audio that is due at `due` nanoseconds.
    pub fn time(&self, time: Time, due: u64) -> Option<gst::ClockTime> {
        Some(match time {
            Time::Due => build::time(due),
            Time::Off(ms) => build::time(due.saturating_add_signed(i64::from(ms) * 1_000_000)),
            Time::Milliseconds(ms) => gst::ClockTime::from_mseconds(ms.into()),
            Time::Now => self.element().current_running_time()?,
            Time::None => return None,
            Time::Raw(ns) => build::time(ns),
        })
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        // Take the messages that arrive while the element stops off the bus, because they hold references to it.
        let _ = self.element().set_state(gst::State::Null);
        self.messages();
    }
}
