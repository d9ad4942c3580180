// SPDX-License-Identifier: MIT OR Apache-2.0

//! Accepts connections and serves them over HTTP/2.

use std::{net::Ipv4Addr, sync::Arc};

use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use tokio::{
    net::TcpListener,
    task::{AbortHandle, JoinSet},
};

use super::{
    rpc::Rpc,
    state::{Shared, lock},
};
use crate::error::{Error, Result};

/// A server that listens until it is dropped; its connections then break.
pub(super) struct Listening {
    pub(super) port: u16,
    task: AbortHandle,
}

impl Listening {
    pub(super) async fn start(port: u16, shared: Arc<Shared>) -> Result<Self> {
        let setup = |error: std::io::Error| Error::Setup {
            reason: error.to_string(),
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(setup)?;
        let port = listener.local_addr().map_err(setup)?.port();
        let task = tokio::spawn(accept(listener, shared)).abort_handle();
        Ok(Self { port, task })
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
        // The port is free once the task has ended.
        while !self.task.is_finished() {
            std::thread::yield_now();
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropping it aborts all connections.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        lock(&shared.state).connections += 1;
        let service = TowerToHyperService::new(Rpc(shared.clone()));
        let connection = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
        connections.spawn(connection);
    }
}
