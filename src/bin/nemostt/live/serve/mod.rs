// SPDX-License-Identifier: MIT OR Apache-2.0

//! The server of `--serve`: a page with captions, and the captions for programs.
//!
//! | path | |
//! |---|---|
//! | `/`, `/captions.css`, `/captions.js` | the page |
//! | `/events` | server-sent events, which resume after a lost connection |
//! | `/captions.jsonl` | one JSON object a line |
//! | `/captions.vtt` | the last minutes as WebVTT |
//! | `/health` | `ok` |
//!
//! It runs on a thread of its own. The main thread hands captions to the [`hub`], which never waits for a client.

mod access;
mod addresses;
mod admission;
mod args;
mod client;
mod connections;
mod deadline;
mod encoding;
mod hub;
mod routes;

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    thread::{self, JoinHandle},
};

pub use args::ServeArguments;
pub use hub::Status;
use nemostt::cues::CueRules;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    net::{TcpListener, TcpSocket},
    runtime::{Builder, Runtime},
    sync::watch,
};

use self::{access::Access, hub::Hub, routes::Site};
use super::caption::Caption;
use crate::Result;

/// Title of captions that have no name.
const TITLE: &str = "Live captions";
/// Bytes that the system buffers for a client. More would only hide that it is slow.
const SEND_BUFFER: u32 = 64 * 1024;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
/// Files that may be open: a connection each, and what the rest of the process needs. Many systems allow 1,024 unless a process
/// asks for more.
const OPEN_FILES: u64 = 4096;

/// The running server.
pub struct Server {
    hub: Arc<Hub>,
    urls: Vec<String>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves captions of `title`, if the command line has no other one; `rules` are those of WebVTT cues.
    ///
    /// # Errors
    /// One line, if the address cannot be used.
    pub fn start(arguments: &ServeArguments, title: Option<&str>, rules: CueRules) -> Result<Option<Self>> {
        let Some(address) = arguments.address else {
            return Ok(None);
        };
        let failed = |error: io::Error| format!("cannot serve captions at {address}: {error}");
        raise_file_limit();
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let listener = listen(&runtime, address).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let token = arguments.token_for(address)?;
        let query = token
            .as_ref()
            .map(|token| format!("?token={token}"))
            .unwrap_or_default();
        let urls = addresses::reachable(address)
            .into_iter()
            .map(|address| format!("http://{address}/{query}"))
            .collect();
        let title = arguments.title.as_deref().or(title).unwrap_or(TITLE);
        let hub = Arc::new(Hub::new(title, rules).map_err(|error| failed(io::Error::other(error)))?);
        let site = Arc::new(Site {
            hub: hub.clone(),
            access: Access::new(address, &arguments.serve_host, token.as_deref()),
        });
        let (stop, stopped) = watch::channel(false);
        let run = move || runtime.block_on(connections::serve(listener, site, stopped));
        let thread = thread::Builder::new()
            .name("nemostt-serve".into())
            .spawn(run)
            .map_err(failed)?;
        Ok(Some(Self {
            hub,
            urls,
            stop,
            thread: Some(thread),
        }))
    }

    /// The addresses of the page, with the token if there is one: first that for this machine, if it has one.
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// Sends a caption to all clients.
    pub fn caption(&self, caption: &Caption) {
        self.hub.caption(caption);
    }

    /// Tells all clients how the source is.
    pub fn status(&self, status: Status, message: &str) {
        self.hub.status(status, message);
    }
}

impl Drop for Server {
    /// Tells all clients that the captions have ended, and closes their connections.
    fn drop(&mut self) {
        self.hub.end();
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            // A panic there was printed, and the captions have ended anyway.
            let _ = thread.join();
        }
    }
}

/// Asks for enough files. With fewer, connections wait until others are closed.
fn raise_file_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(OPEN_FILES, |maximum| maximum.min(OPEN_FILES));
    if current.is_some_and(|current| current < wanted) {
        let limit = Rlimit {
            current: Some(wanted),
            maximum,
        };
        // What there is may be enough.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

/// Listens at `address`, also if connections of an earlier process are still being closed there.
fn listen(runtime: &Runtime, address: SocketAddr) -> io::Result<TcpListener> {
    let _entered = runtime.enter();
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests;
