// SPDX-License-Identifier: MIT OR Apache-2.0

//! What players do to a pipeline: seek forward and backward, pause and resume, fast-forward, end early. (Reverse
//! playback, which `wavparse` does not support, is in `transcriber.rs`.)
//!
//! These are gst-validate's scenarios, reimplemented: no Debian package contains gst-validate, and `make validate`,
//! which runs the real one, needs much more than a test should. Each runs on a real file, with G_DEBUG=fatal_warnings
//! under `make test`, and there must be no errors or warnings on the bus.

use std::sync::{Arc, Mutex};

use gst::prelude::*;
use nemostt::DecoderKind;

use crate::{
    SECOND,
    common::{Texts, data},
    harness,
};

const TIMEOUT: gst::ClockTime = gst::ClockTime::from_seconds(30);

/// A file played through nemostt, and the words that reached the sink since the last flush.
struct Player {
    pipeline: gst::Pipeline,
    words: Arc<Mutex<Vec<(gst::ClockTime, String)>>>,
}

impl Player {
    /// A player in PAUSED. With `sync` it plays in real time, else as fast as possible.
    fn new(sync: bool) -> Self {
        harness::init();
        let line = format!(
            "filesrc location={} ! wavparse ! audioconvert ! audioresample ! nemostt threads=1 lookahead=80 \
             ! fakesink name=sink sync={sync}",
            data("wav/u5_eight_sentences.wav").display()
        );
        let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
        let words = Arc::new(Mutex::new(Vec::new()));
        let received = words.clone();
        let pad = pipeline.by_name("sink").unwrap().static_pad("sink").unwrap();
        let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_FLUSH;
        pad.add_probe(kinds, move |_, info| {
            let mut received = received.lock().unwrap();
            match &info.data {
                Some(gst::PadProbeData::Buffer(buffer)) => {
                    let text = buffer.map_readable().unwrap();
                    let text = String::from_utf8(text.to_vec()).unwrap();
                    received.push((buffer.pts().unwrap(), text));
                }
                Some(gst::PadProbeData::Event(event)) if event.type_() == gst::EventType::FlushStop => received.clear(),
                _ => {}
            }
            gst::PadProbeReturn::Ok
        });
        let player = Self { pipeline, words };
        player.to(gst::State::Paused);
        player
    }

    fn to(&self, state: gst::State) {
        self.pipeline.set_state(state).unwrap();
        let (result, now, _) = self.pipeline.state(TIMEOUT);
        assert!(result.is_ok() && now == state, "{result:?}, {now:?}");
        self.check();
    }

    fn seek(&self, rate: f64, to: gst::ClockTime) {
        let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE;
        self.pipeline
            .seek(
                rate,
                flags,
                gst::SeekType::Set,
                to,
                gst::SeekType::None,
                gst::ClockTime::NONE,
            )
            .unwrap();
        assert!(self.pipeline.state(TIMEOUT).0.is_ok());
        self.check();
    }

    fn play_for(&self, ms: u64) {
        self.to(gst::State::Playing);
        std::thread::sleep(std::time::Duration::from_millis(ms));
        self.check();
    }

    /// Plays to the end and returns the words since the last flush.
    fn finish(&self) -> Vec<(gst::ClockTime, String)> {
        self.pipeline.set_state(gst::State::Playing).unwrap();
        let bus = self.pipeline.bus().unwrap();
        let end = bus
            .timed_pop_filtered(TIMEOUT, &[gst::MessageType::Eos, gst::MessageType::Error])
            .unwrap();
        assert_eq!(end.type_(), gst::MessageType::Eos, "{end:?}");
        self.words.lock().unwrap().clone()
    }

    fn check(&self) {
        let complaints = [gst::MessageType::Error, gst::MessageType::Warning];
        let complaint = self.pipeline.bus().unwrap().pop_filtered(&complaints);
        assert!(complaint.is_none(), "{complaint:?}");
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// Compares all but the first words with the tail of NeMo's text: recognition restarts at a seek, so the first words
/// may differ.
fn assert_tail_matches_nemo(words: &[(gst::ClockTime, String)], from: gst::ClockTime) {
    assert!(words.iter().all(|(pts, _)| *pts >= from), "{words:?}");
    assert!(words.is_sorted_by_key(|(pts, _)| *pts), "{words:?}");
    let texts = Texts::open();
    let whole: Vec<&str> = texts
        .get("trained", "u5_eight_sentences", 1, DecoderKind::Rnnt)
        .split(' ')
        .collect();
    let found: Vec<&str> = words.iter().map(|(_, text)| text.as_str()).collect();
    let tail = found.len().saturating_sub(4);
    assert!(tail >= 4, "{found:?}");
    assert_eq!(found[4..], whole[whole.len() - tail..]);
}

/// Plays to the end and compares the whole text with NeMo's.
fn assert_matches_nemo(player: &Player) {
    let words: Vec<String> = player.finish().into_iter().map(|(_, text)| text).collect();
    let texts = Texts::open();
    assert_eq!(
        words.join(" "),
        texts.get("trained", "u5_eight_sentences", 1, DecoderKind::Rnnt)
    );
}

#[test]
fn seek_forward_and_backward() {
    let player = Player::new(true);
    for to in [10, 5, 20, 2] {
        player.play_for(50);
        player.seek(1.0, to * SECOND);
    }
    drop(player);

    let player = Player::new(false);
    for to in [20 * SECOND, 4 * SECOND] {
        player.seek(1.0, to);
    }
    assert_tail_matches_nemo(&player.finish(), 4 * SECOND);
    // Also after EOS.
    player.seek(1.0, 8 * SECOND);
    assert_tail_matches_nemo(&player.finish(), 8 * SECOND);
}

#[test]
fn pause_and_resume() {
    let player = Player::new(true);
    for _ in 0..3 {
        player.play_for(100);
        player.to(gst::State::Paused);
    }
    let before = player.words.lock().unwrap().len();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(
        player.words.lock().unwrap().len(),
        before,
        "nothing is pushed while paused"
    );
}

#[test]
fn fast_forward() {
    let player = Player::new(false);
    for rate in [2.0, 8.0] {
        player.seek(rate, gst::ClockTime::ZERO);
        assert_matches_nemo(&player);
    }
}

#[test]
fn change_states() {
    let player = Player::new(false);
    for state in [
        gst::State::Playing,
        gst::State::Paused,
        gst::State::Ready,
        gst::State::Playing,
        gst::State::Null,
        gst::State::Paused,
        gst::State::Ready,
        gst::State::Paused,
    ] {
        player.to(state);
    }
    player.words.lock().unwrap().clear();
    player.seek(1.0, gst::ClockTime::ZERO);
    assert_matches_nemo(&player);
}

#[test]
fn early_eos() {
    let player = Player::new(true);
    player.play_for(300);
    assert!(player.pipeline.send_event(gst::event::Eos::new()));
    player.finish();
}
