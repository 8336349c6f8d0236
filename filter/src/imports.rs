//! The host functions of proxy-wasm ABI 0.2.1 and WASI that the filter uses, and the memory they
//! write to.
//!
//! The only module with unsafe code besides the export attributes. Every function takes references
//! and slices, and returns a result for whatever status the host gives.
#![expect(
    unsafe_code,
    reason = "calls to the host cross the border of the module"
)]

use std::cell::Cell;
use std::ptr;

use filter_core::host::HostError;

/// Largest result that is read without an allocation, in bytes: a property or status of a request.
const SCRATCH_BYTES: usize = 512;

mod env {
    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        pub(super) fn proxy_log(level: u32, text: *const u8, len: usize) -> u32;
        pub(super) fn proxy_get_current_time_nanoseconds(out: *mut u64) -> u32;
        pub(super) fn proxy_set_tick_period_milliseconds(millis: u32) -> u32;
        pub(super) fn proxy_get_property(
            path: *const u8,
            len: usize,
            out: *mut *mut u8,
            out_len: *mut usize,
        ) -> u32;
        pub(super) fn proxy_get_buffer_bytes(
            kind: u32,
            start: usize,
            max: usize,
            out: *mut *mut u8,
            out_len: *mut usize,
        ) -> u32;
        pub(super) fn proxy_grpc_stream(
            upstream: *const u8,
            upstream_len: usize,
            service: *const u8,
            service_len: usize,
            method: *const u8,
            method_len: usize,
            metadata: *const u8,
            metadata_len: usize,
            token: *mut u32,
        ) -> u32;
        pub(super) fn proxy_grpc_send(token: u32, message: *const u8, len: usize, end: u32) -> u32;
        pub(super) fn proxy_grpc_close(token: u32) -> u32;
        pub(super) fn proxy_grpc_cancel(token: u32) -> u32;
        pub(super) fn proxy_get_status(
            code: *mut u32,
            out: *mut *mut u8,
            out_len: *mut usize,
        ) -> u32;
        pub(super) fn proxy_define_metric(
            kind: u32,
            name: *const u8,
            len: usize,
            id: *mut u32,
        ) -> u32;
        pub(super) fn proxy_increment_metric(id: u32, offset: i64) -> u32;
        pub(super) fn proxy_record_metric(id: u32, value: u64) -> u32;
        pub(super) fn proxy_get_metric(id: u32, out: *mut u64) -> u32;
        pub(super) fn proxy_get_shared_data(
            key: *const u8,
            len: usize,
            out: *mut *mut u8,
            out_len: *mut usize,
            cas: *mut u32,
        ) -> u32;
        pub(super) fn proxy_set_shared_data(
            key: *const u8,
            len: usize,
            value: *const u8,
            value_len: usize,
            cas: u32,
        ) -> u32;
    }
}

mod wasi {
    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        pub(super) fn clock_time_get(clock: u32, precision: u64, out: *mut u64) -> u32;
        pub(super) fn random_get(buffer: *mut u8, len: usize) -> u32;
        pub(super) fn environ_sizes_get(count: *mut u32, bytes: *mut u32) -> u32;
        pub(super) fn environ_get(pointers: *mut u32, buffer: *mut u8) -> u32;
    }
}

/// Memory for results of calls that must not allocate.
struct Scratch {
    bytes: Cell<[u8; SCRATCH_BYTES]>,
    in_use: Cell<bool>,
}

// SAFETY: a module has one thread.
unsafe impl Sync for Scratch {}

static SCRATCH: Scratch = Scratch {
    bytes: Cell::new([0; SCRATCH_BYTES]),
    in_use: Cell::new(false),
};

fn check(status: u32) -> Result<(), HostError> {
    match status {
        0 => Ok(()),
        1 => Err(HostError::NotFound),
        8 => Err(HostError::CasMismatch),
        other => Err(HostError::Refused(other)),
    }
}

/// Gives the host memory for a result: the scratch during [`peek`], else a block of exactly `len`
/// bytes that [`take`] will own. Null fails the host's call.
pub(crate) fn allocate(len: usize) -> *mut u8 {
    if SCRATCH.in_use.get() {
        return if len <= SCRATCH_BYTES {
            SCRATCH.bytes.as_ptr().cast()
        } else {
            ptr::null_mut()
        };
    }
    // `take` frees the block by its length, so the capacity has to equal it.
    let mut block: Vec<u8> = Vec::new();
    if len == 0 || block.try_reserve_exact(len).is_err() || block.capacity() != len {
        return ptr::null_mut();
    }
    std::mem::ManuallyDrop::new(block).as_mut_ptr()
}

/// Takes ownership of a result that the host wrote into a block of [`allocate`].
fn take(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Result<Vec<u8>, HostError> {
    let mut data = ptr::null_mut();
    let mut len = 0;
    check(call(&raw mut data, &raw mut len))?;
    if data.is_null() || len == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: the host asked `allocate` for `len` bytes, filled them and handed them over.
    let block = unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(data, len)) };
    Ok(block.into_vec())
}

/// Reads a result in the scratch, without an allocation.
fn peek<T>(
    call: impl FnOnce(*mut *mut u8, *mut usize) -> u32,
    look: impl FnOnce(&[u8]) -> T,
) -> Result<T, HostError> {
    let mut data = ptr::null_mut();
    let mut len = 0;
    SCRATCH.in_use.set(true);
    let status = call(&raw mut data, &raw mut len);
    SCRATCH.in_use.set(false);
    check(status)?;
    if data.is_null() || len > SCRATCH_BYTES {
        return Ok(look(&[]));
    }
    // SAFETY: `data` is the scratch, of which the host filled `len` bytes; nobody else writes to it
    // meanwhile.
    Ok(look(unsafe { std::slice::from_raw_parts(data, len) }))
}

pub(crate) fn log(level: u32, text: &str) {
    // SAFETY: the host reads the text during the call.
    unsafe { env::proxy_log(level, text.as_ptr(), text.len()) };
}

pub(crate) fn unix_nanos() -> u64 {
    let mut nanos = 0;
    // SAFETY: the host writes to a number of ours.
    unsafe { env::proxy_get_current_time_nanoseconds(&raw mut nanos) };
    nanos
}

pub(crate) fn monotonic_nanos() -> u64 {
    /// WASI's `CLOCK_MONOTONIC`.
    const MONOTONIC: u32 = 1;
    let mut nanos = 0;
    // SAFETY: as above.
    unsafe { wasi::clock_time_get(MONOTONIC, 1, &raw mut nanos) };
    nanos
}

pub(crate) fn random() -> u64 {
    let mut bytes = [0; 8];
    // SAFETY: the host fills the bytes.
    unsafe { wasi::random_get(bytes.as_mut_ptr(), bytes.len()) };
    u64::from_le_bytes(bytes)
}

/// All environment variables, each as `NAME=value` with a zero byte behind it.
pub(crate) fn environment() -> Vec<u8> {
    let (mut count, mut bytes) = (0_u32, 0_u32);
    // SAFETY: the host writes to two numbers of ours.
    if unsafe { wasi::environ_sizes_get(&raw mut count, &raw mut bytes) } != 0 {
        return Vec::new();
    }
    let mut pointers = vec![0_u32; count as usize];
    let mut buffer = vec![0_u8; bytes as usize];
    // SAFETY: both have the sizes that the host asked for.
    if unsafe { wasi::environ_get(pointers.as_mut_ptr(), buffer.as_mut_ptr()) } != 0 {
        return Vec::new();
    }
    buffer
}

pub(crate) fn set_tick_period(millis: u32) -> Result<(), HostError> {
    // SAFETY: no memory is involved.
    check(unsafe { env::proxy_set_tick_period_milliseconds(millis) })
}

pub(crate) fn property<T>(path: &[u8], look: impl FnOnce(&[u8]) -> T) -> Result<T, HostError> {
    peek(
        // SAFETY: the host reads the path during the call; for the rest see `peek`.
        |data, len| unsafe { env::proxy_get_property(path.as_ptr(), path.len(), data, len) },
        look,
    )
}

/// A buffer of the host.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Buffer {
    GrpcMessage = 5,
    PluginConfiguration = 7,
}

/// Up to `max` bytes of a buffer of the host.
pub(crate) fn buffer(kind: Buffer, max: usize) -> Result<Vec<u8>, HostError> {
    // SAFETY: see `take`.
    take(|data, len| unsafe { env::proxy_get_buffer_bytes(kind as u32, 0, max, data, len) })
}

pub(crate) fn grpc_open(upstream: &[u8], service: &str, method: &str) -> Result<u32, HostError> {
    /// No initial metadata: a count of 0.
    const METADATA: [u8; 4] = [0; 4];
    let mut token = 0;
    // SAFETY: the host reads the texts during the call and writes to a number of ours.
    check(unsafe {
        env::proxy_grpc_stream(
            upstream.as_ptr(),
            upstream.len(),
            service.as_ptr(),
            service.len(),
            method.as_ptr(),
            method.len(),
            METADATA.as_ptr(),
            METADATA.len(),
            &raw mut token,
        )
    })?;
    Ok(token)
}

pub(crate) fn grpc_send(token: u32, message: &[u8]) -> Result<(), HostError> {
    // SAFETY: the host copies the message during the call.
    check(unsafe { env::proxy_grpc_send(token, message.as_ptr(), message.len(), 0) })
}

pub(crate) fn grpc_close(token: u32) -> Result<(), HostError> {
    // SAFETY: no memory is involved.
    check(unsafe { env::proxy_grpc_close(token) })
}

pub(crate) fn grpc_cancel(token: u32) -> Result<(), HostError> {
    // SAFETY: no memory is involved.
    check(unsafe { env::proxy_grpc_cancel(token) })
}

pub(crate) fn grpc_status_message() -> Result<Vec<u8>, HostError> {
    let mut code = 0;
    // SAFETY: the host writes to a number of ours; for the rest see `take`.
    take(|data, len| unsafe { env::proxy_get_status(&raw mut code, data, len) })
}

pub(crate) fn define_metric(kind: u32, name: &str) -> Result<u32, HostError> {
    let mut id = 0;
    // SAFETY: the host reads the name during the call and writes to a number of ours.
    check(unsafe { env::proxy_define_metric(kind, name.as_ptr(), name.len(), &raw mut id) })?;
    Ok(id)
}

pub(crate) fn increment_metric(id: u32, offset: i64) -> Result<(), HostError> {
    // SAFETY: no memory is involved.
    check(unsafe { env::proxy_increment_metric(id, offset) })
}

pub(crate) fn record_metric(id: u32, value: u64) -> Result<(), HostError> {
    // SAFETY: no memory is involved.
    check(unsafe { env::proxy_record_metric(id, value) })
}

pub(crate) fn read_metric(id: u32) -> Result<u64, HostError> {
    let mut value = 0;
    // SAFETY: the host writes to a number of ours.
    check(unsafe { env::proxy_get_metric(id, &raw mut value) })?;
    Ok(value)
}

pub(crate) fn shared_data(key: &str) -> Result<(Vec<u8>, u32), HostError> {
    let mut cas = 0;
    // SAFETY: as for `grpc_status_message`.
    let value = take(|data, len| unsafe {
        env::proxy_get_shared_data(key.as_ptr(), key.len(), data, len, &raw mut cas)
    })?;
    Ok((value, cas))
}

pub(crate) fn set_shared_data(key: &str, value: &[u8], cas: u32) -> Result<(), HostError> {
    // SAFETY: the host reads both during the call.
    check(unsafe {
        env::proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas)
    })
}
