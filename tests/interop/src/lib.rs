// SPDX-License-Identifier: MIT OR Apache-2.0

//! Shared by the tests of nemostt with the elements of gst-plugins-rs.

#![allow(clippy::unwrap_used)] // a failed unwrap is how a test fails

mod screen608;

pub use screen608::Screen608;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, Once},
    time::{Duration, Instant},
};

use gst::prelude::*;

const CLIP: &str = "u5_eight_sentences";

/// Registers the elements of gst-plugins-rs, once. nemostt is not linked in, but found like in users' programs.
pub fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        gst::init().unwrap();
        gstrsclosedcaption::plugin_register_static().unwrap();
        gstrstextwrap::plugin_register_static().unwrap();
        let nemostt = gst::ElementFactory::find("nemostt").expect("no nemostt: run tools/interop.sh");
        // This transcriberbin cannot be created without an awstranscriber, even if another one is set afterwards.
        let class = nemostt.load().unwrap().element_type();
        gst::Element::register(None, "awstranscriber", gst::Rank::NONE, class).unwrap();
    });
}

fn data(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../data").join(path)
}

/// Beginning of a gst-launch line: eight sentences in 25 s.
pub fn speech() -> String {
    let path = data(&format!("wav/{CLIP}.wav"));
    format!(
        "filesrc location=\"{}\" ! wavparse ! audioconvert ! audioresample",
        path.display()
    )
}

/// The file of a clip.
pub fn clip(name: &str) -> PathBuf {
    data(&format!("wav/{name}.wav"))
}

/// Writes `path` with `muxer`: a test picture in H.264, with a key frame each second, for the length of the WAV file `clip`, which is
/// encoded as AAC.
pub fn encode(clip: &Path, muxer: &str, path: &Path) {
    gst::init().unwrap();
    // 16-bit mono samples at 16 kHz; ten pictures a second.
    let pictures = (fs::metadata(clip).unwrap().len() / 3_200).max(1);
    let run = Run::new(&format!(
        "{muxer} name=m ! filesink name=out \
         videotestsrc num-buffers={pictures} ! video/x-raw,width=320,height=180,framerate=10/1 ! openh264enc gop-size=10 ! h264parse \
         ! queue ! m. filesrc location=\"{}\" ! wavparse ! audioconvert ! audioresample ! voaacenc ! aacparse ! queue ! m.",
        clip.display()
    ));
    run.element("out").set_property("location", path.to_str().unwrap());
    run.play();
    run.wait(Duration::from_secs(60));
}

/// Its samples.
pub fn samples() -> Vec<i16> {
    let file = fs::read(data(&format!("wav/{CLIP}.wav"))).unwrap();
    // All test clips have a header of 44 bytes.
    file[44..]
        .as_chunks()
        .0
        .iter()
        .map(|pair| i16::from_le_bytes(*pair))
        .collect()
}

/// NeMo's words of the clip at the largest lookahead, which [`STT`] selects.
pub fn transcript() -> Vec<String> {
    let texts: serde_json::Value = serde_json::from_str(&fs::read_to_string(data("texts.json")).unwrap()).unwrap();
    words(texts["trained"][CLIP]["k13"]["rnnt"].as_str().unwrap())
}

/// nemostt with the tests' settings, for a gst-launch line.
pub const STT: &str = "nemostt name=stt lookahead=1040 decoder=rnnt device=cpu threads=1";

pub fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Text of one caption, line by line.
pub type Caption = Vec<String>;

/// The caption in the JSON that `tttojson` writes.
fn caption_of_json(json: &str) -> Caption {
    let json: serde_json::Value = serde_json::from_str(json).unwrap();
    let text_of = |line: &serde_json::Value| -> String {
        let chunks = line["chunks"].as_array().unwrap();
        chunks.iter().map(|chunk| chunk["text"].as_str().unwrap()).collect()
    };
    json["lines"].as_array().unwrap().iter().map(text_of).collect()
}

/// Lines of decoded captions.
///
/// The elements that decode CEA-608 do not support roll-up captions: `cea608tott` ignores them, and `cea608tojson`
/// forgets the channel at each new line, and so drops the text.
#[derive(Debug, Clone, Default)]
pub struct Lines {
    done: Vec<String>,
    line: String,
}

impl Lines {
    fn text(&mut self, text: impl IntoIterator<Item = char>) {
        self.line.extend(text);
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if !line.trim().is_empty() {
            self.done.push(line);
        }
    }

    pub fn lines(&self) -> Vec<String> {
        let mut all = self.clone();
        all.end_line();
        all.done
    }

    pub fn words(&self) -> Vec<String> {
        self.lines().iter().flat_map(|line| words(line)).collect()
    }
}

/// Decodes captions in CEA-608, field 1.
#[derive(Default)]
pub struct Cea608 {
    state: cea608_types::Cea608State,
    pub shown: Lines,
}

impl Cea608 {
    pub fn push(&mut self, pair: [u8; 2]) {
        use cea608_types::Cea608;
        match self.state.decode(pair).unwrap() {
            Some(Cea608::Text(text)) => self.shown.text(text.char1.into_iter().chain(text.char2)),
            Some(Cea608::Backspace(_) | Cea608::DeleteToEndOfRow(_)) => panic!("text is deleted"),
            Some(Cea608::NewMode(..) | Cea608::TabOffset(..) | Cea608::MidRowChange(..)) | None => {}
            // A preamble selects the row where text continues.
            Some(_) => self.shown.end_line(),
        }
    }
}

/// Decodes captions in CEA-708 `cc_data`, service 1, and the CEA-608 in it.
#[derive(Default)]
pub struct Cea708 {
    parser: cea708_types::CCDataParser,
    pub cea608: Cea608,
    pub shown: Lines,
}

impl Cea708 {
    pub fn push(&mut self, cc_data: &[u8]) {
        use cea708_types::tables::Code;
        self.parser.handle_cea608();
        let count = u8::try_from(cc_data.len() / 3).unwrap();
        self.parser.push(&[&[0xc0 | count, 0xff], cc_data].concat()).unwrap();
        for pair in self.parser.cea608().unwrap_or_default() {
            if let cea708_types::Cea608::Field1(a, b) = *pair {
                self.cea608.push([a, b]);
            }
        }
        while let Some(packet) = self.parser.pop_packet() {
            let services = packet.services().iter().filter(|service| service.number() == 1);
            for code in services.flat_map(|service| service.codes()) {
                match code {
                    Code::CR | Code::SetPenLocation(_) => self.shown.end_line(),
                    code => self.shown.text(code.char()),
                }
            }
        }
    }
}

/// A caption and when to show it.
#[derive(Debug, Clone)]
pub struct Shown {
    pub pts: gst::ClockTime,
    pub caption: Caption,
}

/// Captions in text or JSON.
#[derive(Debug, Clone, Default)]
pub struct Captions(pub Vec<Shown>);

impl Captions {
    pub fn words(&self) -> Vec<String> {
        self.0
            .iter()
            .flat_map(|shown| &shown.caption)
            .flat_map(|line| words(line))
            .collect()
    }
}

/// Output of nemostt.
#[derive(Debug, Default)]
pub struct Emitted {
    pub words: Vec<String>,
    /// Number of words before each `rstranscribe/final-transcript`.
    pub utterance_ends: Vec<usize>,
}

/// A pipeline.
pub struct Run {
    pub pipeline: gst::Pipeline,
}

impl Run {
    pub fn new(line: &str) -> Self {
        init();
        let pipeline = gst::parse::launch(line).unwrap().downcast().unwrap();
        Self { pipeline }
    }

    pub fn element(&self, name: &str) -> gst::Element {
        self.pipeline.by_name(name).unwrap()
    }

    /// Calls `take` with each sample that reaches the appsink `name`.
    pub fn each_sample(&self, name: &str, mut take: impl FnMut(&gst::Sample) + Send + 'static) {
        let sink: gst_app::AppSink = self.element(name).downcast().unwrap();
        let new_sample = move |sink: &gst_app::AppSink| {
            take(&sink.pull_sample().map_err(|_| gst::FlowError::Eos)?);
            Ok(gst::FlowSuccess::Ok)
        };
        sink.set_callbacks(gst_app::AppSinkCallbacks::builder().new_sample(new_sample).build());
    }

    /// Collects the captions that reach the appsink `name` as text or JSON.
    pub fn captions(&self, name: &str) -> Arc<Mutex<Captions>> {
        let captions = Arc::new(Mutex::new(Captions::default()));
        let collected = captions.clone();
        self.each_sample(name, move |sample| {
            let buffer = sample.buffer().unwrap();
            let text = String::from_utf8(buffer.map_readable().unwrap().to_vec()).unwrap();
            let caption = match sample.caps().unwrap().structure(0).unwrap().name().as_str() {
                "application/x-json" => caption_of_json(&text),
                _ => text.lines().map(str::to_owned).collect(),
            };
            let pts = buffer.pts().unwrap();
            collected.lock().unwrap().0.push(Shown { pts, caption });
        });
        captions
    }

    /// Collects the output of nemostt.
    pub fn emitted(&self) -> Arc<Mutex<Emitted>> {
        let emitted = Arc::new(Mutex::new(Emitted::default()));
        let collected = emitted.clone();
        let mask = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
        let src = self.element("stt").static_pad("src").unwrap();
        src.add_probe(mask, move |_, info| {
            let mut emitted = collected.lock().unwrap();
            if let Some(buffer) = info.buffer() {
                let text = buffer.map_readable().unwrap();
                emitted.words.push(str::from_utf8(&text).unwrap().to_owned());
            }
            let structure = info.event().and_then(|event| event.structure());
            if structure.is_some_and(|structure| structure.name() == "rstranscribe/final-transcript") {
                let words = emitted.words.len();
                emitted.utterance_ends.push(words);
            }
            gst::PadProbeReturn::Ok
        });
        emitted
    }

    pub fn play(&self) {
        self.pipeline.set_state(gst::State::Playing).unwrap();
    }

    pub fn stop(&self) {
        self.pipeline.set_state(gst::State::Null).unwrap();
    }

    /// Waits until `done`; an error, a warning or EOS before that fails the test.
    pub fn wait_until(&self, timeout: Duration, mut done: impl FnMut() -> bool) {
        let start = Instant::now();
        while !done() {
            assert!(!self.is_over(start, timeout), "the stream ended first");
        }
    }

    /// Waits for EOS; an error or a warning fails the test.
    pub fn wait(&self, timeout: Duration) {
        let start = Instant::now();
        while !self.is_over(start, timeout) {}
    }

    /// Handles the next message, if there is one soon. Returns whether it was EOS.
    fn is_over(&self, start: Instant, timeout: Duration) -> bool {
        assert!(start.elapsed() < timeout, "not done after {timeout:?}");
        let Some(message) = self.pipeline.bus().unwrap().timed_pop(50 * gst::ClockTime::MSECOND) else {
            return false;
        };
        match message.type_() {
            gst::MessageType::Error | gst::MessageType::Warning => panic!("{message:?}"),
            gst::MessageType::Latency => self.pipeline.recalculate_latency().unwrap(),
            _ => {}
        }
        message.type_() == gst::MessageType::Eos
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // An element that panicked may never reach NULL.
            std::mem::forget(self.pipeline.clone());
            return;
        }
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// Asserts that every utterance ends at the end of a line. `utterance_ends`: number of words before each end.
pub fn assert_lines_end_with_utterances(lines: &[String], utterance_ends: &[usize]) {
    let mut words = 0;
    let mut line_ends = Vec::new();
    for line in lines {
        words += line.split_whitespace().count();
        line_ends.push(words);
    }
    assert!(
        utterance_ends.len() >= 6,
        "eight sentences with pauses between them ended at words {utterance_ends:?}"
    );
    for end in utterance_ends {
        assert!(
            line_ends.contains(end),
            "an utterance ended at word {end}, the lines at {line_ends:?}"
        );
    }
}
