// SPDX-License-Identifier: MIT OR Apache-2.0

//! How a stream gets along with its servers: where it is, when it tries again, and what its user is told.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};

use nemostt_triton::Interrupt;

use crate::{
    error::{Error, Result},
    model::{LogLevel, Model, RemoteEncoder, RemoteProbe, RetryDelays, log},
};

/// How often a stream that waits looks for the answer of a server.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Changes that are kept for a user who does not take them.
const MAX_CHANGES: usize = 16;
/// More reasons are not reported: a server may give another one each time.
const MAX_TOLD: usize = 16;

/// Where the encoder of a stream runs, or whether it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RemoteState {
    /// On a server.
    Connected,
    /// On the CPU.
    OnCpu,
    /// The stream waits for a server.
    Waiting,
}

impl RemoteState {
    /// Its name in messages: `connected`, `cpu`, `waiting`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::OnCpu => "cpu",
            Self::Waiting => "waiting",
        }
    }
}

/// A stream goes on elsewhere, or waits. Text so far does not change, and no audio is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteChange {
    /// Where its encoder runs from now on.
    pub state: RemoteState,
    /// The server, if it is there.
    pub server: Option<Arc<str>>,
    /// What happened, for users.
    pub text: Arc<str>,
}

/// See the [module](self).
pub(in crate::stream) struct ServerLink {
    pub(in crate::stream) interrupt: Interrupt,
    delays: RetryDelays,
    place: Place,
    /// The server that it was on last.
    server: Option<Arc<str>>,
    /// Why it left it, until it is on one again.
    reason: Option<String>,
    /// Why servers cannot be used that answer, as its user was told while it is on the CPU.
    told: Vec<String>,
    /// Since when it has been there.
    since: Option<Instant>,
    /// Delay before the last return from the CPU.
    last_return: Duration,
    changes: VecDeque<RemoteChange>,
}

enum Place {
    Server,
    Waiting(Retry),
    Cpu(Retry),
}

/// When a stream that is away from the servers looks for one again.
struct Retry {
    next: Instant,
    delay: Duration,
    /// The question to a server, while it is asked.
    probe: Option<RemoteProbe>,
}

impl Retry {
    /// After about `delay`.
    fn after(delay: Duration, now: Instant) -> Self {
        Self {
            next: now + jittered(delay),
            delay,
            probe: None,
        }
    }
}

impl ServerLink {
    pub(in crate::stream) fn new(model: &Model) -> Self {
        let delays = model.encoder.on_server().map(RemoteEncoder::delays).unwrap_or_default();
        let delays = RetryDelays {
            first: bounded(delays.first),
            longest: bounded(delays.longest),
            first_return: bounded(delays.first_return),
            longest_return: bounded(delays.longest_return),
        };
        Self {
            interrupt: Interrupt::default(),
            delays,
            place: Place::Server,
            server: None,
            reason: None,
            told: Vec::new(),
            since: None,
            last_return: Duration::ZERO,
            changes: VecDeque::new(),
        }
    }

    pub(in crate::stream) fn take_change(&mut self) -> Option<RemoteChange> {
        self.changes.pop_front()
    }

    /// Waits until the next attempt. Returns whether it was interrupted.
    pub(in crate::stream) fn wait(&self) -> bool {
        match &self.place {
            Place::Waiting(Retry { probe: Some(_), .. }) => self.interrupt.wait(POLL_INTERVAL),
            Place::Waiting(Retry { next, .. }) => self.interrupt.wait(next.saturating_duration_since(Instant::now())),
            Place::Server | Place::Cpu(_) => self.interrupt.is_set(),
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.place, Place::Waiting(_))
    }

    /// It lost the server with `error`, and tries others at once.
    pub(super) fn lost(&mut self, error: &Error) {
        self.reason.get_or_insert_with(|| error.to_string());
    }

    /// A window was encoded on `server`; if that is news, `windows` were encoded before it to restore the context.
    pub(super) fn connected(&mut self, server: &str, windows: usize, now: Instant) {
        let was_away = !matches!(self.place, Place::Server);
        let is_same = self.server.as_deref() == Some(server);
        if !was_away && self.reason.is_none() && is_same {
            return;
        }
        let is_first = self.server.is_none();
        if was_away || self.since.is_none() || !is_same {
            self.since = Some(now);
        }
        self.place = Place::Server;
        self.told.clear();
        self.server = Some(server.into());
        let why = match (self.reason.take(), was_away) {
            (_, true) => " again".into(),
            (Some(reason), false) => format!(" ({reason})"),
            // Its first window.
            (None, false) if is_first => return,
            (None, false) => String::new(),
        };
        let restored = match windows {
            0 => String::new(),
            _ => format!("; its last {windows} windows were encoded again"),
        };
        let text = format!("the stream continues on Triton at {server}{why}{restored}");
        self.report(RemoteState::Connected, text);
    }

    /// No server can be used because of `error`, and it waits.
    pub(super) fn wait_after(&mut self, error: &Error, now: Instant) {
        if self.is_waiting() {
            self.postpone(now);
            return;
        }
        self.place = Place::Waiting(Retry::after(self.delays.first, now));
        self.report(
            RemoteState::Waiting,
            format!("{error}; the stream waits until a server can be used"),
        );
    }

    /// No server can be used because of `error`, and it continues on the CPU.
    pub(super) fn left(&mut self, error: &Error, now: Instant) {
        let stayed = self
            .since
            .take()
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let delay = match stayed >= self.delays.longest_return || self.last_return.is_zero() {
            true => self.delays.first_return,
            false => (self.last_return * 2).min(self.delays.longest_return),
        };
        // It may have been there, and have failed to return.
        let is_news = !matches!(self.place, Place::Cpu(_));
        self.go_to_cpu(delay, now);
        self.reason = None;
        if !is_news {
            return;
        }
        self.told.push(error.to_string());
        self.report(
            RemoteState::OnCpu,
            format!("{error}; the stream continues on the CPU until a server can be used"),
        );
    }

    /// Away from the servers: whether it is time to go back and `remote` says that a server has the model and a place. That is asked in
    /// the background.
    ///
    /// # Errors
    /// Why the server that was asked cannot be used. Another one is asked later.
    pub(super) fn is_back(&mut self, remote: &RemoteEncoder, now: Instant) -> Result<bool> {
        let (Place::Waiting(retry) | Place::Cpu(retry)) = &mut self.place else {
            return Ok(true);
        };
        let answer = match &mut retry.probe {
            None if now < retry.next => return Ok(false),
            None => match remote.probe() {
                Ok(probe) => {
                    retry.probe = Some(probe);
                    return Ok(false);
                }
                Err(error) => Err(error),
            },
            Some(probe) => match remote.poll(probe) {
                None => return Ok(false),
                Some(answer) => answer,
            },
        };
        match answer {
            Ok(()) => {
                retry.probe = None;
                Ok(true)
            }
            Err(error) => {
                self.postpone(now);
                self.tell_why_away(&error);
                Err(error)
            }
        }
    }

    /// A server answers, but cannot be used until something is changed: it may have been restarted with another model. Says so once.
    fn tell_why_away(&mut self, error: &Error) {
        let text = error.to_string();
        if !matches!(self.place, Place::Cpu(_)) {
            return;
        }
        if error.is_transient_of_remote() || self.told.contains(&text) || self.told.len() >= MAX_TOLD {
            return;
        }
        self.report(
            RemoteState::OnCpu,
            format!("{text}; the stream stays on the CPU until then"),
        );
        self.told.push(text);
    }

    /// The server that was asked could not be used after all.
    pub(super) fn postpone(&mut self, now: Instant) {
        match &self.place {
            Place::Server => {}
            Place::Waiting(retry) => {
                let delay = (retry.delay * 2).min(self.delays.longest);
                self.place = Place::Waiting(Retry::after(delay, now));
            }
            Place::Cpu(retry) => self.go_to_cpu((retry.delay * 2).min(self.delays.longest_return), now),
        }
    }

    fn go_to_cpu(&mut self, delay: Duration, now: Instant) {
        self.last_return = delay;
        self.place = Place::Cpu(Retry::after(delay, now));
    }

    fn report(&mut self, state: RemoteState, text: String) {
        let server = self.server.clone().filter(|_| state == RemoteState::Connected);
        let level = match state {
            RemoteState::Connected => LogLevel::Info,
            RemoteState::OnCpu | RemoteState::Waiting => LogLevel::Warning,
        };
        log(level, &text);
        let text = text.into();
        if self.changes.len() == MAX_CHANGES {
            self.changes.pop_front();
        }
        self.changes.push_back(RemoteChange { state, server, text });
    }
}

/// Delays that can be added to times, and do not keep a core busy.
fn bounded(delay: Duration) -> Duration {
    delay.clamp(Duration::from_millis(1), Duration::from_secs(24 * 3600))
}

/// Between half of `delay` and all of it.
fn jittered(delay: Duration) -> Duration {
    // Each `RandomState` has other keys.
    let random = RandomState::new().hash_one(0_u8) >> 32;
    let share = random as f64 / f64::from(u32::MAX);
    delay.mul_f64(0.5 + share / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_spread_over_their_second_half() {
        let delay = Duration::from_millis(100);
        let all: Vec<Duration> = (0..200).map(|_| jittered(delay)).collect();
        assert!(all.iter().all(|time| (delay / 2..=delay).contains(time)), "{all:?}");
        assert!(all.iter().any(|time| *time < delay * 6 / 10) && all.iter().any(|time| *time > delay * 9 / 10));
    }
}
