//! The services of the tutorials that people start from, so that the clients
//! they write first work against this server unchanged.

use shared_proto::tutorial::{
    greeter::{HelloRequest, HelloResponse, greeter_server::Greeter},
    streaming_demo::{RequestMessage, ResponseMessage, stream_service_server::StreamService},
};
use tokio_stream::{Iter, iter};
use tonic::{Request, Response, Status};

#[derive(Debug)]
pub(crate) struct Tutorial;

#[tonic::async_trait]
impl Greeter for Tutorial {
    async fn say_hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloResponse>, Status> {
        let name = format!("我是{}", request.into_inner().name);
        Ok(Response::new(HelloResponse { name }))
    }
}

#[tonic::async_trait]
impl StreamService for Tutorial {
    type ServerStreamingStream = Iter<std::array::IntoIter<Result<ResponseMessage, Status>, 4>>;

    async fn server_streaming(
        &self,
        _: Request<RequestMessage>,
    ) -> Result<Response<Self::ServerStreamingStream>, Status> {
        let messages =
            [1, 2, 3, 4].map(|n| Ok(ResponseMessage { server_response: format!("Response message {n}") }));
        Ok(Response::new(iter(messages)))
    }
}
