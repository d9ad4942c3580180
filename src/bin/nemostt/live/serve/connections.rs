// SPDX-License-Identifier: MIT OR Apache-2.0

//! Connections: they are accepted, served and closed.

use std::{convert::Infallible, future::ready, pin::pin, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    select,
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    admission::{Connections, Handle},
    deadline::WriteDeadline,
    hub::MAX_CLIENTS,
    routes::Site,
};

/// Connections at the same time: those of clients, and some that are refused or ask for something else.
const MAX_CONNECTIONS: usize = MAX_CLIENTS + 100;
/// How long a client may take to send a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may read nothing of what is sent.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// Time between comments.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long clients may take at the end to receive the rest.
const END_TIMEOUT: Duration = Duration::from_secs(1);
/// How long to wait after an error of `accept`, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Bytes that hyper buffers for a connection.
const BUFFER: usize = 64 * 1024;

/// Serves `site` until `stop` changes, then closes all connections.
pub async fn serve(listener: TcpListener, site: Arc<Site>, mut stop: watch::Receiver<bool>) {
    let mut tasks = JoinSet::new();
    let mut connections = Connections::new(MAX_CONNECTIONS);
    let mut ticks = interval(KEEP_ALIVE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => if let Some((number, handle)) = connections.admit(peer.ip()) {
                    let connection = serve_connection(stream, handle, site.clone(), stop.clone());
                    tasks.spawn(async move {
                        connection.await;
                        number
                    });
                },
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
            Some(ended) = tasks.join_next() => if let Ok(number) = ended {
                connections.remove(number);
            },
            _ = ticks.tick() => site.hub.keep_alive(),
            _ = stop.changed() => break,
        }
    }
    drop(listener);
    let all = async { while tasks.join_next().await.is_some() {} };
    // Those that are left are closed with the runtime.
    let _ = timeout(END_TIMEOUT, all).await;
}

/// Serves one connection until it ends, its client is too slow, or `stop` changes.
async fn serve_connection(stream: TcpStream, handle: Arc<Handle>, site: Arc<Site>, mut stop: watch::Receiver<bool>) {
    // Captions are small, and wait for nothing.
    let _ = stream.set_nodelay(true);
    let close = handle.close.clone();
    let service = service_fn(move |request| ready(Ok::<_, Infallible>(site.respond(&request, &handle))));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(WriteDeadline::new(stream, WRITE_TIMEOUT)), service);
    let mut connection = pin!(connection);
    select! {
        // What went wrong concerns only the client.
        _ = connection.as_mut() => return,
        () = close.notified() => return,
        _ = stop.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
