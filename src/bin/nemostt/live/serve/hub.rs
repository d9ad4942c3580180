// SPDX-License-Identifier: MIT OR Apache-2.0

//! The captions that are kept, and the clients that receive new ones.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use hyper::body::Bytes;
use nemostt::{
    cues::{CueBuilder, CueRules},
    sync::lock,
};
use serde::Serialize;
use serde_json::json;
use thiserror::Error;
use tokio::sync::Notify;

use super::{
    args::random_hex,
    client::{Client, ClientBody},
    encoding::{self, Encoding},
};
use crate::{cues, live::caption::Caption};

/// How long finals are kept.
const KEPT: Duration = Duration::from_secs(600);
/// Finals that are kept at most; in ten minutes there are some hundred.
const MAX_KEPT: usize = 4_096;
/// Clients that receive captions at the same time.
pub const MAX_CLIENTS: usize = 1_000;
/// Random bytes of a session's name.
const SESSION_BYTES: usize = 8;

/// How the source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// There was no audio yet.
    Starting,
    Listening,
    Reconnecting,
    Ended,
}

/// One session.
pub struct Hub {
    /// Random, so that clients notice a restart.
    session: String,
    title: String,
    /// When there was audio for the first time.
    begun: OnceLock<Instant>,
    state: Mutex<State>,
}

struct State {
    /// Number of the last event.
    last: u64,
    kept: VecDeque<Kept>,
    /// The partial that is shown, and the number of its event.
    partial: Option<(u64, Caption)>,
    status: (Status, String),
    clients: Vec<Client>,
    /// For WebVTT; empty between finals.
    cues: CueBuilder,
    has_ended: bool,
}

/// A final caption, encoded once for all clients.
struct Kept {
    number: u64,
    since: Instant,
    event: Bytes,
    line: Bytes,
    vtt: Bytes,
}

/// Why there cannot be another client. What clients are told.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum SubscribeError {
    #[error("Too many clients receive captions: try again later")]
    TooManyClients,
    #[error("The captions have ended")]
    Ended,
}

impl Hub {
    /// A session for captions of `title`; `rules` are those of WebVTT cues.
    ///
    /// # Errors
    /// If the system has no random numbers, or the rules contradict each other.
    pub fn new(title: &str, rules: CueRules) -> Result<Self, String> {
        Ok(Self {
            session: random_hex::<SESSION_BYTES>()?,
            title: title.into(),
            begun: OnceLock::new(),
            state: Mutex::new(State {
                last: 0,
                kept: VecDeque::new(),
                partial: None,
                status: (Status::Starting, String::new()),
                cues: CueBuilder::new(rules).map_err(|error| error.to_string())?,
                clients: Vec::new(),
                has_ended: false,
            }),
        })
    }

    /// Keeps a final, replaces the partial, and sends either to all clients.
    pub fn caption(&self, caption: &Caption) {
        let mut state = lock(&self.state);
        state.last += 1;
        let number = state.last;
        let (event, line) = (self.event(number, caption), encoding::line(caption));
        if caption.is_final {
            state.partial = None;
            let vtt = state.vtt(caption);
            state.kept.push_back(Kept {
                number,
                since: Instant::now(),
                event: event.clone(),
                line: line.clone(),
                vtt,
            });
            state.forget();
        } else {
            state.partial = Some((number, caption.clone()));
        }
        state.send(|encoding| match encoding {
            Encoding::Events => Some(event.clone()),
            Encoding::JsonLines { partials } => (caption.is_final || partials).then(|| line.clone()),
        });
    }

    /// Tells all clients how the source is.
    pub fn status(&self, status: Status, message: &str) {
        if status == Status::Listening {
            self.begun.get_or_init(Instant::now);
        }
        let mut state = lock(&self.state);
        state.last += 1;
        state.status = (status, message.into());
        let event = self.status_event(&state);
        state.send(|encoding| (encoding == Encoding::Events).then(|| event.clone()));
    }

    /// Tells all clients that the captions have ended, and disconnects them once they have received everything.
    pub fn end(&self) {
        self.status(Status::Ended, "");
        let mut state = lock(&self.state);
        state.has_ended = true;
        state.clients.clear();
    }

    /// Sends to all clients what they ignore.
    pub fn keep_alive(&self) {
        let mut state = lock(&self.state);
        state.send(|encoding| Some(Bytes::from_static(encoding.keep_alive())));
        state.forget();
    }

    /// Adds a client that receives events; those after `last`, an id, first. `close` closes its connection.
    ///
    /// # Errors
    /// If there are too many, or the captions have ended.
    pub fn subscribe(&self, last: Option<&str>, close: Arc<Notify>) -> Result<ClientBody, SubscribeError> {
        let mut state = lock(&self.state);
        state.forget();
        let last = last
            .and_then(|id| self.number(id))
            .filter(|&number| number <= state.last)
            .unwrap_or(0);
        // The greeting has the id from which the client resumes if the connection is lost before the rest arrives.
        let hello = json!({ "session": self.session, "title": self.title, "now": self.now() });
        let mut backlog = vec![encoding::event(&self.id(last), "hello", &hello)];
        let kept = state.kept.iter().filter(|kept| kept.number > last);
        backlog.extend(kept.map(|kept| kept.event.clone()));
        backlog.extend(
            state
                .partial
                .iter()
                .map(|(number, partial)| self.event(*number, partial)),
        );
        backlog.push(self.status_event(&state));
        state.add(Encoding::Events, backlog, close)
    }

    /// Adds a client that receives JSON; with `history`, all finals that are kept first.
    ///
    /// # Errors
    /// If there are too many, or the captions have ended.
    pub fn subscribe_json(
        &self,
        partials: bool,
        history: bool,
        close: Arc<Notify>,
    ) -> Result<ClientBody, SubscribeError> {
        let mut state = lock(&self.state);
        state.forget();
        let kept = state.kept.iter().filter(|_| history);
        let backlog = kept.map(|kept| kept.line.clone()).collect();
        state.add(Encoding::JsonLines { partials }, backlog, close)
    }

    /// The finals that are kept as WebVTT.
    pub fn vtt(&self) -> Vec<u8> {
        let mut state = lock(&self.state);
        state.forget();
        let kept: Vec<Bytes> = state.kept.iter().map(|kept| kept.vtt.clone()).collect();
        drop(state);
        [b"WEBVTT\n".as_slice(), &kept.concat()].concat()
    }

    fn event(&self, number: u64, caption: &Caption) -> Bytes {
        encoding::event(&self.id(number), "caption", caption)
    }

    fn status_event(&self, state: &State) -> Bytes {
        let (status, message) = &state.status;
        let data = json!({ "state": status, "message": message });
        encoding::event(&self.id(state.last), "status", &data)
    }

    fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.session)
    }

    /// The number in an id of this session.
    fn number(&self, id: &str) -> Option<u64> {
        let (session, number) = id.rsplit_once('-')?;
        number.parse().ok().filter(|_| session == self.session)
    }

    /// Milliseconds since the session began.
    fn now(&self) -> u64 {
        let elapsed = self.begun.get().map(Instant::elapsed).unwrap_or_default();
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    }
}

impl State {
    /// The cues of a final, each after an empty line.
    fn vtt(&mut self, caption: &Caption) -> Bytes {
        caption.add_to(&mut self.cues, 0);
        self.cues.flush();
        let mut text = String::new();
        while let Some(cue) = self.cues.next_cue() {
            text += "\n";
            text += &cues::vtt(&cue);
        }
        text.into()
    }

    /// Forgets finals that are too old or too many.
    fn forget(&mut self) {
        while self.kept.len() > MAX_KEPT || self.kept.front().is_some_and(|kept| kept.since.elapsed() > KEPT) {
            self.kept.pop_front();
        }
    }

    /// Sends the message for its encoding to each client, and removes those that are gone.
    fn send(&mut self, message: impl Fn(Encoding) -> Option<Bytes>) {
        self.clients.retain(|client| match message(client.encoding) {
            Some(message) => client.send(&message).is_ok(),
            None => !client.is_gone(),
        });
    }

    fn add(
        &mut self,
        encoding: Encoding,
        backlog: Vec<Bytes>,
        close: Arc<Notify>,
    ) -> Result<ClientBody, SubscribeError> {
        if self.has_ended {
            return Err(SubscribeError::Ended);
        }
        if self.clients.len() >= MAX_CLIENTS {
            self.clients.retain(|client| !client.is_gone());
        }
        if self.clients.len() >= MAX_CLIENTS {
            return Err(SubscribeError::TooManyClients);
        }
        let (client, body) = Client::new(encoding, backlog, close);
        self.clients.push(client);
        Ok(body)
    }
}
