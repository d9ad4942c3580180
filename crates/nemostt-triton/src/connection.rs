// SPDX-License-Identifier: MIT OR Apache-2.0

//! The connection to one server, which all its sequences share.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tonic::{
    client::Grpc,
    metadata::MetadataMap,
    transport::{Channel, ClientTlsConfig, Endpoint},
};

use crate::{
    address::{Address, Server},
    error::{Error, Result},
    runtime::runtime,
    service::Service,
};

/// HTTP/2 pings while nothing is received. gRPC's servers end connections with more frequent ones if no data is sent
/// (`GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS`, 5 minutes). Dead connections show earlier: by requests that are not
/// answered in time, and by TCP.
const PING_INTERVAL: Duration = Duration::from_secs(310);
/// A server that does not answer a ping is gone.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Probes of TCP itself, which also keep the connection in the tables of routers.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
/// Frames of one chunk have some 100 kB at most; log-probabilities over a large vocabulary, some MB.
pub(crate) const MAX_MESSAGE: usize = 64 << 20;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) name: String,
    endpoint: Endpoint,
    channel: Mutex<Channel>,
    headers: MetadataMap,
}

impl Connection {
    /// Connects with the first call.
    pub(crate) fn new(
        address: &Address,
        server: &Server,
        headers: MetadataMap,
        connect_timeout: Duration,
    ) -> Result<Self> {
        let setup = |error: tonic::transport::Error| Error::Setup {
            reason: with_causes(&error),
        };
        let scheme = if address.tls { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{server}"))
            .map_err(setup)?
            .user_agent(concat!("nemostt/", env!("CARGO_PKG_VERSION")))
            .map_err(setup)?
            .connect_timeout(connect_timeout)
            .tcp_nodelay(true)
            .tcp_keepalive(Some(TCP_KEEPALIVE))
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true);
        if address.tls {
            let tls = ClientTlsConfig::new().with_native_roots();
            endpoint = endpoint.tls_config(tls).map_err(setup)?;
        }
        let channel = Mutex::new(connect(&endpoint)?);
        Ok(Self {
            name: server.to_string(),
            endpoint,
            channel,
            headers,
        })
    }

    pub(crate) fn service(&self) -> Service {
        let channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let grpc = Grpc::new(channel).max_decoding_message_size(MAX_MESSAGE);
        Service {
            grpc,
            headers: self.headers.clone(),
        }
    }

    /// Lets further calls use a new connection: this one has not answered, and if packets are lost on its way, it takes minutes
    /// until TCP gives up.
    pub(crate) fn replace(&self) {
        if let Ok(channel) = connect(&self.endpoint) {
            *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = channel;
        }
    }
}

fn connect(endpoint: &Endpoint) -> Result<Channel> {
    let _inside = runtime()?.enter();
    Ok(endpoint.connect_lazy())
}

/// The message of `error` and those of its causes.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
