//! The codec that the generated code calls.

use std::{marker::PhantomData, sync::Arc};

use grpc_wire::limits;
use prost::Message;
use tonic::{
    Status,
    codec::{self, BufferSettings, DecodeBuf},
};
use tonic_prost::ProstEncoder;

/// tonic-prost's codec, except that an error of decoding is the source of its status:
/// so it can be told from a status that the peer has sent.
#[derive(Debug)]
pub(crate) struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Message + 'static, U: Message + Default + 'static> codec::Codec for Codec<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = Decoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(limits::codec_buffers())
    }

    fn decoder(&mut self) -> Self::Decoder {
        Decoder(PhantomData)
    }
}

/// See [`Codec`].
#[derive(Debug)]
pub(crate) struct Decoder<U>(PhantomData<U>);

impl<U: Message + Default> codec::Decoder for Decoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        U::decode(message).map(Some).map_err(|error| {
            let mut status = Status::internal(error.to_string());
            status.set_source(Arc::new(error));
            status
        })
    }

    fn buffer_settings(&self) -> BufferSettings {
        limits::codec_buffers()
    }
}

#[cfg(test)]
mod tests {
    use prost::DecodeError;
    use tonic::{Streaming, codec::Codec as _};

    use super::*;

    #[tokio::test]
    async fn an_error_of_decoding_is_the_source_of_its_status() {
        // A field of a type that there is not.
        let message = "\0\0\0\0\x01\x07".to_owned();
        let decoder = Codec::<(), ()>::default().decoder();
        let status = Streaming::new_request(decoder, message, None, None).message().await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Internal);
        assert!(std::error::Error::source(&status).is_some_and(|source| source.is::<DecodeError>()));
    }
}
