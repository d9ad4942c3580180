// SPDX-License-Identifier: MIT OR Apache-2.0

//! What packages install beside the command: completions for shells, manual pages.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
};

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use crate::Result;

/// Print the completions for a shell
#[derive(Debug, Args)]
pub struct Completions {
    /// Shell
    shell: Shell,
}

/// Print the manual page, or write one for each command into a directory
#[derive(Debug, Args)]
pub struct Man {
    /// Write nemostt.1, nemostt-check.1, … into this directory
    #[arg(long, value_name = "DIR", value_parser = crate::directory())]
    dir: Option<PathBuf>,
}

impl Completions {
    pub fn run(&self) -> Result<()> {
        let mut text = Vec::new();
        generate(self.shell, &mut crate::Arguments::command(), "nemostt", &mut text);
        Ok(io::stdout().write_all(&text)?)
    }
}

impl Man {
    pub fn run(&self) -> Result<()> {
        let command = crate::Arguments::command();
        match &self.dir {
            None => {
                let mut text = Vec::new();
                clap_mangen::Man::new(command).render(&mut text)?;
                io::stdout().write_all(&text)?;
            }
            Some(directory) => {
                let written = fs::create_dir_all(directory)
                    .and_then(|()| clap_mangen::generate_to(command.disable_help_subcommand(true), directory));
                written.map_err(|error| format!("cannot write to {}: {error}", directory.display()))?;
            }
        }
        Ok(())
    }
}
