// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where captions go: the terminal, a file, and browsers.

use std::{
    io::{self, Write},
    time::Duration,
};

#[cfg(feature = "serve")]
use super::serve::{Server, Status};
use super::{
    args::Live,
    caption::Caption,
    hls,
    printer::Printer,
    record::{BackgroundRecorder, Format, Recorder},
    source::Source,
    terminal::Terminal,
};
use crate::{Result, interrupt};

/// All outputs of a session. None of them makes the main thread wait.
pub struct Outputs {
    printer: Printer,
    recorder: Option<BackgroundRecorder>,
    #[cfg(feature = "serve")]
    server: Option<Server>,
    hls: Option<hls::Publisher>,
    /// Writing failed, and was reported.
    is_hls_failing: bool,
    /// Captions also go to a file, to HLS or to browsers.
    has_others: bool,
    is_lost: bool,
}

impl Outputs {
    /// Opens the outputs that the command line names, for captions of `source`.
    ///
    /// # Errors
    /// One line that names the option.
    pub fn open(arguments: &Live, source: &Source) -> Result<Self> {
        let rules = arguments.cues.rules()?;
        let printer = Printer::start(Terminal::standard_output(), print);
        let printer = printer.map_err(|error| format!("cannot start a thread: {error}"))?;
        let recorder = match &arguments.record {
            None => None,
            Some(path) => {
                let format = Format::of(path).map_err(|expected| format!("--record {}: {expected}", path.display()))?;
                let (recorder, notice) = Recorder::open(path, format, rules)?;
                if let Some(notice) = notice {
                    printer.notice(&notice);
                }
                let recorder = BackgroundRecorder::start(recorder, printer.clone());
                Some(recorder.map_err(|error| format!("cannot start a thread: {error}"))?)
            }
        };
        let hls = hls::open(arguments)?;
        #[cfg(feature = "serve")]
        let server = Server::start(&arguments.serve, source.title().as_deref(), rules)?;
        #[cfg(feature = "serve")]
        let serves = server.is_some();
        #[cfg(not(feature = "serve"))]
        let (serves, _) = (false, source);
        let has_others = recorder.is_some() || hls.is_some() || serves;
        if arguments.cues.is_given() && !has_others {
            return Err(
                "the options --cue-… apply to recordings, HLS and WebVTT of the server: add --record, --hls or --serve"
                    .into(),
            );
        }
        #[cfg(feature = "serve")]
        if let Some(server) = &server {
            for url in server.urls() {
                print(&format!("captions at {url}"));
            }
        }
        Ok(Self {
            printer,
            recorder,
            #[cfg(feature = "serve")]
            server,
            hls,
            is_hls_failing: false,
            has_others,
            is_lost: false,
        })
    }

    /// Takes a caption: first where it is kept.
    pub fn caption(&mut self, caption: &Caption) {
        if let Some(recorder) = self.recorder.as_mut().filter(|_| caption.is_final) {
            recorder.caption(caption);
        }
        #[cfg(feature = "serve")]
        if let Some(server) = &self.server {
            server.caption(caption);
        }
        if let Some(hls) = self.hls.as_mut().filter(|_| caption.is_final) {
            hls.caption(caption);
        }
        self.printer.caption(caption);
    }

    /// Where the media of the source goes, with `--hls`.
    pub fn media_target(&self) -> Option<hls::Media> {
        self.hls.as_ref().map(hls::Publisher::media)
    }

    /// Something about the media.
    pub fn media(&mut self, update: hls::Update) {
        if let Some(hls) = &mut self.hls {
            hls.update(update);
        }
    }

    /// All captions that begin before this time of the session are known.
    pub fn settled(&mut self, time: Duration) {
        if let Some(hls) = &mut self.hls {
            hls.settled(time);
        }
    }

    /// Publishes what is due at this time of the session.
    pub fn publish(&mut self, now: Duration) {
        let Some(hls) = &mut self.hls else { return };
        match hls.publish(now) {
            Ok(has_new) => self.is_hls_failing &= !has_new,
            Err(error) if !std::mem::replace(&mut self.is_hls_failing, true) => {
                self.notice(&format!("{error}; the stream has a gap until it can be written again"));
            }
            Err(_) => {}
        }
    }

    /// There is audio, for the first time or again.
    pub fn listening(&mut self) {
        #[cfg(feature = "serve")]
        if let Some(server) = &self.server {
            server.status(Status::Listening, "");
        }
        if std::mem::take(&mut self.is_lost) {
            self.notice("connected again");
        }
    }

    /// The connection was lost, and will be opened again after `wait`.
    pub fn reconnecting(&mut self, reason: &str, wait: Duration) {
        self.is_lost = true;
        let plan = format!("Connecting again in {:.1} s", wait.as_secs_f64());
        // Viewers are not told the reason, which has the address of the source.
        #[cfg(feature = "serve")]
        if let Some(server) = &self.server {
            server.status(Status::Reconnecting, &plan);
        }
        self.notice(&format!("{reason}. {plan}"));
    }

    /// Prints a line on standard error.
    pub fn notice(&self, notice: &str) {
        self.printer.notice(notice);
    }

    /// Checks whether there is still an output.
    ///
    /// # Errors
    /// Why standard output cannot be written, unless there are others.
    pub fn check(&self) -> Result<()> {
        let Some(error) = self.printer.take_error() else {
            return Ok(());
        };
        if !self.has_others {
            return Err(error.into());
        }
        // That of `nemostt live … | head` was meant.
        if error.kind() != io::ErrorKind::BrokenPipe {
            self.notice(&format!(
                "cannot write standard output, which gets no more captions: {error}"
            ));
        }
        Ok(())
    }

    /// Ends all of them: what was said is complete in each.
    ///
    /// # Errors
    /// That of [`check`](Self::check), or why the last of HLS cannot be written.
    pub fn close(&mut self) -> Result<()> {
        let published = self.hls.take().map_or(Ok(()), |mut hls| hls.close());
        #[cfg(feature = "serve")]
        {
            self.server = None;
        }
        self.recorder = None;
        self.printer.finish(interrupt::is_requested);
        self.check()?;
        Ok(published?)
    }
}

/// Prints a line on standard error. Unlike `eprintln!`, it does not panic if that is closed.
fn print(notice: &str) {
    let _ = writeln!(io::stderr(), "nemostt: {}", crate::one_line(notice));
}
