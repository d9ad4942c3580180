// SPDX-License-Identifier: MIT OR Apache-2.0

//! The calls of `inference.GRPCInferenceService` over a channel.

use http::uri::PathAndQuery;
use tokio_stream::Stream;
use tonic::{
    Request, Status, Streaming,
    client::Grpc,
    metadata::{MetadataMap, MetadataValue},
    transport::Channel,
};
use tonic_prost::ProstCodec;

use crate::messages::{
    ModelConfig, ModelConfigRequest, ModelConfigResponse, ModelInferRequest, ModelMetadataRequest,
    ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse, ModelStreamInferResponse,
};

pub(crate) const READY: &str = "/inference.GRPCInferenceService/ModelReady";
pub(crate) const METADATA: &str = "/inference.GRPCInferenceService/ModelMetadata";
pub(crate) const CONFIG: &str = "/inference.GRPCInferenceService/ModelConfig";
pub(crate) const STREAM_INFER: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

/// Asks Triton to end a stream with gRPC's status when a request fails, instead of sending only a text.
pub(crate) const ERROR_HEADER: &str = "triton_grpc_error";

/// A server's service, with the headers of each request.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) grpc: Grpc<Channel>,
    pub(crate) headers: MetadataMap,
}

impl Service {
    pub(crate) async fn is_ready(&mut self, model: &str) -> Result<bool, Status> {
        let name = model.to_owned();
        let version = String::new();
        let response: ModelReadyResponse = self.call(READY, ModelReadyRequest { name, version }).await?;
        Ok(response.ready)
    }

    pub(crate) async fn metadata(&mut self, model: &str) -> Result<ModelMetadataResponse, Status> {
        let name = model.to_owned();
        let version = String::new();
        self.call(METADATA, ModelMetadataRequest { name, version }).await
    }

    pub(crate) async fn config(&mut self, model: &str) -> Result<ModelConfig, Status> {
        let name = model.to_owned();
        let version = String::new();
        let response: ModelConfigResponse = self.call(CONFIG, ModelConfigRequest { name, version }).await?;
        Ok(response.config.unwrap_or_default())
    }

    /// Sends `requests` as they come. The responses come in the same order if each waits for the one before it.
    pub(crate) async fn stream_infer(
        &mut self,
        requests: impl Stream<Item = ModelInferRequest> + Send + 'static,
    ) -> Result<Streaming<ModelStreamInferResponse>, Status> {
        self.ready().await?;
        let mut request = Request::new(requests);
        *request.metadata_mut() = self.headers.clone();
        request
            .metadata_mut()
            .insert(ERROR_HEADER, MetadataValue::from_static("true"));
        let path = PathAndQuery::from_static(STREAM_INFER);
        let codec = ProstCodec::<ModelInferRequest, ModelStreamInferResponse>::default();
        Ok(self.grpc.streaming(request, path, codec).await?.into_inner())
    }

    async fn call<M, R>(&mut self, path: &'static str, message: M) -> Result<R, Status>
    where
        M: prost::Message + 'static,
        R: prost::Message + Default + 'static,
    {
        self.ready().await?;
        let mut request = Request::new(message);
        *request.metadata_mut() = self.headers.clone();
        let path = PathAndQuery::from_static(path);
        let response = self.grpc.unary(request, path, ProstCodec::<M, R>::default()).await?;
        Ok(response.into_inner())
    }

    async fn ready(&mut self) -> Result<(), Status> {
        let ready = self.grpc.ready().await;
        ready.map_err(|error| Status::from_error(Box::new(error)))
    }
}
