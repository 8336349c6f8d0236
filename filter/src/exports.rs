//! Callbacks of the host. `cargo xtask wasm` renames `mm_<module>_x` and `mm_x` to `proxy_x`, and
//! drops the others.
#![expect(unsafe_code, reason = "an export needs its exact name")]

use std::cell::RefCell;

use filter_core::config::{CONFIG_BYTES_MAX, Module};
use filter_core::host::{ContextId, RootId, StreamToken};
use filter_core::vm::Vm;

use crate::host::Envoy;
use crate::imports::{self, Buffer};

/// Largest message of an aggregator, in bytes: its frames have two small numbers.
const MESSAGE_BYTES_MAX: usize = 1024;
/// Return value of callbacks that may stop the host.
const TRUE: u32 = 1;
/// Headers of a request that make the module of fault tests trap.
const TRAP_HEADERS: u32 = 50;
/// Return value of the request headers callback: continue.
const CONTINUE: u32 = 0;

thread_local! {
    /// The VM's state. A reentrant callback finds it borrowed and does nothing.
    static VM: RefCell<Option<Vm<Envoy>>> = const { RefCell::new(None) };
}

#[inline]
fn with(call: impl FnOnce(&mut Vm<Envoy>)) {
    let _ = VM.try_with(|vm| {
        if let Ok(mut vm) = vm.try_borrow_mut()
            && let Some(vm) = vm.as_mut()
        {
            call(vm);
        }
    });
}

fn configure(root: u32, module: Module) -> u32 {
    let text = imports::buffer(Buffer::PluginConfiguration, CONFIG_BYTES_MAX + 1);
    let _ = VM.try_with(|vm| {
        if let Ok(mut vm) = vm.try_borrow_mut() {
            vm.get_or_insert_with(|| Vm::new(Envoy, module))
                .on_configure(RootId(root), &text.unwrap_or_default());
        }
    });
    TRUE
}

unsafe extern "C" {
    /// Provided by the linker: runs the constructors of std and libc. The linker would call it in
    /// every export if no code did.
    safe fn __wasm_call_ctors();
}

#[unsafe(no_mangle)]
extern "C" fn _initialize() {
    __wasm_call_ctors();
}

#[unsafe(no_mangle)]
extern "C" fn mm_abi_version_0_2_1() {}

#[unsafe(no_mangle)]
extern "C" fn mm_on_memory_allocate(len: usize) -> *mut u8 {
    imports::allocate(len)
}

#[unsafe(no_mangle)]
extern "C" fn mm_on_vm_start(_root: u32, _size: u32) -> u32 {
    TRUE
}

#[unsafe(no_mangle)]
extern "C" fn mm_filter_on_configure(root: u32, _size: u32) -> u32 {
    configure(root, Module::Filter)
}

#[unsafe(no_mangle)]
extern "C" fn mm_log_on_configure(root: u32, _size: u32) -> u32 {
    configure(root, Module::Log)
}

#[unsafe(no_mangle)]
extern "C" fn mm_on_context_create(context: u32, root: u32) {
    with(|vm| vm.on_context_create(ContextId(context), RootId(root)));
}

#[unsafe(no_mangle)]
extern "C" fn mm_on_request_headers(context: u32, _count: u32, _end_of_stream: u32) -> u32 {
    with(|vm| vm.on_request_headers(ContextId(context)));
    CONTINUE
}

/// Only in the module of fault tests: a request with this many headers traps the VM.
#[unsafe(no_mangle)]
extern "C" fn mm_trap_on_request_headers(context: u32, count: u32, end_of_stream: u32) -> u32 {
    if count >= TRAP_HEADERS {
        core::arch::wasm32::unreachable();
    }
    mm_on_request_headers(context, count, end_of_stream)
}

#[unsafe(no_mangle)]
extern "C" fn mm_on_log(context: u32) {
    with(|vm| vm.on_log(ContextId(context)));
}

#[unsafe(no_mangle)]
extern "C" fn mm_on_done(context: u32) -> u32 {
    with(|vm| vm.on_done(ContextId(context)));
    TRUE
}

#[unsafe(no_mangle)]
extern "C" fn mm_on_tick(root: u32) {
    with(|vm| vm.on_tick(RootId(root)));
}

#[unsafe(no_mangle)]
extern "C" fn mm_on_grpc_receive(_root: u32, token: u32, _size: u32) {
    let message = imports::buffer(Buffer::GrpcMessage, MESSAGE_BYTES_MAX);
    if let Ok(message) = message {
        with(|vm| vm.on_grpc_receive(StreamToken(token), &message));
    }
}

#[unsafe(no_mangle)]
extern "C" fn mm_on_grpc_close(_root: u32, token: u32, status: u32) {
    with(|vm| vm.on_grpc_close(StreamToken(token), status));
}
