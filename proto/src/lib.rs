//! The wire contract between sidecars and aggregators.
//!
//! `meshmeter/v1/ingest.proto` is the source and says what each field means; `src/gen` is generated
//! from it by `cargo gen` and committed. With the feature `tonic` there are a client and a server
//! of the service, which refuse frames that hold a field this version does not know.

#[cfg(feature = "tonic")]
pub mod codec;
pub mod known;

/// The messages of `meshmeter.v1`, and with the feature `tonic` its client and server.
pub mod v1 {
    #![expect(clippy::pedantic, reason = "generated code")]
    #![cfg_attr(
        feature = "tonic",
        expect(
            clippy::allow_attributes,
            clippy::allow_attributes_without_reason,
            unused_qualifications,
            reason = "generated code"
        )
    )]
    include!("gen/meshmeter.v1.rs");
}

/// Descriptors of `meshmeter.v1`, serialised as a `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!("gen/meshmeter.v1.bin");

/// The protocol number that this version speaks: `Hello.protocol` and `Settings.protocol`.
pub const PROTOCOL: u32 = 2;
