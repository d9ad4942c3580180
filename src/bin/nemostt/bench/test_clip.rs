// SPDX-License-Identifier: MIT OR Apache-2.0

//! The speech to measure with.

use std::path::Path;

use crate::{
    Result,
    audio::{Input, Location, TrackSelection},
};

/// 25 s of speech at 16 kHz.
const CLIP: &[u8] = include_bytes!("../../../../assets/demo.wav");
/// More than this, in seconds, says nothing new.
const MAX_SECONDS: usize = 60;

/// The samples of `file`, or else of the clip that is compiled in.
pub fn read(file: Option<&Path>, rate: u32) -> Result<Vec<f32>> {
    let Some(file) = file else {
        return compiled_in(rate);
    };
    let place = Location::of(file);
    place.check()?;
    let mut input = Input::open(&place, rate, &TrackSelection::default())?;
    let (mut all, mut block) = (Vec::new(), Vec::new());
    while all.len() < MAX_SECONDS * rate as usize {
        input.read(&mut block)?;
        if block.is_empty() {
            break;
        }
        all.append(&mut block);
    }
    // The longest chunk and its window are 1.1 s; a few of them are needed to tell anything.
    match all.len() / rate as usize {
        0..4 => Err(format!("{place} is too short: 4 s of speech are needed").into()),
        _ => Ok(all),
    }
}

fn compiled_in(rate: u32) -> Result<Vec<f32>> {
    let reader = hound::WavReader::new(CLIP)?;
    let found = reader.spec().sample_rate;
    if found != rate {
        return Err(format!(
            "the model hears {rate} samples per second, and the built-in clip has {found}: name one with --file"
        )
        .into());
    }
    let samples = reader.into_samples::<i16>();
    samples.map(|sample| Ok(f32::from(sample?) / 32_768.0)).collect()
}
