// SPDX-License-Identifier: MIT OR Apache-2.0

//! The connection to one server, which all its sequences share.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
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
    channel: Mutex<Numbered>,
    headers: MetadataMap,
}

/// A connection, and how many there were before it.
#[derive(Debug)]
struct Numbered {
    channel: Channel,
    number: u64,
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
            endpoint = endpoint.tls_config(tls).map_err(|error| Error::Setup {
                reason: format!(
                    "{}. TLS needs CA certificates: install the system's (Debian: ca-certificates), or name a file with \
                     SSL_CERT_FILE",
                    with_causes(&error)
                ),
            })?;
        }
        let channel = Mutex::new(Numbered {
            channel: connect(&endpoint)?,
            number: 0,
        });
        Ok(Self {
            name: server.to_string(),
            endpoint,
            channel,
            headers,
        })
    }

    /// For calls over the connection, and its number for [`replace`](Self::replace).
    pub(crate) fn service(&self) -> (Service, u64) {
        let (channel, number) = {
            let current = self.current();
            (current.channel.clone(), current.number)
        };
        let grpc = Grpc::new(channel).max_decoding_message_size(MAX_MESSAGE);
        let headers = self.headers.clone();
        (Service { grpc, headers }, number)
    }

    /// Lets further calls use a new connection: the one with this number has not answered, and if packets are lost on its way, it takes
    /// minutes until TCP gives up. All its calls find that out; the first one replaces it.
    pub(crate) fn replace(&self, number: u64) {
        let mut current = self.current();
        if current.number == number
            && let Ok(channel) = connect(&self.endpoint)
        {
            *current = Numbered {
                channel,
                number: number + 1,
            };
        }
    }

    fn current(&self) -> MutexGuard<'_, Numbered> {
        self.channel.lock().unwrap_or_else(PoisonError::into_inner)
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
