// SPDX-License-Identifier: MIT OR Apache-2.0

//! The calls of `inference.GRPCInferenceService`, as a server.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming, body::Body, codegen::Service, server::Grpc};
use tonic_prost::ProstCodec;

use super::state::{Shared, lock};
use crate::{
    client::TensorSpec,
    messages::{
        ModelConfig, ModelConfigRequest, ModelConfigResponse, ModelInferRequest, ModelMetadataRequest,
        ModelMetadataResponse, ModelParameter, ModelReadyRequest, ModelReadyResponse, ModelStreamInferResponse,
        TensorMetadata,
    },
    service::{CONFIG, METADATA, READY, STREAM_INFER},
};

type BoxFuture<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;
type Responses = Pin<Box<dyn Stream<Item = Result<ModelStreamInferResponse, Status>> + Send>>;

/// The service, by path.
#[derive(Clone)]
pub(super) struct Rpc(pub(super) Arc<Shared>);

impl<B> Service<http::Request<B>> for Rpc
where
    B: hyper::body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let shared = self.0.clone();
        lock(&shared.state).headers = request.headers().clone();
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            Ok(match path.as_str() {
                READY => Grpc::new(ProstCodec::default()).unary(Ready(shared), request).await,
                METADATA => Grpc::new(ProstCodec::default()).unary(Metadata(shared), request).await,
                CONFIG => Grpc::new(ProstCodec::default()).unary(Config(shared), request).await,
                STREAM_INFER => Grpc::new(ProstCodec::default()).streaming(Infer(shared), request).await,
                _ => Status::unimplemented(path).into_http(),
            })
        })
    }
}

/// A call with one request.
macro_rules! unary {
    ($name:ident, $request:ty => $response:ty, $answer:expr) => {
        struct $name(Arc<Shared>);

        impl Service<Request<$request>> for $name {
            type Response = Response<$response>;
            type Error = Status;
            type Future = BoxFuture<Self::Response, Status>;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: Request<$request>) -> Self::Future {
                let shared = self.0.clone();
                Box::pin(async move {
                    shared.answer_calls().await;
                    shared.check_ready(&request.get_ref().name)?;
                    let answer: fn(&Shared) -> $response = $answer;
                    Ok(Response::new(answer(&shared)))
                })
            }
        }
    };
}

unary!(Ready, ModelReadyRequest => ModelReadyResponse, |_| ModelReadyResponse { ready: true });

unary!(Metadata, ModelMetadataRequest => ModelMetadataResponse, |shared| {
    let info = lock(&shared.state).info.clone();
    let metadata = |specs: Vec<TensorSpec>| specs.into_iter().map(|spec| TensorMetadata {
        name: spec.name,
        datatype: spec.data_type,
        shape: spec.shape,
    }).collect();
    ModelMetadataResponse {
        name: shared.name.clone(),
        versions: info.versions,
        platform: String::new(),
        inputs: metadata(info.inputs),
        outputs: metadata(info.outputs),
    }
});

unary!(Config, ModelConfigRequest => ModelConfigResponse, |shared| {
    let parameters = lock(&shared.state).info.parameters.clone().into_iter();
    let config = ModelConfig {
        name: shared.name.clone(),
        parameters: parameters.map(|(name, string_value)| (name, ModelParameter { string_value })).collect(),
        ..Default::default()
    };
    ModelConfigResponse { config: Some(config) }
});

struct Infer(Arc<Shared>);

impl Service<Request<Streaming<ModelInferRequest>>> for Infer {
    type Response = Response<Responses>;
    type Error = Status;
    type Future = BoxFuture<Self::Response, Status>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Streaming<ModelInferRequest>>) -> Self::Future {
        let shared = self.0.clone();
        let responses = request.into_inner().then(move |request| {
            let shared = shared.clone();
            async move {
                let result = shared.infer(request?).await;
                let as_text = lock(&shared.state).faults.errors_as_text;
                match result {
                    Ok(response) => Ok(ModelStreamInferResponse {
                        error_message: String::new(),
                        infer_response: Some(response),
                    }),
                    Err(status) if as_text => Ok(ModelStreamInferResponse {
                        error_message: status.message().into(),
                        infer_response: None,
                    }),
                    Err(status) => Err(status),
                }
            }
        });
        Box::pin(async move { Ok(Response::new(Box::pin(responses) as Responses)) })
    }
}
