// SPDX-License-Identifier: MIT OR Apache-2.0

//! The recognizer without GStreamer: prints the words of a 16 kHz mono WAV file, each as soon as it is final.
//!
//! ```sh
//! cargo run --release --locked -p nemostt-examples --bin transcribe -- assets/demo.wav
//! cargo run --release --locked -p nemostt-examples --bin transcribe -- speech.wav model-directory
//! ```
//!
//! For other formats, subtitles and many files, use the command `nemostt transcribe`.

use std::{env, error::Error};

use nemostt::{Event, Options, Recognizer, Stream};

/// Samples per call: 100 ms.
const BLOCK: usize = 1600;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let file = arguments.next().ok_or("usage: transcribe FILE.wav [MODEL-DIRECTORY]")?;
    let recognizer = load(arguments.next())?;

    let reader = hound::WavReader::open(&file).map_err(|error| format!("cannot read {file}: {error}"))?;
    let (spec, rate) = (reader.spec(), recognizer.config().front_end.sample_rate);
    if (spec.channels, spec.bits_per_sample, spec.sample_rate) != (1, 16, rate) {
        return Err(format!("{file} must be 16-bit mono at {rate} samples per second").into());
    }
    let samples = reader.into_samples::<i16>().collect::<Result<Vec<_>, _>>()?;

    let mut stream = recognizer.stream()?;
    for block in samples.chunks(BLOCK) {
        stream.accept_s16(block.iter().copied())?;
        print_words(&mut stream);
    }
    stream.finish(0)?;
    print_words(&mut stream);
    Ok(())
}

#[cfg(feature = "embedded-model")]
fn load(model: Option<String>) -> nemostt::Result<Recognizer> {
    match model {
        Some(directory) => Recognizer::load(directory, &Options::default()),
        None => Recognizer::embedded(&Options::default()),
    }
}

#[cfg(not(feature = "embedded-model"))]
fn load(model: Option<String>) -> Result<Recognizer, Box<dyn Error>> {
    let directory = model.ok_or("there is no built-in model: name a model directory")?;
    Ok(Recognizer::load(directory, &Options::default())?)
}

fn print_words(stream: &mut Stream) {
    while let Some(event) = stream.next_event() {
        if let Event::Word(word) = event {
            // Times are samples since the start.
            println!("{:>8} {:>8} {:.2} {}", word.start, word.end, word.confidence, word.text);
        }
    }
}
