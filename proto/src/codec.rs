//! A tonic codec that refuses unknown fields: prost's, behind the check of [`crate::known`].

use std::marker::PhantomData;

use bytes::Buf as _;
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::ProstEncoder;

use crate::known::{self, Checked};

/// Encodes `T`, decodes `U` and refuses what `U` does not know with `INVALID_ARGUMENT`.
#[derive(Debug)]
pub struct StrictCodec<T, U>(PhantomData<(T, U)>);

/// The decoding half of [`StrictCodec`].
#[derive(Debug)]
pub struct StrictDecoder<U>(PhantomData<U>);

// === impl StrictCodec ===

impl<T, U> Default for StrictCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for StrictCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Checked + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = StrictDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::default())
    }

    fn decoder(&mut self) -> Self::Decoder {
        StrictDecoder(PhantomData)
    }
}

// === impl StrictDecoder ===

impl<U: Message + Default + Checked> Decoder for StrictDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let bytes = buf.copy_to_bytes(buf.remaining());
        known::check::<U>(&bytes)
            .map_err(|refusal| Status::invalid_argument(refusal.to_string()))?;
        let frame = U::decode(bytes)
            .map_err(|error| Status::invalid_argument(format!("{}: {error}", U::KNOWN.name)))?;
        Ok(Some(frame))
    }
}
