//! Functions that a module may import but that the filter has no reason to call: they answer
//! `Unimplemented`, and the call is noted.

use wasmtime::{FuncType, Linker, Val, ValType};

use super::enter;
use crate::state::VmState;
use crate::status::Status;

/// Name and number of `i32` arguments.
const REST: &[(&str, usize)] = &[
    ("proxy_set_property", 4),
    ("proxy_send_local_response", 8),
    ("proxy_register_shared_queue", 3),
    ("proxy_resolve_shared_queue", 5),
    ("proxy_dequeue_shared_queue", 3),
    ("proxy_enqueue_shared_queue", 3),
    ("proxy_add_header_map_value", 5),
    ("proxy_replace_header_map_value", 5),
    ("proxy_remove_header_map_value", 3),
    ("proxy_get_header_map_pairs", 3),
    ("proxy_set_header_map_pairs", 3),
    ("proxy_get_header_map_size", 2),
    ("proxy_set_buffer_bytes", 5),
    ("proxy_http_call", 10),
    ("proxy_grpc_call", 12),
    ("proxy_call_foreign_function", 6),
    ("proxy_continue_stream", 1),
    ("proxy_close_stream", 1),
];

pub(super) fn add(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    for (name, arguments) in REST {
        let engine = linker.engine().clone();
        let kind = FuncType::new(&engine, vec![ValType::I32; *arguments], [ValType::I32]);
        linker.func_new("env", name, kind, |vm, _, results| {
            enter(&vm, name)?;
            if let Some(result) = results.first_mut() {
                *result = Val::I32(Status::Unimplemented as i32);
            }
            Ok(())
        })?;
    }
    Ok(())
}
