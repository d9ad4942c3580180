// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the element tells an operator: messages `nemostt-metrics` and the property `metrics`.

use std::collections::BTreeMap;

use gst::prelude::*;

use crate::{
    SECOND,
    common::{clip_s16, data},
    harness::{self, Harness, time_of},
    nemo_text,
};

const CLIP: &str = "u2_digits";
const NAME: &str = "nemostt-metrics";

fn metrics(harness: &Harness) -> gst::Structure {
    harness.element.property("metrics")
}

/// Messages since the last call.
fn messages(harness: &Harness) -> Vec<gst::Structure> {
    let all = harness.word_messages().into_iter();
    all.filter(|structure| structure.name() == NAME).collect()
}

fn number(structure: &gst::Structure, field: &str) -> u64 {
    structure.get(field).unwrap_or_else(|error| panic!("{field}: {error}"))
}

fn small(structure: &gst::Structure, field: &str) -> u32 {
    structure.get(field).unwrap_or_else(|error| panic!("{field}: {error}"))
}

/// All fields and their types, as docs/metrics.md has them.
fn documented() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md")).unwrap();
    let section = text
        .split("\n## ")
        .find(|section| section.starts_with("Fields"))
        .unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let mut fields = Vec::new();
    for row in rows {
        let (names, rest) = row.split_once(" | ").unwrap();
        let kind = rest.split([' ', ',']).next().unwrap();
        let names = names.split('`').filter(|name| !name.is_empty() && *name != ", ");
        fields.extend(names.map(|name| (name.to_owned(), kind.to_owned())));
    }
    fields.sort();
    fields
}

fn fields(structure: &gst::Structure) -> Vec<(String, String)> {
    let kind = |value: &gst::glib::SendValue| match value.type_() {
        gst::glib::Type::U32 => "uint",
        gst::glib::Type::U64 => "uint64",
        gst::glib::Type::F64 => "double",
        gst::glib::Type::STRING => "string",
        other => panic!("{other}"),
    };
    let mut fields: Vec<_> = structure
        .iter()
        .map(|(name, value)| (name.to_string(), kind(value).to_owned()))
        .collect();
    fields.sort();
    fields
}

#[test]
fn fields_are_documented() {
    let harness = Harness::play("lookahead=80 metrics-interval=3600000");
    harness.speak(&[0; 160], 160); // waits for the model
    harness.eos();
    let posted = messages(&harness);
    assert_eq!(fields(&posted[0]), documented());
    assert_eq!(fields(&metrics(&harness)), documented());
}

#[test]
fn metrics_count_what_was_done() {
    // A model of its own: other tests run at the same time.
    let harness = Harness::new("lookahead=80 max-symbols=801 metrics-interval=3600000");
    let before = metrics(&harness);
    assert_eq!((before.name().as_str(), number(&before, "words")), (NAME, 0));
    assert!(!before.has_field("model"), "there is none yet: {before}");
    harness.start();
    let samples = clip_s16(CLIP);
    harness.speak(&samples, 1_600);
    assert_eq!(messages(&harness).len(), 0, "none is due yet");
    harness.eos();

    let posted = messages(&harness);
    assert_eq!(posted.len(), 1, "one at the end");
    let text = nemo_text(CLIP, 1);
    let words = text.split(' ').count() as u64;
    // Chunks of 160 ms; the last one is incomplete, and one more ends with the last analysis window.
    let chunks = samples.len() as u64 / 2_560;
    for structure in [&posted[0], &metrics(&harness)] {
        assert_eq!(number(structure, "words"), words, "{structure}");
        assert_eq!(number(structure, "audio-time"), time_of(samples.len()).nseconds());
        let steps = number(structure, "steps");
        assert!((chunks..=chunks + 2).contains(&steps), "{structure}");
        assert!(number(structure, "utterances") >= 1, "{structure}");
        for none in ["late-texts", "overloads", "skipped-time", "delay", "max-observed-delay"] {
            assert_eq!(number(structure, none), 0, "{none} of a file: {structure}");
        }
        // With that of the warm-up.
        assert_eq!(
            (number(structure, "jobs"), number(structure, "batches")),
            (steps + 1, steps + 1)
        );
        assert_eq!(structure.get::<f64>("mean-batch-size"), Ok(1.0));
        assert_eq!(
            (small(structure, "max-batch-size"), small(structure, "streams")),
            (1, 1)
        );
        assert_eq!((small(structure, "lookahead"), small(structure, "pending")), (80, 0));
        assert_eq!(structure.get::<&str>("model"), Ok("embedded"));
        assert_eq!(structure.get::<&str>("device"), Ok("cpu"));
        let times = ["p50", "p99", "max"].map(|statistic| number(structure, &format!("step-time-{statistic}")));
        assert!(times[0] > 0 && times.is_sorted(), "{structure}");
    }

    // What the model has done stays, and what the element has done is that since the start.
    harness.element.set_state(gst::State::Null).unwrap();
    let after = metrics(&harness);
    assert_eq!((number(&after, "words"), number(&after, "audio-time")), (0, 0));
    assert_eq!((small(&after, "streams"), number(&after, "streams-started")), (0, 1));
    assert!(number(&after, "jobs") > chunks);
}

#[test]
fn messages_come_at_intervals_and_only_on_request() {
    let harness = Harness::play("lookahead=80 max-symbols=802 metrics-interval=1");
    let samples = clip_s16(CLIP);
    harness.speak(&samples, 1_600);
    harness.flush();
    harness.speak(&samples, 1_600);
    harness.eos();
    let posted = messages(&harness);
    // To encode seconds of audio takes more than two milliseconds on any machine.
    assert!(posted.len() > 2, "{posted:?}");
    // Times are those of the interval: of messages with the same number of jobs, the first one has the steps up to then.
    let mut with_steps = BTreeMap::<u64, u32>::new();
    for structure in posted.iter().filter(|structure| structure.has_field("jobs")) {
        *with_steps.entry(number(structure, "jobs")).or_default() += u32::from(number(structure, "step-time-max") > 0);
    }
    assert!(
        with_steps.len() > 1 && with_steps.values().all(|&count| count == 1),
        "{posted:?}"
    );
    // A flush takes nothing back. (Of the two threads that post, one may be overtaken by the other.)
    let audio = posted.iter().map(|structure| number(structure, "audio-time")).max();
    assert_eq!(audio, Some(2 * time_of(samples.len()).nseconds()));

    // From now on, none.
    harness.element.set_property("metrics-interval", 0_u32);
    harness.begin();
    harness.speak(&samples, 1_600);
    harness.eos();
    assert_eq!(messages(&harness).len(), 0);
    assert!(number(&metrics(&harness), "words") > 0);
}

/// The message is posted by the clock's thread, too, so a source that sends nothing does not keep it from coming.
#[test]
fn messages_come_while_the_source_is_silent() {
    harness::init();
    let harness = Harness::play("lookahead=80 metrics-interval=1");
    let mut found = Vec::new();
    let start = std::time::Instant::now();
    while found.len() < 2 {
        assert!(start.elapsed().as_secs() < 30, "no message comes");
        found.extend(messages(&harness));
        std::thread::yield_now();
    }
    assert_eq!(number(&found[1], "steps"), 0);
}

#[test]
fn applications_get_messages_of_a_pipeline() {
    harness::init();
    let line = format!(
        "filesrc location={} ! wavparse ! audioconvert ! audioresample ! nemostt name=stt threads=1 metrics-interval=1 ! fakesink",
        data(&format!("wav/{CLIP}.wav")).display()
    );
    let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
    let element = pipeline.by_name("stt").unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    let mut words = Vec::new();
    loop {
        let message = bus.timed_pop(30 * SECOND).expect("the pipeline does not end");
        match message.view() {
            gst::MessageView::Eos(_) => break,
            gst::MessageView::Element(posted)
                if posted.structure().is_some_and(|structure| structure.name() == NAME) =>
            {
                assert_eq!(message.src(), Some(element.upcast_ref()));
                // Reading the property from a handler must not wait for the element.
                let now: gst::Structure = element.property("metrics");
                words.push(number(&posted.structure().unwrap().to_owned(), "words"));
                assert!(number(&now, "words") >= words[words.len() - 1]);
            }
            gst::MessageView::Error(error) => panic!("{error:?}"),
            _ => {}
        }
    }
    // The pipeline posts EOS when the sink has it, after the last message of the streaming thread.
    let expected = nemo_text(CLIP, 13).split(' ').count() as u64;
    assert_eq!(words.into_iter().max(), Some(expected));
    pipeline.set_state(gst::State::Null).unwrap();
}
