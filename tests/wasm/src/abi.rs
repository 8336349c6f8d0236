//! Host functions of proxy-wasm ABI 0.2.1 and the WASI functions that Envoy 1.30 has.
//!
//! Each function notes that it was called, and traps when Envoy would not allow it at that moment.

#![expect(
    clippy::needless_pass_by_value,
    clippy::unnecessary_wraps,
    reason = "wasmtime hands over the caller by value and wants a result that may be a trap"
)]

mod basics;
mod context;
mod grpc;
mod metrics;
mod rest;
mod shared_data;
mod wasi;

use wasmtime::{Caller, Engine, Linker};

use crate::state::{Phase, VmState};
use crate::status::Status;

type Vm<'a> = Caller<'a, VmState>;
/// What a host function gives back: a status, or a trap.
type Answer = wasmtime::Result<u32>;

/// Functions that `_initialize` may call in the oldest host.
const ALLOWED_IN_INITIALIZE: &[&str] = &[
    "proxy_log",
    "fd_write",
    "args_get",
    "args_sizes_get",
    "environ_get",
    "environ_sizes_get",
    "fd_prestat_get",
    "fd_prestat_dir_name",
    "clock_time_get",
    "random_get",
];

/// Functions that the module's allocator may call.
const ALLOWED_IN_ALLOCATOR: &[&str] = &["proxy_log", "fd_write", "clock_time_get"];

/// All imports a module may have.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<VmState>> {
    let mut linker = Linker::new(engine);
    basics::add(&mut linker)?;
    context::add(&mut linker)?;
    grpc::add(&mut linker)?;
    metrics::add(&mut linker)?;
    shared_data::add(&mut linker)?;
    rest::add(&mut linker)?;
    wasi::add(&mut linker)?;
    Ok(linker)
}

/// Notes the call of `name`; an error if it is not allowed now.
fn enter(vm: &Vm<'_>, name: &'static str) -> wasmtime::Result<()> {
    let state = vm.data();
    let mut process = state.process.borrow_mut();
    let key = (state.life, state.callback, name);
    *process.calls.entry(key).or_default() += 1;
    let allowed = match state.phase {
        Phase::Initialize => ALLOWED_IN_INITIALIZE,
        Phase::Allocate => ALLOWED_IN_ALLOCATOR,
        Phase::Run => return Ok(()),
    };
    if allowed.contains(&name) {
        return Ok(());
    }
    let violation = format!("{name} called in {:?}, where Envoy refuses it", state.phase);
    process.violations.push(violation.clone());
    Err(wasmtime::Error::msg(violation))
}

/// A copy of `len` bytes of the module's memory.
fn read(vm: &Vm<'_>, at: u32, len: u32) -> Result<Vec<u8>, Status> {
    let memory = vm.data().memory.ok_or(Status::InvalidMemoryAccess)?;
    let start = at as usize;
    let bytes = memory.data(vm).get(start..start + len as usize);
    bytes.map(<[u8]>::to_vec).ok_or(Status::InvalidMemoryAccess)
}

/// A copy of a text in the module's memory.
fn read_text(vm: &Vm<'_>, at: u32, len: u32) -> Result<String, Status> {
    String::from_utf8(read(vm, at, len)?).map_err(|_| Status::BadArgument)
}

/// Writes into the module's memory.
fn write(vm: &mut Vm<'_>, at: u32, bytes: &[u8]) -> Result<(), Status> {
    let memory = vm.data().memory.ok_or(Status::InvalidMemoryAccess)?;
    memory
        .write(vm, at as usize, bytes)
        .map_err(|_| Status::InvalidMemoryAccess)
}

/// Copies `bytes` into memory from the module's own allocator and writes pointer and length to
/// where the module wants them. Nothing is allocated for no bytes.
fn give(vm: &mut Vm<'_>, bytes: &[u8], pointer: u32, length: u32) -> wasmtime::Result<Status> {
    let mut at = 0;
    let len = u32::try_from(bytes.len())?;
    if !bytes.is_empty() {
        at = allocate(vm, len)?;
        if at == 0 || write(vm, at, bytes).is_err() {
            return Ok(Status::InvalidMemoryAccess);
        }
    }
    let written = write(vm, pointer, &at.to_le_bytes()).and(write(vm, length, &len.to_le_bytes()));
    Ok(written.err().unwrap_or(Status::Ok))
}

/// Calls back into the module's allocator.
fn allocate(vm: &mut Vm<'_>, len: u32) -> wasmtime::Result<u32> {
    let allocator = vm.data().allocator.clone();
    let allocator = allocator.ok_or_else(|| wasmtime::Error::msg("no allocator exported"))?;
    let state = vm.data_mut();
    let before = std::mem::replace(&mut state.phase, Phase::Allocate);
    let key = (state.life, state.callback, "(allocator)");
    *state.process.borrow_mut().calls.entry(key).or_default() += 1;
    let at = allocator.call(&mut *vm, len);
    vm.data_mut().phase = before;
    at
}

/// Status number of a result without a value.
fn answer(result: Result<(), Status>) -> Answer {
    Ok(result.err().unwrap_or(Status::Ok).into())
}
