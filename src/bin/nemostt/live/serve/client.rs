// SPDX-License-Identifier: MIT OR Apache-2.0

//! A client that receives captions as they come.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::sync::{Notify, mpsc};

use super::encoding::Encoding;

/// Messages that may wait for a client: some 20 seconds of partials.
const QUEUE: usize = 256;

/// The hub's side of a client.
pub struct Client {
    pub encoding: Encoding,
    queue: mpsc::Sender<Bytes>,
    /// Closes its connection.
    close: Arc<Notify>,
}

/// A client that cannot be sent anything any more.
#[derive(Debug)]
pub struct Gone;

impl Client {
    /// A client that first receives `backlog`, and its body.
    pub fn new(encoding: Encoding, backlog: Vec<Bytes>, close: Arc<Notify>) -> (Self, ClientBody) {
        let (queue, messages) = mpsc::channel(QUEUE);
        let body = ClientBody {
            backlog: backlog.into_iter(),
            messages,
        };
        let client = Self { encoding, queue, close };
        (client, body)
    }

    /// Sends `message`, without waiting. A client whose queue is full is disconnected: it connects again and resumes, where
    /// an endless queue would fill the memory.
    pub fn send(&self, message: &Bytes) -> Result<(), Gone> {
        match self.queue.try_send(message.clone()) {
            Ok(()) => Ok(()),
            Err(error) => {
                if matches!(error, mpsc::error::TrySendError::Full(_)) {
                    // Not only its body ends: the connection may be waiting for it to read.
                    self.close.notify_one();
                }
                Err(Gone)
            }
        }
    }

    /// Whether it has disconnected.
    pub fn is_gone(&self) -> bool {
        self.queue.is_closed()
    }
}

/// The body of its response, which ends when the hub drops the [`Client`].
pub struct ClientBody {
    backlog: std::vec::IntoIter<Bytes>,
    messages: mpsc::Receiver<Bytes>,
}

/// The body of a response.
pub enum ResponseBody {
    Whole(Option<Bytes>),
    Client(ClientBody),
}

impl ResponseBody {
    pub fn of(contents: impl Into<Bytes>) -> Self {
        Self::Whole(Some(contents.into()).filter(|contents: &Bytes| !contents.is_empty()))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match self.get_mut() {
            Self::Whole(contents) => Poll::Ready(contents.take()),
            Self::Client(body) => match body.backlog.next() {
                Some(message) => Poll::Ready(Some(message)),
                None => body.messages.poll_recv(context),
            },
        };
        next.map(|contents| contents.map(|contents| Ok(Frame::data(contents))))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(contents) => SizeHint::with_exact(contents.as_ref().map_or(0, Bytes::len) as u64),
            Self::Client(_) => SizeHint::default(),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }
}
