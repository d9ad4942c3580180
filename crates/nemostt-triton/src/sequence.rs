// SPDX-License-Identifier: MIT OR Apache-2.0

//! A sequence of requests whose state is on the server.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::{
    connection::Connection,
    error::{Call, Error, Result, printable},
    interrupt::Interrupt,
    messages::{InferParameter, InferTensor, ModelInferRequest, ModelInferResponse, ParameterChoice, RequestedOutput},
    runtime,
    service::Service,
    tensor::{DataType, Tensor},
};

/// How long a stream whose sequence has ended stays open for the answer to END.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// A sequence of requests, on one server, in one `ModelStreamInfer`. Dropping it frees its place there: a request with the flag END
/// is sent in the background. If that does not arrive, the server ends the sequence after `max_sequence_idle_microseconds`.
#[derive(Debug)]
pub struct Sequence {
    connection: Arc<Connection>,
    /// Of its connections, the one that this uses.
    connection_number: u64,
    model: String,
    /// Random and not 0, so that clients need not know of each other.
    id: i64,
    timeout: Duration,
    requests: mpsc::UnboundedSender<ModelInferRequest>,
    responses: mpsc::UnboundedReceiver<Result<ModelInferResponse>>,
    /// Requests so far.
    sent: u64,
    received: u64,
    /// A valid request, for END.
    first: Option<ModelInferRequest>,
    end: End,
    /// The only output of END.
    end_output: String,
}

/// How the server learns that the sequence ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// By a request in its stream.
    InStream,
    /// By one in another stream, because an error has ended its own, but not the sequence.
    InAnother,
    /// It has forgotten the sequence.
    Unneeded,
}

/// What a request returned.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    /// The outputs that were computed.
    pub outputs: Vec<Tensor>,
}

impl Response {
    /// The output of this name.
    pub fn output(&self, name: &str) -> Option<&Tensor> {
        self.outputs.iter().find(|output| output.name == name)
    }
}

impl Sequence {
    /// Nothing is sent before the first request.
    pub(crate) fn new(connection: Arc<Connection>, model: &str, timeout: Duration, end_output: &str) -> Result<Self> {
        let id = random_id()?;
        let (incoming, responses) = mpsc::unbounded_channel();
        let (requests, connection_number) = Transfer::start(&connection, model, incoming)?;
        Ok(Self {
            connection,
            connection_number,
            model: model.into(),
            id,
            timeout,
            requests,
            responses,
            sent: 0,
            received: 0,
            first: None,
            end: End::InStream,
            end_output: end_output.into(),
        })
    }

    /// The server.
    pub fn server(&self) -> &str {
        &self.connection.name
    }

    /// Sends a request with these inputs, the first with the flag START, and waits for its outputs.
    ///
    /// # Errors
    /// See [`Error`]. The sequence cannot be used any more then.
    pub fn infer(&mut self, inputs: Vec<Tensor>, interrupt: &Interrupt) -> Result<Response> {
        self.send(inputs);
        self.receive(interrupt)
    }

    /// Sends a request with these inputs, the first with the flag START, without waiting: [`receive`](Self::receive) has its
    /// outputs. Several may be on their way.
    pub fn send(&mut self, inputs: Vec<Tensor>) {
        let mut parameters = vec![
            ("sequence_id", ParameterChoice::Int64(self.id)),
            ("timeout", ParameterChoice::Int64(self.queue_timeout())),
        ];
        if self.sent == 0 {
            parameters.push(("sequence_start", ParameterChoice::Bool(true)));
        }
        let request = self.request(inputs, parameters);
        self.first.get_or_insert_with(|| request.clone());
        self.sent += 1;
        // If the stream has ended, `receive` says why.
        let _ = self.requests.send(request);
    }

    /// Waits for the outputs of the oldest request that it has not returned yet.
    ///
    /// # Errors
    /// See [`Error`]. The sequence cannot be used any more then.
    pub fn receive(&mut self, interrupt: &Interrupt) -> Result<Response> {
        let (timeout, responses) = (self.timeout, &mut self.responses);
        let received = runtime::block_on(async {
            tokio::select! {
                biased;
                () = interrupt.until_set() => Err(Error::Interrupted),
                response = responses.recv() => Ok(response),
                () = tokio::time::sleep(timeout) => Ok(Some(Err(Error::Timeout {
                    server: self.connection.name.clone(),
                    after: timeout,
                }))),
            }
        })?;
        let response = match received?.unwrap_or_else(|| Err(self.closed())) {
            Ok(response) => response,
            Err(error) => {
                if matches!(error, Error::Timeout { .. }) {
                    self.connection.replace(self.connection_number);
                }
                return Err(self.failed(error));
            }
        };
        self.decode(response)
    }

    /// Waits for an answer, whatever is in it.
    pub(crate) async fn answered(&mut self) -> Result<()> {
        let response = self.responses.recv().await.unwrap_or_else(|| Err(self.closed()));
        response.map(drop).map_err(|error| self.failed(error))
    }

    /// Notes that a request has failed with `error`.
    fn failed(&mut self, mut error: Error) -> Error {
        if let Error::Busy { is_first, .. } = &mut error {
            *is_first = self.received == 0;
        }
        // After other errors, the server has ended the stream.
        let is_open = matches!(error, Error::Timeout { .. } | Error::Interrupted);
        let has_state = !matches!(error, Error::SequenceLost { .. });
        self.end = match (is_open, has_state) {
            (true, _) => End::InStream,
            (false, true) => End::InAnother,
            (false, false) => End::Unneeded,
        };
        error
    }

    /// What the server may take until it computes a request, in microseconds: less than the client waits, so that the server's
    /// answer says what it was.
    fn queue_timeout(&self) -> i64 {
        i64::try_from(self.timeout.as_micros() * 4 / 5).unwrap_or(i64::MAX)
    }

    fn request(&self, inputs: Vec<Tensor>, parameters: Vec<(&str, ParameterChoice)>) -> ModelInferRequest {
        let described = inputs.into_iter().map(|input| {
            let tensor = InferTensor {
                name: input.name,
                datatype: input.data_type.name().into(),
                shape: input.shape,
            };
            (tensor, input.data)
        });
        let (inputs, raw_input_contents) = described.unzip();
        ModelInferRequest {
            model_name: self.model.clone(),
            id: self.sent.to_string(),
            parameters: with_names(parameters),
            inputs,
            raw_input_contents,
            ..Default::default()
        }
    }

    fn decode(&mut self, response: ModelInferResponse) -> Result<Response> {
        if response.id != self.received.to_string() {
            return Err(self.malformed(format!("it is for request {}, expected {}", response.id, self.received)));
        }
        self.received += 1;
        if response.outputs.len() != response.raw_output_contents.len() {
            let (outputs, raw) = (response.outputs.len(), response.raw_output_contents.len());
            return Err(self.malformed(format!("it has {outputs} outputs, but contents of {raw}")));
        }
        let outputs = response.outputs.into_iter().zip(response.raw_output_contents);
        let outputs = outputs.map(|(output, data)| {
            let Some(data_type) = DataType::from_name(&output.datatype) else {
                let InferTensor { name, datatype, .. } = output;
                return Err(self.malformed(format!("output {name} is {datatype}, expected FP32 or INT64")));
            };
            let tensor = Tensor {
                name: output.name,
                data_type,
                shape: output.shape,
                data,
            };
            match tensor.is_complete() {
                true => Ok(tensor),
                false => Err(self.malformed(format!(
                    "output {} has {} bytes, which does not match its shape {:?}",
                    tensor.name,
                    tensor.data.len(),
                    tensor.shape
                ))),
            }
        });
        Ok(Response {
            outputs: outputs.collect::<Result<_>>()?,
        })
    }

    fn malformed(&self, reason: String) -> Error {
        Error::Malformed {
            server: self.connection.name.clone(),
            reason: printable(&reason),
        }
    }

    fn closed(&self) -> Error {
        Error::Unreachable {
            server: self.connection.name.clone(),
            reason: "it has ended the stream".into(),
        }
    }
}

impl Drop for Sequence {
    fn drop(&mut self) {
        let Some(first) = self.first.take() else { return };
        let end = ModelInferRequest {
            id: self.sent.to_string(),
            parameters: with_names(vec![
                ("sequence_id", ParameterChoice::Int64(self.id)),
                ("sequence_end", ParameterChoice::Bool(true)),
            ]),
            outputs: vec![RequestedOutput {
                name: std::mem::take(&mut self.end_output),
            }],
            ..first
        };
        match self.end {
            End::InStream => drop(self.requests.send(end)),
            End::Unneeded => {}
            End::InAnother => {
                let (incoming, _) = mpsc::unbounded_channel();
                if let Ok((requests, _)) = Transfer::start(&self.connection, &self.model, incoming) {
                    drop(requests.send(end));
                }
            }
        }
    }
}

/// Moves requests and responses, on the runtime.
struct Transfer {
    server: String,
    model: String,
    incoming: mpsc::UnboundedSender<Result<ModelInferResponse>>,
}

impl Transfer {
    /// Starts a stream of requests over `connection`. Returns where they are sent to, and the connection's number.
    fn start(
        connection: &Connection,
        model: &str,
        incoming: mpsc::UnboundedSender<Result<ModelInferResponse>>,
    ) -> Result<(mpsc::UnboundedSender<ModelInferRequest>, u64)> {
        let (requests, outgoing) = mpsc::unbounded_channel();
        let transfer = Self {
            server: connection.name.clone(),
            model: model.into(),
            incoming,
        };
        let (service, number) = connection.service();
        runtime::runtime()?.spawn(transfer.run(service, outgoing));
        Ok((requests, number))
    }

    async fn run(self, mut service: Service, outgoing: mpsc::UnboundedReceiver<ModelInferRequest>) {
        let transfer = async {
            if let Err(error) = self.transfer(&mut service, outgoing).await {
                let _ = self.incoming.send(Err(error));
            }
        };
        tokio::select! {
            () = transfer => {}
            () = async {
                self.incoming.closed().await;
                tokio::time::sleep(END_TIMEOUT).await;
            } => {}
        }
    }

    async fn transfer(
        &self,
        service: &mut Service,
        outgoing: mpsc::UnboundedReceiver<ModelInferRequest>,
    ) -> Result<()> {
        let call = Call {
            server: &self.server,
            model: &self.model,
        };
        let failed = |status| call.failed(&status);
        let requests = UnboundedReceiverStream::new(outgoing);
        let mut responses = service.stream_infer(requests).await.map_err(failed)?;
        while let Some(message) = responses.message().await.map_err(failed)? {
            match message.infer_response {
                _ if !message.error_message.is_empty() => return Err(call.failed_with(&message.error_message)),
                // Nobody waits for the answer to END.
                Some(response) => drop(self.incoming.send(Ok(response))),
                None => {}
            }
        }
        Ok(())
    }
}

fn random_id() -> Result<i64> {
    loop {
        let id = getrandom::u64().map_err(|error| Error::Setup {
            reason: format!("no random number: {error}"),
        })?;
        // 0 means that a request is in no sequence.
        if id != 0 {
            return Ok(id.cast_signed());
        }
    }
}

fn with_names(parameters: Vec<(&str, ParameterChoice)>) -> HashMap<String, InferParameter> {
    let named = parameters
        .into_iter()
        .map(|(name, choice)| (name.into(), choice.into()));
    named.collect()
}
