// SPDX-License-Identifier: MIT OR Apache-2.0

//! Runs a day of audio through the element at full speed and checks that memory does not grow, times stay exact and
//! words stay the same.
//!
//! A clip and silence are repeated over and over in timestamped buffers of 20 ms. The length of a round is a multiple
//! of the encoder's window, so every round is cut into the same windows as the first and must produce the same words,
//! later by exactly the length of the preceding rounds. At 16 kHz a sample lasts 62 500 ns, so no time is ever rounded,
//! and the tolerance is 0 ns.

mod arguments;
mod memory;
mod output;

use std::{error::Error, process::ExitCode, sync::Arc, time::Instant};

use arguments::Arguments;
use gst::prelude::*;
use memory::Memory;
use output::Output;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

const RATE: usize = 16_000;
/// Samples per buffer: 20 ms.
const BLOCK: usize = 320;
/// Samples and milliseconds per encoder frame.
const FRAME: usize = 1_280;
const FRAME_MS: usize = 80;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let Some(arguments) = Arguments::parse()? else {
        return Ok(());
    };
    gst::init()?;
    gstnemostt::plugin_register_static()?;
    let round = round(&arguments)?;
    let length = time_of(round.len());
    let rounds = (gst::ClockTime::SECOND * 3_600 * arguments.hours)
        .nseconds()
        .div_ceil(length.nseconds());
    println!(
        "{rounds} rounds of {} s, lookahead {} ms",
        length.nseconds() as f64 / 1e9,
        arguments.lookahead
    );

    let mut element = gst::ElementFactory::make("nemostt").property("lookahead", i32::try_from(arguments.lookahead)?);
    if let Some(model) = &arguments.model {
        element = element.property("model-path", model);
    }
    let element = element.build()?;
    let output = Arc::new(Output::new(length));
    let (source, _sink) = link(&element, &output)?;
    element.set_state(gst::State::Playing)?;
    let caps = gst::Caps::builder("audio/x-raw")
        .field("format", "S16LE")
        .field("rate", RATE as i32)
        .field("channels", 1)
        .field("layout", "interleaved")
        .build();
    source.push_event(gst::event::StreamStart::new("long-run"));
    source.push_event(gst::event::Caps::new(&caps));
    source.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));

    let mut memory = Memory::new(arguments.growth);
    let since = Instant::now();
    let mut hours = 0;
    for number in 0..rounds {
        play(&source, &round, number as usize * round.len())?;
        output.check()?;
        let played = length * (number + 1);
        if played >= gst::ClockTime::SECOND * 3_600 * (hours + 1) {
            hours += 1;
            let speed = played.nseconds() as f64 / since.elapsed().as_nanos() as f64;
            println!(
                "hour {hours}: {}; {} words; {speed:.0} times real time",
                memory.measure()?,
                output.words()
            );
        }
    }
    source.push_event(gst::event::Eos::new());
    element.set_state(gst::State::Null)?;
    output.finish(length * rounds)?;
    memory.check()?;
    println!(
        "{} words, all rounds the same with exactly the same times; memory {}",
        output.words(),
        memory.measure()?
    );
    Ok(())
}

/// Samples of a round: the clip and silence, padded to whole windows.
fn round(arguments: &Arguments) -> Result<Vec<i16>> {
    let reader = hound::WavReader::open(&arguments.clip)?;
    let spec = reader.spec();
    if (spec.channels, spec.bits_per_sample, spec.sample_rate as usize) != (1, 16, RATE) {
        return Err(format!("{} must be 16-bit mono at {RATE} samples per second", arguments.clip).into());
    }
    let mut samples = reader
        .into_samples()
        .collect::<std::result::Result<Vec<i16>, hound::Error>>()?;
    let window = (arguments.lookahead as usize / FRAME_MS + 1) * FRAME;
    let length = (samples.len() + arguments.silence as usize * RATE).next_multiple_of(window);
    samples.resize(length, 0);
    Ok(samples)
}

/// Pushes `round` in buffers, the first of which starts at sample `start` of the stream.
fn play(source: &gst::Pad, round: &[i16], start: usize) -> Result<()> {
    let mut from = start;
    for block in round.chunks(BLOCK) {
        let bytes: Vec<u8> = block.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let mut buffer = gst::Buffer::from_slice(bytes);
        let writable = buffer.make_mut();
        writable.set_pts(time_of(from));
        writable.set_duration(time_of(block.len()));
        source.push(buffer)?;
        from += block.len();
    }
    Ok(())
}

fn time_of(samples: usize) -> gst::ClockTime {
    gst::ClockTime::from_nseconds(nemostt::sample_time::samples_to_ns(samples as u64, RATE as u32))
}

/// Links `element` between a source pad to push to and a sink pad whose data goes to `output`.
fn link(element: &gst::Element, output: &Arc<Output>) -> Result<(gst::Pad, gst::Pad)> {
    let bus = gst::Bus::new();
    let (messages, buffers, events) = (output.clone(), output.clone(), output.clone());
    bus.set_sync_handler(move |_, message| {
        messages.message(message);
        gst::BusSyncReply::Drop
    });
    element.set_bus(Some(&bus));
    let source = gst::Pad::new(gst::PadDirection::Src);
    let sink = gst::Pad::builder(gst::PadDirection::Sink)
        .chain_function(move |_, _, buffer| {
            buffers.text(&buffer);
            Ok(gst::FlowSuccess::Ok)
        })
        .event_function(move |pad, parent, event| {
            events.event(&event);
            gst::Pad::event_default(pad, parent, event)
        })
        .build();
    let pad = |name| element.static_pad(name).ok_or("no such pad");
    source.link(&pad("sink")?)?;
    pad("src")?.link(&sink)?;
    source.set_active(true)?;
    sink.set_active(true)?;
    Ok((source, sink))
}
