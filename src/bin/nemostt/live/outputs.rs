// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where captions go: the terminal, a file, and browsers.

use std::{
    io::{self, Stdout, Write},
    time::Duration,
};

#[cfg(feature = "serve")]
use super::serve::{Server, Status};
use super::{
    args::Live,
    caption::Caption,
    record::{Format, Recorder},
    source::Source,
    terminal::Terminal,
};
use crate::Result;

/// All outputs of a session.
pub struct Outputs {
    terminal: Terminal<Stdout>,
    recorder: Option<Recorder>,
    #[cfg(feature = "serve")]
    server: Option<Server>,
    is_lost: bool,
}

impl Outputs {
    /// Opens the outputs that the command line names, for captions of `source`.
    ///
    /// # Errors
    /// One line that names the option.
    pub fn open(arguments: &Live, source: &Source) -> Result<Self> {
        let rules = arguments.cues.rules()?;
        let recorder = match &arguments.record {
            None => None,
            Some(path) => {
                let format = Format::of(path).map_err(|expected| format!("--record {}: {expected}", path.display()))?;
                Some(Recorder::open(path, format, rules)?)
            }
        };
        #[cfg(feature = "serve")]
        let server = Server::start(&arguments.serve, source.title().as_deref(), rules)?;
        #[cfg(feature = "serve")]
        let serves = server.is_some();
        #[cfg(not(feature = "serve"))]
        let (serves, _) = (false, source);
        if arguments.cues.is_given() && recorder.is_none() && !serves {
            return Err(
                "the options --cue-… apply to recordings and WebVTT of the server: add --record or --serve".into(),
            );
        }
        #[cfg(feature = "serve")]
        if let Some(server) = &server {
            for url in server.urls() {
                print(&format!("captions at {url}"));
            }
        }
        Ok(Self {
            terminal: Terminal::standard_output(),
            recorder,
            #[cfg(feature = "serve")]
            server,
            is_lost: false,
        })
    }

    /// Takes a caption.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub fn caption(&mut self, caption: &Caption) -> Result<()> {
        self.terminal.caption(caption)?;
        #[cfg(feature = "serve")]
        if let Some(server) = &self.server {
            server.caption(caption);
        }
        let recorder = self.recorder.as_mut().filter(|_| caption.is_final);
        match recorder.and_then(|recorder| recorder.caption(caption)) {
            Some(notice) => self.notice(&notice),
            None => Ok(()),
        }
    }

    /// There is audio, for the first time or again.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub fn listening(&mut self) -> Result<()> {
        #[cfg(feature = "serve")]
        if let Some(server) = &self.server {
            server.status(Status::Listening, "");
        }
        match std::mem::take(&mut self.is_lost) {
            true => self.notice("connected again"),
            false => Ok(()),
        }
    }

    /// The connection was lost, and will be opened again after `wait`.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub fn reconnecting(&mut self, reason: &str, wait: Duration) -> Result<()> {
        self.is_lost = true;
        let plan = format!("Connecting again in {:.1} s", wait.as_secs_f64());
        // Viewers are not told the reason, which has the address of the source.
        #[cfg(feature = "serve")]
        if let Some(server) = &self.server {
            server.status(Status::Reconnecting, &plan);
        }
        self.notice(&format!("{reason}. {plan}"))
    }

    /// Prints a line on standard error.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub fn notice(&mut self, notice: &str) -> Result<()> {
        self.terminal.clear()?;
        print(notice);
        Ok(())
    }

    /// Ends all of them.
    pub fn close(&mut self) -> io::Result<()> {
        self.recorder = None;
        #[cfg(feature = "serve")]
        {
            self.server = None;
        }
        self.terminal.clear()
    }
}

/// Prints a line on standard error. Unlike `eprintln!`, it does not panic if that is closed.
fn print(notice: &str) {
    let _ = writeln!(io::stderr(), "nemostt: {}", crate::one_line(notice));
}
