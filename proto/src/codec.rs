//! A tonic codec that refuses unknown fields: prost's, behind the check of [`crate::known`].

use std::marker::PhantomData;

use bytes::Buf as _;
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::ProstEncoder;

use crate::known::{self, Checked};

/// What a stream's buffers begin with, in bytes; they grow with what they must hold. Tonic's own 8
/// KiB each way would be half of what an idle sidecar costs the aggregator: an answer has some ten
/// bytes, a report a few hundred.
const ENCODE_BYTES: usize = 64;
const DECODE_BYTES: usize = 512;
/// What is encoded beyond this is sent before more is encoded.
const YIELD_BYTES: usize = 8 * 1024;

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
        ProstEncoder::new(BufferSettings::new(ENCODE_BYTES, YIELD_BYTES))
    }

    fn decoder(&mut self) -> Self::Decoder {
        StrictDecoder(PhantomData)
    }
}

// === impl StrictDecoder ===

impl<U: Message + Default + Checked> Decoder for StrictDecoder<U> {
    type Item = U;
    type Error = Status;

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(DECODE_BYTES, YIELD_BYTES)
    }

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let bytes = buf.copy_to_bytes(buf.remaining());
        known::check::<U>(&bytes)
            .map_err(|refusal| Status::invalid_argument(refusal.to_string()))?;
        let frame = U::decode(bytes)
            .map_err(|error| Status::invalid_argument(format!("{}: {error}", U::KNOWN.name)))?;
        Ok(Some(frame))
    }
}
