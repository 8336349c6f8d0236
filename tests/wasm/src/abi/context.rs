//! Properties, buffers, headers and the choice of context.

use proxy_wasm::types::{BufferType, MapType};
use wasmtime::Linker;

use super::{Answer, Vm, enter, give, read, read_text, write};
use crate::state::VmState;
use crate::status::Status;

/// Number of the map that holds response headers.
const RESPONSE_HEADERS: u32 = MapType::HttpResponseHeaders as u32;
/// Number of the buffer that holds a gRPC message.
const GRPC_MESSAGE: u32 = BufferType::GrpcReceiveBuffer as u32;
/// Number of the buffer that holds the configuration of the plugin.
const PLUGIN_CONFIGURATION: u32 = BufferType::PluginConfiguration as u32;

pub(super) fn add(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    linker.func_wrap("env", "proxy_get_property", get_property)?;
    linker.func_wrap("env", "proxy_get_buffer_bytes", get_buffer_bytes)?;
    linker.func_wrap("env", "proxy_get_buffer_status", get_buffer_status)?;
    linker.func_wrap("env", "proxy_get_header_map_value", get_header_map_value)?;
    linker.func_wrap("env", "proxy_set_effective_context", set_effective_context)?;
    linker.func_wrap("env", "proxy_get_status", get_status)?;
    linker.func_wrap("env", "proxy_done", done)?;
    Ok(())
}

fn get_property(mut vm: Vm<'_>, path: u32, len: u32, out: u32, out_len: u32) -> Answer {
    enter(&vm, "proxy_get_property")?;
    let path = match read_text(&vm, path, len) {
        Ok(path) => path.trim_end_matches('\0').replace('\0', "."),
        Err(status) => return Ok(status.into()),
    };
    match property(vm.data(), &path) {
        Some(value) => Ok(give(&mut vm, &value, out, out_len)?.into()),
        None => Ok(Status::NotFound.into()),
    }
}

fn property(state: &VmState, path: &str) -> Option<Vec<u8>> {
    if path.starts_with("xds.node") {
        return state.process.borrow().node.get(path).cloned();
    }
    state.acting()?.info.as_ref()?.property(path)
}

fn buffer(state: &VmState, kind: u32) -> Option<&Vec<u8>> {
    match kind {
        GRPC_MESSAGE => state.grpc_message.as_ref(),
        PLUGIN_CONFIGURATION => state.plugin_configuration.as_ref(),
        _ => None,
    }
}

fn get_buffer_bytes(
    mut vm: Vm<'_>,
    kind: u32,
    start: u32,
    max: u32,
    out: u32,
    out_len: u32,
) -> Answer {
    enter(&vm, "proxy_get_buffer_bytes")?;
    let Some(buffer) = buffer(vm.data(), kind) else {
        return Ok(Status::NotFound.into());
    };
    let Some(end) = start.checked_add(max) else {
        return Ok(Status::BadArgument.into());
    };
    let end = buffer.len().min(end as usize);
    let bytes = buffer.get(start as usize..end).unwrap_or_default().to_vec();
    Ok(give(&mut vm, &bytes, out, out_len)?.into())
}

fn get_buffer_status(mut vm: Vm<'_>, kind: u32, out_len: u32, out_flags: u32) -> Answer {
    enter(&vm, "proxy_get_buffer_status")?;
    let Some(len) = buffer(vm.data(), kind).map(Vec::len) else {
        return Ok(Status::NotFound.into());
    };
    let len = u32::try_from(len)?.to_le_bytes();
    super::answer(write(&mut vm, out_len, &len).and(write(&mut vm, out_flags, &[0; 4])))
}

fn get_header_map_value(
    mut vm: Vm<'_>,
    map: u32,
    key: u32,
    len: u32,
    out: u32,
    out_len: u32,
) -> Answer {
    enter(&vm, "proxy_get_header_map_value")?;
    let key = match read(&vm, key, len) {
        Ok(key) => key,
        Err(status) => return Ok(status.into()),
    };
    let state = vm.data();
    if map != RESPONSE_HEADERS || state.callback != "proxy_on_log" {
        return Ok(Status::BadArgument.into());
    }
    let info = state.acting().and_then(|context| context.info.as_ref());
    let status = info.and_then(|info| info.status());
    let absent_is_empty = state.process.borrow().absent_header_is_empty;
    match status {
        Some(status) if key == b":status" => {
            Ok(give(&mut vm, status.as_bytes(), out, out_len)?.into())
        }
        None if absent_is_empty => Ok(give(&mut vm, b"", out, out_len)?.into()),
        _ => Ok(Status::NotFound.into()),
    }
}

fn set_effective_context(mut vm: Vm<'_>, context: u32) -> Answer {
    enter(&vm, "proxy_set_effective_context")?;
    let state = vm.data_mut();
    if !state.contexts.contains_key(&context) {
        return Ok(Status::BadArgument.into());
    }
    state.effective = context;
    Ok(Status::Ok.into())
}

fn get_status(mut vm: Vm<'_>, out_code: u32, out: u32, out_len: u32) -> Answer {
    enter(&vm, "proxy_get_status")?;
    let (code, message) = vm.data().grpc_status.clone();
    if let Err(status) = write(&mut vm, out_code, &code.to_le_bytes()) {
        return Ok(status.into());
    }
    Ok(give(&mut vm, message.as_bytes(), out, out_len)?.into())
}

fn done(mut vm: Vm<'_>) -> Answer {
    enter(&vm, "proxy_done")?;
    vm.data_mut().done_called = true;
    Ok(Status::Ok.into())
}
