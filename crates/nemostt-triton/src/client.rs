// SPDX-License-Identifier: MIT OR Apache-2.0

//! A model on one or more servers.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use tokio::sync::oneshot;
use tonic::{
    Status,
    metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap},
};

use crate::{
    address::Address,
    connection::Connection,
    error::{Call, Error, Result},
    interrupt::Interrupt,
    messages::TensorMetadata,
    runtime,
    sequence::Sequence,
    service::{ERROR_HEADER, Service},
    tensor::Tensor,
};

/// Headers of gRPC (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>) and of this client; another value would break the
/// connection, or the meaning of errors.
const OWN_HEADERS: [&str; 10] = [
    "connection",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    ERROR_HEADER,
];

/// Connecting and asking about a model takes this many times as long as a request may: round trips of TCP, TLS and HTTP/2, and three
/// calls.
const SETUP_TIMEOUTS: u32 = 4;

/// How a [`Client`] connects.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientOptions {
    /// Headers of each request, for proxies that authenticate, for example.
    pub headers: Vec<(String, String)>,
    /// What a request may take over a connection that is there; four times as long to connect and to ask about the model. The server
    /// gets four fifths of it to begin a sequence.
    pub timeout: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            headers: Vec::new(),
            timeout: Duration::from_secs(1),
        }
    }
}

/// Without the values of headers, which may be passwords.
impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("ClientOptions")
            .field("headers", &headers)
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// A model on one or more servers. Servers are numbered in the order of the [`Address`].
#[derive(Debug)]
pub struct Client {
    address: Address,
    timeout: Duration,
    connections: Vec<Arc<Connection>>,
}

/// What a server says about a model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelInfo {
    /// Its versions that are loaded.
    pub versions: Vec<String>,
    /// Its inputs.
    pub inputs: Vec<TensorSpec>,
    /// Its outputs.
    pub outputs: Vec<TensorSpec>,
    /// `parameters` of its configuration.
    pub parameters: BTreeMap<String, String>,
}

/// An input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name.
    pub name: String,
    /// Its type, with KServe's name.
    pub data_type: String,
    /// Its shape, with the batch first; -1 where any size is allowed.
    pub shape: Vec<i64>,
}

/// A question that is being asked in the background: see [`Client::probe`].
#[derive(Debug)]
pub struct Probe(oneshot::Receiver<Result<Probed>>);

/// The answer to a [`Probe`].
#[derive(Debug)]
pub struct Probed {
    /// What the server says about the model.
    pub info: ModelInfo,
    /// Whether the trial was answered, if there was one. Another model than expected may not understand it.
    pub trial: Result<()>,
}

/// The request of a sequence that is begun to see whether that is possible.
#[derive(Debug)]
pub struct Trial<'a> {
    /// Its inputs.
    pub inputs: Vec<Tensor>,
    /// As in [`Client::sequence`].
    pub end_output: &'a str,
}

impl Probe {
    /// The answer, once it is there.
    pub fn poll(&mut self) -> Option<Result<Probed>> {
        match self.0.try_recv() {
            Ok(result) => Some(result),
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => Some(Err(no_answer())),
        }
    }
}

impl Client {
    /// Prepares connections, without connecting.
    ///
    /// # Errors
    /// [`Error::Header`], [`Error::Setup`].
    pub fn new(address: Address, options: ClientOptions) -> Result<Self> {
        let headers = metadata(&options.headers)?;
        let setup_timeout = options.timeout * SETUP_TIMEOUTS;
        let connect = |server| Connection::new(&address, server, headers.clone(), setup_timeout);
        let connections = address.servers.iter().map(|server| connect(server).map(Arc::new));
        Ok(Self {
            connections: connections.collect::<Result<_>>()?,
            timeout: options.timeout,
            address,
        })
    }

    /// Where the model is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// What a request may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Number of servers.
    pub fn servers(&self) -> usize {
        self.connections.len()
    }

    /// A sequence on server `server`, counted from 0 and around. When it ends, only output `end_output` is asked for: a small one.
    ///
    /// # Errors
    /// [`Error::Setup`] if there is no random number.
    pub fn sequence(&self, server: usize, end_output: &str) -> Result<Sequence> {
        let connection = self.connection(server).clone();
        Sequence::new(connection, &self.address.model, self.timeout, end_output)
    }

    /// Asks server `server` about the model, which must be ready.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn model(&self, server: usize, interrupt: &Interrupt) -> Result<ModelInfo> {
        let Probe(mut answer) = self.probe(server, None)?;
        runtime::block_on(async {
            tokio::select! {
                biased;
                () = interrupt.until_set() => Err(Error::Interrupted),
                answer = &mut answer => answer.unwrap_or_else(|_| Err(no_answer())).map(|probed| probed.info),
            }
        })?
    }

    /// As [`model`](Self::model), in the background. With the inputs of a `trial`, a sequence of one request is begun, too, to see
    /// whether there is a place for another one.
    ///
    /// # Errors
    /// [`Error::Setup`].
    pub fn probe(&self, server: usize, trial: Option<Trial<'_>>) -> Result<Probe> {
        let connection = self.connection(server).clone();
        let trial = trial.map(|trial| {
            let mut sequence = self.sequence(server, trial.end_output)?;
            sequence.send(trial.inputs);
            Ok::<_, Error>(sequence)
        });
        let trial = trial.transpose()?;
        let (model, timeout) = (self.address.model.clone(), self.timeout * SETUP_TIMEOUTS);
        let (sender, receiver) = oneshot::channel();
        runtime::runtime()?.spawn(async move {
            let (mut service, number) = connection.service();
            let call = Call {
                server: &connection.name,
                model: &model,
            };
            let asked = async {
                let info = ask(&mut service, &model).await.map_err(|status| call.failed(&status))?;
                let trial = match trial {
                    Some(mut sequence) => sequence.answered().await,
                    None => Ok(()),
                };
                Ok(Probed { info, trial })
            };
            let answer = match tokio::time::timeout(timeout, asked).await {
                Ok(answer) => answer,
                Err(_) => {
                    connection.replace(number);
                    Err(Error::Timeout {
                        server: connection.name.clone(),
                        after: timeout,
                    })
                }
            };
            // Nobody may want to know any more.
            let _ = sender.send(answer);
        });
        Ok(Probe(receiver))
    }

    fn connection(&self, server: usize) -> &Arc<Connection> {
        &self.connections[server % self.connections.len()]
    }
}

/// The task that asks has panicked.
fn no_answer() -> Error {
    Error::Setup {
        reason: "the task that asks has failed".into(),
    }
}

async fn ask(service: &mut Service, model: &str) -> std::result::Result<ModelInfo, Status> {
    if !service.is_ready(model).await? {
        return Err(Status::not_found("the model is not ready"));
    }
    let metadata = service.metadata(model).await?;
    let config = service.config(model).await?;
    let specs = |tensors: Vec<TensorMetadata>| tensors.into_iter().map(TensorSpec::from).collect();
    let parameters = config.parameters.into_iter();
    Ok(ModelInfo {
        versions: metadata.versions,
        inputs: specs(metadata.inputs),
        outputs: specs(metadata.outputs),
        parameters: parameters.map(|(name, value)| (name, value.string_value)).collect(),
    })
}

impl From<TensorMetadata> for TensorSpec {
    fn from(tensor: TensorMetadata) -> Self {
        Self {
            name: tensor.name,
            data_type: tensor.datatype,
            shape: tensor.shape,
        }
    }
}

fn metadata(headers: &[(String, String)]) -> Result<MetadataMap> {
    let mut map = MetadataMap::new();
    for (name, value) in headers {
        let bad = |reason: String| Error::Header {
            name: name.clone(),
            reason,
        };
        let key: AsciiMetadataKey = name
            .to_lowercase()
            .parse()
            .map_err(|_| bad("a name has letters, digits, - and _, and does not end with -bin".into()))?;
        if key.as_str().starts_with("grpc-") || OWN_HEADERS.contains(&key.as_str()) {
            return Err(bad("gRPC sets it itself".into()));
        }
        // The value may be a password, so it is not repeated.
        let mut value: AsciiMetadataValue = value
            .parse()
            .map_err(|_| bad("its value has characters that are not printable ASCII".into()))?;
        value.set_sensitive(true);
        map.insert(key, value);
    }
    Ok(map)
}
