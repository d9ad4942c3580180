// SPDX-License-Identifier: MIT OR Apache-2.0

//! An encoder on NVIDIA Triton, which keeps the caches of each stream.
//!
//! Only windows go there, and frames come back. A stream begins a [sequence](nemostt_triton::Sequence) with its first window, and
//! again after each failure, reset or restored snapshot; what the encoder knew then is restored by the stream, which encodes its last
//! windows again.

mod state;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod twin;
mod verify;

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use nemostt_triton::{Client, ClientOptions, Error as TritonError, Interrupt, Probe, Server};

pub(super) use self::state::RemoteState;
use super::session_meter::SessionMeter;
use crate::{
    error::{Error, Result},
    metrics::EncoderMetrics,
    model::{
        Cancellation, ModelIdentity, RemoteOptions, RetryDelays, ServedTensors,
        runtime::{LogLevel, log},
    },
};

/// How long a comparison is good for. A server may get another model while no stream is on it, so nothing shows that; on the other hand,
/// many streams begin at the same time.
const VERIFIED_FOR: Duration = Duration::from_secs(10);

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// How often a load looks whether it was cancelled.
const TICK: Duration = Duration::from_millis(10);

/// See the [module](self).
pub(crate) struct RemoteEncoder {
    client: Client,
    /// The local model, for messages.
    name: String,
    identity: ModelIdentity,
    tensors: ServedTensors,
    delays: RetryDelays,
    /// The server that new sequences begin on.
    current: AtomicUsize,
    servers: Vec<Availability>,
    meter: Arc<SessionMeter>,
}

impl RemoteEncoder {
    /// The encoder of the local model `name`, which has this identity and these tensors.
    ///
    /// # Errors
    /// [`Error::OtherRemoteModel`] if a server has another one; those of the client if no server answers and `needs_server`.
    pub(super) fn connect(
        options: &RemoteOptions,
        name: &str,
        (identity, tensors): (ModelIdentity, ServedTensors),
        needs_server: bool,
        cancellation: &Cancellation,
    ) -> Result<Self> {
        let client_options = ClientOptions {
            headers: options.headers.clone(),
            timeout: options.timeout,
        };
        let client = Client::new(options.address.clone(), client_options)?;
        let servers = (0..client.servers()).map(|_| Availability::default()).collect();
        let remote = Self {
            client,
            name: name.into(),
            identity,
            tensors,
            delays: options.delays,
            current: AtomicUsize::new(0),
            servers,
            meter: Arc::default(),
        };
        remote.verify_all(needs_server, cancellation)?;
        Ok(remote)
    }

    /// Compares all servers that answer with the local model; the first one is the current one.
    fn verify_all(&self, needs_server: bool, cancellation: &Cancellation) -> Result<()> {
        let probes = (0..self.client.servers()).map(|server| self.client.probe(server, None));
        let probes: Vec<Probe> = probes.collect::<std::result::Result<_, _>>()?;
        let mut failure = None;
        let mut first = None;
        for (server, mut probe) in probes.into_iter().enumerate() {
            let answer = loop {
                cancellation.check()?;
                match probe.poll() {
                    Some(answer) => break answer,
                    None => std::thread::sleep(TICK),
                }
            };
            match answer.map_err(Error::from) {
                Ok(probed) => {
                    self.verify(server, &probed.info)?;
                    first.get_or_insert(server);
                }
                Err(error) if error.is_transient_of_remote() => {
                    log(LogLevel::Warning, &error.to_string());
                    failure.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        match (first, failure) {
            (Some(server), _) => self.current.store(server, Ordering::Relaxed),
            (None, Some(error)) if needs_server => return Err(error),
            (None, _) => {}
        }
        Ok(())
    }

    /// Asks each server, one after the other, about the model.
    pub(crate) fn status(&self) -> Vec<ServerStatus> {
        let address = self.client.address();
        let status = |(number, server): (usize, &Server)| {
            let info = self.client.model(number, &Interrupt::default()).map_err(Error::from);
            ServerStatus {
                server: server.to_string(),
                model: address.model.clone(),
                versions: info.as_ref().map_or(Vec::new(), |info| info.versions.clone()),
                usable: info.and_then(|info| self.verify(number, &info)),
            }
        };
        address.servers.iter().enumerate().map(status).collect()
    }

    /// The times between attempts to reach it.
    pub(crate) fn delays(&self) -> RetryDelays {
        self.delays
    }

    /// Number of servers.
    pub(crate) fn servers(&self) -> usize {
        self.client.servers()
    }

    /// Asks the current server, in the background, whether it has the model and a place for another stream.
    pub(crate) fn probe(&self) -> Result<RemoteProbe> {
        let server = self.current.load(Ordering::Relaxed);
        Ok(RemoteProbe {
            server,
            probe: self.client.probe(server, Some(self.trial()))?,
        })
    }

    /// The answer, once it is there: whether the model can be used. If not, the next server is the current one.
    pub(crate) fn poll(&self, probe: &mut RemoteProbe) -> Option<Result<()>> {
        let answer = probe.probe.poll()?.map_err(Error::from);
        let result = answer.and_then(|probed| {
            // First, because another model does not understand the trial.
            self.verify(probe.server, &probed.info)?;
            Ok(probed.trial?)
        });
        if let Err(error) = &result {
            self.log_failure(error);
            self.note_failure(probe.server, error);
        }
        Some(result)
    }

    /// Compares the model on `server` with the local one, unless that was just done.
    fn ensure_verified(&self, server: usize, interrupt: &Interrupt) -> Result<()> {
        match self.servers[server].is_verified() {
            true => Ok(()),
            false => self.verify(server, &self.client.model(server, interrupt)?),
        }
    }

    /// `server` has encoded a window.
    fn note_success(&self, server: usize) {
        self.servers[server].needs_change.store(false, Ordering::Relaxed);
    }

    /// Whether the last failure of every server is permanent.
    pub(crate) fn needs_change(&self) -> bool {
        self.servers
            .iter()
            .all(|server| server.needs_change.load(Ordering::Relaxed))
    }

    /// After `error` on `server`, new sequences begin on another one, and this one is compared again.
    fn note_failure(&self, server: usize, error: &Error) {
        let is_of_server = match error {
            Error::Remote(error) => error.is_of_server(),
            Error::OtherRemoteModel { .. } => true,
            _ => false,
        };
        let status = &self.servers[server];
        // A restarted server may have another model.
        status.verified.store(0, Ordering::Relaxed);
        if is_of_server {
            status
                .needs_change
                .store(!error.is_transient_of_remote(), Ordering::Relaxed);
            let next = (server + 1) % self.client.servers();
            // Another stream may have found out first.
            let _ = self
                .current
                .compare_exchange(server, next, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    pub(super) fn metrics(&self) -> EncoderMetrics {
        self.meter.metrics()
    }

    /// A log line for a failure that is going to be made up for.
    pub(crate) fn log_failure(&self, error: &Error) {
        log(LogLevel::Info, &format!("{}: {error}", self.name));
    }
}

/// What is known of a server.
#[derive(Default)]
struct Availability {
    /// When it was compared with the local model, in milliseconds of [`START`]; 0 if that was not done since it last failed.
    verified: AtomicU64,
    /// Whether its last failure is one that does not pass by itself.
    needs_change: AtomicBool,
}

impl Availability {
    fn set_verified(&self) {
        self.verified.store(now(), Ordering::Relaxed);
        self.needs_change.store(false, Ordering::Relaxed);
    }

    fn is_verified(&self) -> bool {
        is_recent(self.verified.load(Ordering::Relaxed), now())
    }
}

fn is_recent(verified: u64, now: u64) -> bool {
    verified != 0 && now.saturating_sub(verified) <= VERIFIED_FOR.as_millis() as u64
}

/// Milliseconds of [`START`], at least 1.
fn now() -> u64 {
    START.elapsed().as_millis() as u64 + 1
}

/// What a server says about the encoder: see [`Recognizer::servers`](crate::Recognizer::servers).
#[derive(Debug)]
pub struct ServerStatus {
    /// Its name and port.
    pub server: String,
    /// The name of the encoder there.
    pub model: String,
    /// The versions of it that are loaded, if the server answers.
    pub versions: Vec<String>,
    /// Whether the encoder is ready and that of the local model; otherwise, why not.
    pub usable: Result<()>,
}

/// A question to a server that is being asked.
pub(crate) struct RemoteProbe {
    server: usize,
    probe: Probe,
}

impl Error {
    /// Whether a server could not be used for a reason that may pass.
    pub(crate) fn is_transient_of_remote(&self) -> bool {
        matches!(self, Self::Remote(error) if error.is_transient())
    }

    /// Whether a server could not be used.
    pub(crate) fn is_of_remote(&self) -> bool {
        matches!(self, Self::Remote(_) | Self::OtherRemoteModel { .. })
    }

    /// Whether it takes the timeout until the same error comes again from the same server.
    pub(crate) fn is_slow_remote(&self) -> bool {
        matches!(
            self,
            Self::Remote(TritonError::Timeout { .. } | TritonError::Busy { .. })
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparison_is_good_for_a_while_and_until_the_server_fails() {
        let age = VERIFIED_FOR.as_millis() as u64;
        assert!(is_recent(5, 5) && is_recent(5, 5 + age) && !is_recent(5, 6 + age));
        // Another thread compared it after this one had looked at the clock.
        assert!(is_recent(9, 5));
        assert!(!is_recent(0, 5));
        let status = Availability::default();
        assert!(!status.is_verified());
        status.set_verified();
        assert!(status.is_verified());
    }
}
