// SPDX-License-Identifier: MIT OR Apache-2.0

//! The models of the target, loaded on first use.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex},
};

use arbitrary::Arbitrary;
use nemostt::{Cache, CacheDirectory, DecoderKind, Device, GraphOptimization, Options, Recognizer};

use crate::sound::data;

/// All have random weights, which emit tokens in every chunk, so that any mistake shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Arbitrary)]
pub enum Model {
    Ctc,
    Rnnt,
    /// Supports several languages.
    Multilingual,
    /// Emits end-of-turn tokens.
    Turns,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Arbitrary)]
pub enum Lookahead {
    Zero,
    One,
    Six,
    Thirteen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Arbitrary)]
pub struct Choice {
    model: Model,
    lookahead: Lookahead,
    is_planned: bool,
}

pub fn get(choice: Choice) -> Recognizer {
    static LOADED: LazyLock<Mutex<HashMap<Choice, Recognizer>>> = LazyLock::new(Mutex::default);
    let mut loaded = LOADED.lock().expect("a panic ends the process");
    loaded.entry(choice).or_insert_with(|| load(choice)).clone()
}

fn load(choice: Choice) -> Recognizer {
    let (path, decoder) = match choice.model {
        Model::Ctc => ("tiny_random", DecoderKind::Ctc),
        Model::Rnnt => ("tiny_random", DecoderKind::Rnnt),
        Model::Multilingual => ("kinds/nemotron_multi", DecoderKind::Rnnt),
        Model::Turns => ("kinds/eou", DecoderKind::Rnnt),
    };
    let frames = match choice.lookahead {
        Lookahead::Zero => 0,
        Lookahead::One => 1,
        Lookahead::Six => 6,
        Lookahead::Thirteen => 13,
    };
    let options = |lookahead| Options {
        lookahead,
        decoder,
        device: Device::Cpu,
        threads: 1,
        graph_optimization: match choice.is_planned {
            true => GraphOptimization::All,
            false => GraphOptimization::None,
        },
        cache: Cache {
            directory: CacheDirectory::Off,
            ..Default::default()
        },
        ..Default::default()
    };
    // Not every model supports every lookahead.
    Recognizer::load(data(path), &options(Some(frames * 80)))
        .or_else(|_| Recognizer::load(data(path), &options(None)))
        .expect("a model of the test data")
}

/// Language codes that the multilingual model supports, and one that it does not.
pub fn language(number: u8) -> &'static str {
    ["en-US", "de-DE", "auto", "tlh"][usize::from(number) % 4]
}
