// SPDX-License-Identifier: MIT OR Apache-2.0

//! The speech to measure with.

use std::path::Path;

use crate::{
    Result,
    audio::{Input, Location, TrackSelection},
};

/// 25 s of speech at 16 kHz.
const CLIP: &[u8] = include_bytes!("../../../../assets/demo.wav");
/// Seconds used at most: more would not change the results.
const MAX_SECONDS: usize = 60;

/// The samples of `file`, or of the built-in clip.
pub fn read(file: Option<&Path>, rate: u32) -> Result<Vec<f32>> {
    let Some(file) = file else {
        return built_in(rate);
    };
    let location = Location::of(file);
    location.check()?;
    let mut input = Input::open(&location, rate, &TrackSelection::default())?;
    let (mut all, mut block) = (Vec::new(), Vec::new());
    while all.len() < MAX_SECONDS * rate as usize {
        input.read(&mut block)?;
        if block.is_empty() {
            break;
        }
        all.append(&mut block);
    }
    // The longest chunk is 1.1 s, and a few of them are needed.
    match all.len() / rate as usize {
        0..4 => Err(format!("{location} is too short: at least 4 s of speech are needed").into()),
        _ => Ok(all),
    }
}

fn built_in(rate: u32) -> Result<Vec<f32>> {
    let reader = hound::WavReader::new(CLIP)?;
    let found = reader.spec().sample_rate;
    if found != rate {
        return Err(format!(
            "the model expects {rate} Hz, and the built-in clip has {found} Hz: name a file with --file"
        )
        .into());
    }
    let samples = reader.into_samples::<i16>();
    samples.map(|sample| Ok(f32::from(sample?) / 32_768.0)).collect()
}
