// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the server knows: its model, the sequences, and what is wrong with it.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;
use tonic::Status;

use super::{Faults, Model, Received};
use crate::{
    client::ModelInfo,
    messages::{InferTensor, ModelInferRequest, ModelInferResponse, ParameterChoice},
    tensor::{DataType, Tensor},
};

pub(super) struct Shared {
    pub(super) name: String,
    pub(super) state: Mutex<State>,
    /// Notified when a sequence ends or faults change.
    pub(super) changed: Notify,
}

pub(super) struct State {
    pub(super) info: ModelInfo,
    model: Box<dyn Model>,
    pub(super) sequences: HashSet<i64>,
    pub(super) received: Vec<Received>,
    pub(super) headers: http::HeaderMap,
    pub(super) faults: Faults,
    pub(super) connections: usize,
}

impl Shared {
    pub(super) fn new(name: &str, info: ModelInfo, model: Box<dyn Model>) -> Self {
        let state = State {
            info,
            model,
            sequences: HashSet::new(),
            received: Vec::new(),
            headers: http::HeaderMap::new(),
            faults: Faults::default(),
            connections: 0,
        };
        Self {
            name: name.into(),
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }

    /// Whether `name` can be used.
    pub(super) fn check_ready(&self, name: &str) -> Result<(), Status> {
        match (name == self.name, lock(&self.state).faults.is_not_ready) {
            (false, _) => Err(Status::not_found(format!(
                "Request for unknown model: '{name}' is not found"
            ))),
            (true, true) => Err(Status::unavailable(format!(
                "Request for unknown model: '{name}' version 1 is not at ready state"
            ))),
            (true, false) => Ok(()),
        }
    }

    /// Returns when calls are answered.
    pub(super) async fn answer_calls(&self) {
        loop {
            let changed = self.changed.notified();
            if !lock(&self.state).faults.hangs {
                return;
            }
            changed.await;
        }
    }

    /// Computes a request when it is its turn.
    pub(super) async fn infer(&self, request: ModelInferRequest) -> Result<ModelInferResponse, Status> {
        self.check_ready(&request.model_name)?;
        let received = Received::of(&request);
        lock(&self.state).received.push(received.clone());
        let delay = lock(&self.state).faults.delay;
        tokio::time::sleep(delay).await;
        let timeout = match received.timeout {
            0 => Duration::from_secs(600),
            micros => Duration::from_micros(micros.unsigned_abs()),
        };
        loop {
            let changed = self.changed.notified();
            self.answer_calls().await;
            if lock(&self.state).has_place(&received) {
                break;
            }
            if tokio::time::timeout(timeout, changed).await.is_err() {
                return Err(Status::unavailable("Request timeout expired"));
            }
        }
        let result = lock(&self.state).run(&received, request);
        self.changed.notify_waiters();
        result
    }
}

impl State {
    pub(super) fn forget_sequences(&mut self) {
        for id in self.sequences.drain() {
            self.model.end(id);
        }
    }

    fn has_place(&self, request: &Received) -> bool {
        let max = self.faults.max_sequences.unwrap_or(usize::MAX);
        !request.is_start || self.sequences.contains(&request.id) || self.sequences.len() < max
    }

    fn run(&mut self, received: &Received, request: ModelInferRequest) -> Result<ModelInferResponse, Status> {
        let &Received {
            id, is_start, is_end, ..
        } = received;
        if !is_start && !self.sequences.contains(&id) {
            return Err(Status::invalid_argument(format!(
                "inference request for sequence {id} to model '{}' must specify the START flag on the first request of the \
                 sequence",
                request.model_name
            )));
        }
        self.sequences.insert(id);
        let inputs = request.inputs.into_iter().zip(request.raw_input_contents);
        let inputs: Option<Vec<Tensor>> = inputs.map(|(input, data)| tensor(input, data)).collect();
        let inputs = inputs.ok_or_else(|| Status::invalid_argument("unexpected datatype"))?;
        let outputs = self.model.run(id, is_start, &inputs);
        if is_end {
            self.sequences.remove(&id);
            self.model.end(id);
        }
        let outputs = outputs.map_err(Status::internal)?;
        let is_requested =
            |tensor: &Tensor| request.outputs.is_empty() || request.outputs.iter().any(|o| o.name == tensor.name);
        let outputs = outputs
            .into_iter()
            .filter(is_requested)
            .map(|tensor| self.faults.distort(tensor));
        let (outputs, raw_output_contents) = outputs.map(|tensor| (described(&tensor), tensor.data)).unzip();
        Ok(ModelInferResponse {
            model_name: request.model_name,
            model_version: "1".into(),
            id: request.id,
            outputs,
            raw_output_contents,
        })
    }
}

impl Faults {
    fn distort(&self, tensor: Tensor) -> Tensor {
        match (tensor.data_type, self.float, self.integer) {
            (DataType::Fp32, Some(value), _) => {
                let count = tensor.data.len() / DataType::Fp32.size();
                Tensor::f32(&tensor.name, &tensor.shape, &vec![value; count])
            }
            (DataType::Int64, _, Some(value)) => {
                let count = tensor.data.len() / DataType::Int64.size();
                Tensor::i64(&tensor.name, &tensor.shape, &vec![value; count])
            }
            _ => tensor,
        }
    }
}

impl Received {
    fn of(request: &ModelInferRequest) -> Self {
        let parameter = |name| {
            request
                .parameters
                .get(name)
                .and_then(|parameter| parameter.choice.clone())
        };
        let flag = |name| matches!(parameter(name), Some(ParameterChoice::Bool(true)));
        let number = |name| match parameter(name) {
            Some(ParameterChoice::Int64(number)) => number,
            _ => 0,
        };
        Self {
            id: number("sequence_id"),
            is_start: flag("sequence_start"),
            is_end: flag("sequence_end"),
            timeout: number("timeout"),
        }
    }
}

fn tensor(described: InferTensor, data: bytes::Bytes) -> Option<Tensor> {
    Some(Tensor {
        name: described.name,
        data_type: DataType::from_name(&described.datatype)?,
        shape: described.shape,
        data,
    })
}

fn described(tensor: &Tensor) -> InferTensor {
    InferTensor {
        name: tensor.name.clone(),
        datatype: tensor.data_type.name().into(),
        shape: tensor.shape.clone(),
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
