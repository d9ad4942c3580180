// SPDX-License-Identifier: MIT OR Apache-2.0

//! The thread that reads the source and feeds the captions: at the pace of the sound, and again after a lost connection.

use std::{
    io,
    sync::mpsc::Sender,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    backoff::Backoff,
    captioner::CaptionerInput,
    event::{Event, source_error},
    hls::{self, Anchor, Update},
    source::{Opened, RATE, Source},
    timeline::Timeline,
};
use crate::{
    audio::{Failure, SourceError, TrackSelection},
    interrupt,
};

/// How long to sleep before checking for Ctrl-C.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// A connection that lasted so long was good: the next attempt after its loss is made soon.
const GOOD: Duration = Duration::from_secs(5);
/// How far a live source may be ahead of the clock. One that is further ahead has wrong timestamps.
const MAX_AHEAD: Duration = Duration::from_secs(30);

/// What to read, and what then to do.
pub struct Feed {
    pub source: Source,
    pub selection: TrackSelection,
    /// How long to wait for data.
    pub timeout: Duration,
    /// Where the media goes as well.
    pub media: Option<hls::Media>,
    /// Whether a lost connection is opened again.
    pub reconnects: bool,
    pub input: CaptionerInput,
    pub events: Sender<Event>,
}

/// Why a connection gives no more samples.
enum End {
    /// There are none.
    Complete,
    Lost,
}

/// What has happened in all connections so far.
#[derive(Default)]
struct Progress {
    /// There were samples.
    was_open: bool,
    /// It was reported that some of them were invalid.
    is_fault_reported: bool,
    backoff: Backoff,
}

impl Feed {
    /// Starts the thread. It ends with [`Event::SourceEnded`], soon after Ctrl-C.
    pub fn start(self) -> io::Result<JoinHandle<()>> {
        let run = move || {
            let result = self.run();
            self.send(Event::SourceEnded(result));
        };
        thread::Builder::new().name("nemostt-source".into()).spawn(run)
    }

    fn run(&self) -> Result<(), SourceError> {
        let mut progress = Progress::default();
        for number in 0.. {
            let ended = self.connection(number, &mut progress);
            if interrupt::is_requested() {
                return Ok(());
            }
            let reason = match ended {
                Ok(End::Complete) => return Ok(()),
                Ok(End::Lost) => format!("{} ended", self.source),
                Err(error) if !self.may_recover(&error, progress.was_open) => return Err(error),
                Err(error) => error.message,
            };
            if !self.reconnects {
                return Err(SourceError {
                    message: reason,
                    failure: Failure::Transient,
                });
            }
            self.input.finish();
            let wait = progress.backoff.next(random());
            self.send(Event::Reconnecting { reason, wait });
            sleep(wait);
        }
        Ok(())
    }

    /// Whether the source may be opened again after `error`. Before it was ever open, the address may be wrong.
    fn may_recover(&self, error: &SourceError, was_open: bool) -> bool {
        self.reconnects
            && match error.failure {
                Failure::Transient => true,
                Failure::Permanent => was_open,
                Failure::Refused => false,
            }
    }

    /// Opens the source and feeds its samples until its end. `number`: that of the connection.
    fn connection(&self, number: u32, progress: &mut Progress) -> Result<End, SourceError> {
        let mut timeline = Timeline::new(RATE);
        let ended = self.feed(number, &mut timeline, progress);
        // The source is closed, and its media complete.
        if self.media.is_some() {
            let is_complete = matches!(ended, Ok(End::Complete)) && !interrupt::is_requested();
            let until = Some(timeline.duration()).filter(|_| !is_complete);
            self.send(Event::Media(Update::Ended {
                connection: number,
                until,
            }));
        }
        ended
    }

    fn feed(&self, number: u32, timeline: &mut Timeline, progress: &mut Progress) -> Result<End, SourceError> {
        let tap = self
            .media
            .as_ref()
            .map(|media| media.connect(number, self.events.clone()));
        let tap = tap.transpose().map_err(source_error)?;
        let opened = self.source.open(&self.selection, self.timeout, tap);
        let mut opened = opened.map_err(source_error)?;
        if let Some(notice) = opened.notice().filter(|_| !progress.was_open) {
            self.send(Event::Notice(notice.into()));
        }
        let mut samples = Vec::new();
        loop {
            opened.read(&mut samples).map_err(source_error)?;
            if samples.is_empty() {
                return self.end(&opened, timeline.duration(), progress.was_open);
            }
            if opened.has_invalid_samples() && !std::mem::replace(&mut progress.is_fault_reported, true) {
                self.send(Event::Notice(format!(
                    "some samples of {} are not numbers, or far too large; they are taken for silence",
                    self.source
                )));
            }
            let now = self.input.now();
            let is_first = timeline.duration().is_zero();
            let media = timeline.duration();
            let placed = timeline.place(samples.len(), now);
            if is_first {
                self.input.begin(now);
                self.send(Event::Listening);
                progress.was_open = true;
            }
            if placed.is_new && self.media.is_some() {
                let session = self.input.session_time(placed.start).unwrap_or_default();
                self.send(Event::Media(Update::Placed {
                    connection: number,
                    anchor: Anchor { media, session },
                }));
            }
            let ahead = placed.start.saturating_sub(now);
            if !opened.is_live() {
                sleep(ahead);
                if interrupt::is_requested() && self.input.now() < placed.start {
                    // The rest of a file has not been said yet.
                    return Ok(End::Complete);
                }
            } else if ahead > MAX_AHEAD {
                return Err(SourceError {
                    message: format!("{} is ahead of its time by {} s", self.source, ahead.as_secs()),
                    failure: Failure::Transient,
                });
            }
            self.input.push(&samples, placed);
            if timeline.duration() > GOOD {
                progress.backoff.reset();
            }
        }
    }

    /// The end after samples of `duration`.
    fn end(&self, opened: &Opened, duration: Duration, was_open: bool) -> Result<End, SourceError> {
        if duration.is_zero() && !was_open && !opened.may_be_silent() && !interrupt::is_requested() {
            return Err(SourceError {
                message: opened.no_samples_error(),
                failure: Failure::Permanent,
            });
        }
        match opened.is_connection() {
            true => Ok(End::Lost),
            false => Ok(End::Complete),
        }
    }

    fn send(&self, event: Event) {
        // The session may have ended.
        let _ = self.events.send(event);
    }
}

/// Sleeps, but not beyond Ctrl-C.
fn sleep(time: Duration) {
    let until = Instant::now() + time;
    while !interrupt::is_requested() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::sleep(left.min(POLL_INTERVAL));
    }
}

/// A number from 0 to 1.
fn random() -> f64 {
    getrandom::u32().map_or(1.0, |number| f64::from(number) / f64::from(u32::MAX))
}
