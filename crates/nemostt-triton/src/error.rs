// SPDX-License-Identifier: MIT OR Apache-2.0

//! What can go wrong between a client and its servers.

use std::time::Duration;

use tonic::{Code, Status};

use crate::address::AddressError;

/// Characters of a server's message that are repeated. Those of Triton have up to some hundred.
const MAX_REASON: usize = 1000;

/// An error of the client. [`is_transient`](Self::is_transient) tells those after which it should connect again from those that need
/// a change.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address of the model cannot be used.
    #[error(transparent)]
    Address(#[from] AddressError),

    /// A header cannot be sent.
    #[error("\"{name}\" is not a header that can be sent: {reason}")]
    Header {
        /// Its name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },

    /// The threads for connections could not be started, or TLS not be set up.
    #[error("connections cannot be set up: {reason}")]
    Setup {
        /// What failed.
        reason: String,
    },

    /// The server does not answer, has ended the connection, or is shutting down.
    #[error("Triton at {server} cannot be reached: {reason}")]
    Unreachable {
        /// The server.
        server: String,
        /// What the network says.
        reason: String,
    },

    /// The server's certificate is not accepted, or the server does not speak TLS.
    #[error(
        "the TLS connection to Triton at {server} failed: {reason}. Its certificate must be for this name, and signed by one of the \
         system's CA certificates or of those in the file SSL_CERT_FILE"
    )]
    Tls {
        /// The server.
        server: String,
        /// What rustls says.
        reason: String,
    },

    /// No answer came in time.
    #[error("Triton at {server} did not answer within {} ms", .after.as_millis())]
    Timeout {
        /// The server.
        server: String,
        /// How long it had.
        after: Duration,
    },

    /// The request waited too long on the server, which has too much to do.
    #[error(
        "Triton at {server} is busy: a {} waited too long there ({reason}){}", if *.is_first { "new stream" } else { "request" },
        if *.is_first { ". All its max_candidate_sequences may be taken: raise it, or add servers" } else { "" }
    )]
    Busy {
        /// The server.
        server: String,
        /// Its message.
        reason: String,
        /// Whether it was the first of a sequence.
        is_first: bool,
    },

    /// The server has no state of the sequence: it was restarted, or has dropped the sequence because it was idle for too long.
    #[error(
        "Triton at {server} has lost the stream's state, because it was restarted or the stream was silent for long: {reason}"
    )]
    SequenceLost {
        /// The server.
        server: String,
        /// Its message.
        reason: String,
    },

    /// The server does not have the model, or not yet.
    #[error(
        "Triton at {server} does not serve a model \"{model}\": {reason}. Load it there, or correct its name in the address"
    )]
    NoModel {
        /// The server.
        server: String,
        /// The model.
        model: String,
        /// The server's message.
        reason: String,
    },

    /// The server does not accept the client's credentials.
    #[error("Triton at {server} refuses access: {reason}. Set the headers that it, or a proxy before it, expects")]
    Unauthorized {
        /// The server.
        server: String,
        /// Its message.
        reason: String,
    },

    /// The server does not accept the request.
    #[error("Triton at {server} rejects the request: {reason}")]
    Rejected {
        /// The server.
        server: String,
        /// Its message.
        reason: String,
    },

    /// The answer cannot be used.
    #[error("the answer of Triton at {server} cannot be used: {reason}")]
    Malformed {
        /// The server.
        server: String,
        /// What is wrong, and what was expected.
        reason: String,
    },

    /// Another thread has [interrupted](crate::Interrupt) the call.
    #[error("the request was interrupted")]
    Interrupted,
}

/// The result of the client's functions.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Whether a new sequence may succeed, soon or on another server.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::Busy { .. }
            | Self::SequenceLost { .. }
            // A server that is starting does not have it yet.
            | Self::NoModel { .. }
            // It has the right model, or there would be another error, so it is a fault that may pass.
            | Self::Malformed { .. } => true,
            Self::Address(_)
            | Self::Header { .. }
            | Self::Setup { .. }
            | Self::Tls { .. }
            | Self::Unauthorized { .. }
            | Self::Rejected { .. }
            | Self::Interrupted => false,
        }
    }

    /// Whether another server should be tried before the same one.
    pub fn is_of_server(&self) -> bool {
        !matches!(self, Self::SequenceLost { .. } | Self::Interrupted)
    }
}

/// What a failed call was for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) server: &'a str,
    pub(crate) model: &'a str,
}

impl Call<'_> {
    /// The error for gRPC's `status`.
    pub(crate) fn failed(self, status: &Status) -> Error {
        match causes(status).any(is_of_tls) {
            true => Error::Tls {
                server: self.server.to_owned(),
                reason: printable(&message(status)),
            },
            false => self.error(status.code(), &message(status)),
        }
    }

    /// The error for a message of Triton in a stream, which comes without a code if the server does not know the header
    /// `triton_grpc_error`.
    pub(crate) fn failed_with(self, message: &str) -> Error {
        self.error(Code::Unknown, message)
    }

    fn error(self, code: Code, reason: &str) -> Error {
        let reason = printable(reason);
        let (server, model) = (self.server.to_owned(), self.model.to_owned());
        match code {
            // Triton's sequence scheduler: "inference request for sequence … to model … must specify the START flag on the first
            // request of the sequence".
            _ if reason.contains("START flag") => Error::SequenceLost { server, reason },
            // "Request timeout expired" in its queues, and "Exceeds maximum queue size".
            Code::Unavailable | Code::ResourceExhausted | Code::Unknown
                if reason.contains("timeout") || reason.contains("maximum queue") =>
            {
                Error::Busy {
                    server,
                    reason,
                    is_first: false,
                }
            }
            Code::NotFound => Error::NoModel { server, model, reason },
            // "Request for unknown model: 'x' is not found" and "… is not ready" have several codes.
            _ if reason.contains("unknown model") || reason.contains("is not ready") => {
                Error::NoModel { server, model, reason }
            }
            Code::Unauthenticated | Code::PermissionDenied => Error::Unauthorized { server, reason },
            Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange | Code::Unimplemented => {
                Error::Rejected { server, reason }
            }
            // Also what a model's backend reports: it may be short of memory, or its device may have failed.
            _ => Error::Unreachable { server, reason },
        }
    }
}

/// The message of `status` with its causes: "transport error" alone says nothing.
fn message(status: &Status) -> String {
    let mut text = status.message().to_owned();
    for cause in causes(status) {
        let line = cause.to_string();
        if !text.contains(&line) {
            text = match text.is_empty() {
                true => line,
                false => format!("{text}: {line}"),
            };
        }
    }
    match text.is_empty() {
        true => status.code().description().into(),
        false => text,
    }
}

fn causes(status: &Status) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(status), |cause| cause.source())
}

/// Whether an error of a connection is one of TLS, which comes inside of one of input and output.
fn is_of_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    inner.is_some_and(|inner| inner.is::<rustls::Error>())
}

/// What a server says as a part of one line: its text may have any characters and any length.
pub fn printable(text: &str) -> String {
    let mut line: String = text
        .chars()
        .take(MAX_REASON)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(MAX_REASON).is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Call<'_> = Call {
        server: "gpu:8001",
        model: "encoder",
    };

    #[test]
    fn status_codes_and_messages_of_triton_become_errors() {
        let start = "inference request for sequence 7 to model 'encoder' must specify the START flag on the first request of the sequence";
        let error = CALL.failed(&Status::invalid_argument(start));
        assert!(
            matches!(error, Error::SequenceLost { .. }) && error.is_transient() && !error.is_of_server(),
            "{error}"
        );
        assert!(matches!(CALL.failed_with(start), Error::SequenceLost { .. }));

        let error = CALL.failed(&Status::unavailable("Request timeout expired"));
        assert!(
            matches!(error, Error::Busy { .. }) && error.is_transient() && error.is_of_server(),
            "{error}"
        );
        for text in ["Request timeout expired", "Exceeds maximum queue size"] {
            let error = CALL.failed_with(text);
            assert!(matches!(error, Error::Busy { .. }), "{error}");
        }
        let error = CALL.failed_with("CUDA error: out of memory");
        assert!(
            matches!(error, Error::Unreachable { .. }) && error.is_transient(),
            "{error}"
        );

        let error = CALL.failed(&Status::unavailable("Socket closed"));
        assert!(
            matches!(error, Error::Unreachable { .. }) && error.is_transient(),
            "{error}"
        );
        let unknown = Status::unavailable("Request for unknown model: 'encoder' is not found");
        assert!(matches!(CALL.failed(&unknown), Error::NoModel { .. }));
        for (status, expected) in [
            (Status::unauthenticated("no token"), "refuses access: no token"),
            (
                Status::invalid_argument("unexpected shape"),
                "rejects the request: unexpected shape",
            ),
        ] {
            let error = CALL.failed(&status);
            assert!(!error.is_transient(), "{error}");
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn message_of_a_server_is_one_line_of_limited_length() {
        let error = CALL.failed(&Status::internal("a\u{1b}[2J\nb")).to_string();
        assert!(error.ends_with("a [2J b"), "{error:?}");
        let error = CALL.failed_with(&"ü".repeat(100_000)).to_string();
        assert!(
            error.chars().count() < MAX_REASON + 100 && error.ends_with("ü…"),
            "{error}"
        );
    }
}
