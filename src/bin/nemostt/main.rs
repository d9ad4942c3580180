// SPDX-License-Identifier: MIT OR Apache-2.0

//! The `nemostt` command. One module per subcommand.

#![forbid(unsafe_code)]

mod audio;
mod bench;
mod check;
mod completions;
mod cues;
mod decoding_args;
mod hub;
mod interrupt;
mod live;
mod metrics_file;
mod model_args;
mod output_file;
#[cfg(feature = "triton")]
mod remote_args;
mod speech_args;
mod text_args;
mod track_args;
mod transcribe;
mod triton_repository;

use std::{io, path::PathBuf, process::ExitCode};

use clap::{
    Parser, Subcommand,
    builder::{PathBufValueParser, TypedValueParser},
};

/// Every error ends as one line of text.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Streaming speech to text with NVIDIA NeMo's cache-aware models, on your own machine
///
/// The GStreamer element of the same name does this in a pipeline: gst-inspect-1.0 nemostt.
#[derive(Debug, Parser)]
#[command(name = "nemostt", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Transcribe(Box<transcribe::Transcribe>),
    Live(Box<live::Live>),
    Check(check::Check),
    Bench(bench::Bench),
    Completions(completions::Completions),
    Fetch(hub::Fetch),
    Man(completions::Man),
    Models(hub::Models),
    TritonRepository(triton_repository::TritonRepository),
}

fn main() -> ExitCode {
    let result = match &Arguments::parse().command {
        Command::Transcribe(arguments) => arguments.run(),
        Command::Live(arguments) => arguments.run(),
        Command::Check(arguments) => arguments.run(),
        Command::Bench(arguments) => arguments.run(),
        Command::Completions(arguments) => arguments.run(),
        Command::Fetch(arguments) => arguments.run(),
        Command::Man(arguments) => arguments.run(),
        Command::Models(arguments) => arguments.run(),
        Command::TritonRepository(arguments) => arguments.run(),
    };
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    let pipe = error.downcast_ref::<io::Error>().map(io::Error::kind);
    if pipe == Some(io::ErrorKind::BrokenPipe) {
        // `nemostt … | head`: not an error.
        return ExitCode::SUCCESS;
    }
    eprintln!("nemostt: {}", one_line(&error.to_string()));
    ExitCode::FAILURE
}

/// Parses an option that names a directory. `-` means standard output in options that name a file; without this check, a
/// directory named `-` would be made.
fn directory() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| match path.as_os_str() == "-" {
        true => Err("expected a directory, not standard output; use ./- for a directory of this name"),
        false => Ok(path),
    })
}

/// Parses an option that names a file besides the output.
fn file() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| match path.as_os_str() == "-" {
        true => Err("expected a file, not standard output; use ./- for a file of this name"),
        false => Ok(path),
    })
}

fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.join(" ")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_valid() {
        super::Arguments::command().debug_assert();
    }
}
