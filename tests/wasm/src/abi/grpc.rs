//! gRPC streams. Tokens count per VM, streams belong to the root context that opened them.

use proxy_wasm::types::GrpcStatusCode;
use wasmtime::Linker;

use super::{Answer, Vm, answer, enter, read, read_text, write};
use crate::aggregator::Reach;
use crate::connection::{Owner, Up};
use crate::deployment::CLUSTER;
use crate::grpc_service;
use crate::state::{DeferredClose, GrpcStream, VmState};
use crate::status::Status;

const UNAVAILABLE: u32 = GrpcStatusCode::Unavailable as u32;

pub(super) fn add(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    linker.func_wrap("env", "proxy_grpc_stream", stream)?;
    linker.func_wrap("env", "proxy_grpc_send", send)?;
    linker.func_wrap("env", "proxy_grpc_close", close)?;
    linker.func_wrap("env", "proxy_grpc_cancel", cancel)?;
    Ok(())
}

/// What a module asks of `proxy_grpc_stream`.
struct Open {
    upstream: Vec<u8>,
    path: String,
    metadata: Vec<u8>,
}

#[expect(clippy::too_many_arguments, reason = "the ABI says so")]
fn stream(
    mut vm: Vm<'_>,
    upstream: u32,
    upstream_len: u32,
    service: u32,
    service_len: u32,
    method: u32,
    method_len: u32,
    metadata: u32,
    metadata_len: u32,
    out_token: u32,
) -> Answer {
    enter(&vm, "proxy_grpc_stream")?;
    let arguments = (|| {
        let service = read_text(&vm, service, service_len)?;
        let method = read_text(&vm, method, method_len)?;
        Ok(Open {
            upstream: read(&vm, upstream, upstream_len)?,
            path: format!("/{service}/{method}"),
            metadata: read(&vm, metadata, metadata_len)?,
        })
    })();
    let opened = arguments.and_then(|arguments| open(&mut vm, &arguments));
    let token = match opened {
        Ok(token) => token,
        Err(status) => return Ok(status.into()),
    };
    answer(write(&mut vm, out_token, &token.to_le_bytes()))
}

fn open(vm: &mut Vm<'_>, arguments: &Open) -> Result<u32, Status> {
    let state = vm.data_mut();
    let breach = |text: String| {
        state.process.borrow_mut().violations.push(text);
        Status::ParseFailure
    };
    let cluster = grpc_service::parse(&arguments.upstream)
        .map_err(|error| breach(format!("upstream of proxy_grpc_stream {error}")))?;
    if arguments.path != "/meshmeter.v1.Ingest/Report" {
        return Err(breach(format!("stream to {}", arguments.path)));
    }
    check_pairs(&arguments.metadata)
        .ok_or_else(|| breach("initial metadata is malformed".to_owned()))?;
    if cluster != CLUSTER {
        return Err(Status::InternalFailure);
    }
    let reach = state.process.borrow().network.aggregator.script.reach;
    let token = state.take_token();
    let (root, _) = state.acting_root().ok_or(Status::BadArgument)?;
    if reach == Reach::NoHealthyHost {
        state.deferred.push(DeferredClose {
            root,
            token,
            status: UNAVAILABLE,
            message: "no healthy upstream".to_owned(),
        });
        return Err(Status::InternalFailure);
    }
    let owner = Owner {
        vm: state.index,
        root,
        token,
    };
    let connection = {
        let mut process = state.process.borrow_mut();
        let now = process.now();
        process.network.connect(now, owner)
    };
    let stream = GrpcStream {
        connection,
        local_closed: false,
    };
    let (_, context) = state.acting_root().ok_or(Status::BadArgument)?;
    context.streams.insert(token, stream);
    Ok(token)
}

/// Reads serialised pairs: a count, then the two lengths of each pair, then each text with a NUL.
fn check_pairs(bytes: &[u8]) -> Option<()> {
    let number = |at: usize| {
        let bytes = bytes.get(at * 4..at * 4 + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
    };
    let lengths = number(0)? * 2;
    let mut at = (lengths + 1) * 4;
    for index in 1..=lengths {
        at += number(index)?;
        if *bytes.get(at)? != 0 {
            return None;
        }
        at += 1;
    }
    (at == bytes.len()).then_some(())
}

fn send(mut vm: Vm<'_>, token: u32, message: u32, len: u32, end_stream: u32) -> Answer {
    enter(&vm, "proxy_grpc_send")?;
    let message = match read(&vm, message, len) {
        Ok(message) => message,
        Err(status) => return Ok(status.into()),
    };
    let Some(connection) = open_stream(&mut vm, token, end_stream != 0) else {
        return Ok(Status::NotFound.into());
    };
    let mut process = vm.data().process.borrow_mut();
    let now = process.now();
    process.network.send(now, connection, Up::Message(message));
    if end_stream != 0 {
        process.network.send(now, connection, Up::HalfClose);
    }
    Ok(Status::Ok.into())
}

/// The connection of a stream that this side has not closed.
fn open_stream(vm: &mut Vm<'_>, token: u32, closes: bool) -> Option<u64> {
    let (_, context) = vm.data_mut().acting_root()?;
    let stream = context.streams.get_mut(&token)?;
    if stream.local_closed {
        return None;
    }
    stream.local_closed = closes;
    Some(stream.connection)
}

fn close(mut vm: Vm<'_>, token: u32) -> Answer {
    enter(&vm, "proxy_grpc_close")?;
    let process = std::rc::Rc::clone(&vm.data().process);
    let Some((_, context)) = vm.data_mut().acting_root() else {
        return Ok(Status::NotFound.into());
    };
    let Some(stream) = context.streams.get_mut(&token) else {
        return Ok(Status::NotFound.into());
    };
    let mut process = process.borrow_mut();
    let now = process.now();
    if process.network.is_remote_closed(stream.connection) {
        context.streams.remove(&token);
    } else if !stream.local_closed {
        stream.local_closed = true;
        process.network.send(now, stream.connection, Up::HalfClose);
    }
    Ok(Status::Ok.into())
}

fn cancel(mut vm: Vm<'_>, token: u32) -> Answer {
    enter(&vm, "proxy_grpc_cancel")?;
    let process = std::rc::Rc::clone(&vm.data().process);
    let Some((_, context)) = vm.data_mut().acting_root() else {
        return Ok(Status::NotFound.into());
    };
    let Some(stream) = context.streams.remove(&token) else {
        return Ok(Status::NotFound.into());
    };
    let mut process = process.borrow_mut();
    let now = process.now();
    process.network.drop_sidecar_end(now, stream.connection);
    Ok(Status::Ok.into())
}

#[cfg(test)]
mod tests {
    use super::check_pairs;

    #[test]
    fn metadata_is_read_to_its_last_byte() {
        assert!(check_pairs(&[0; 4]).is_some(), "no pairs");
        let one = b"\x01\0\0\0\x01\0\0\0\x02\0\0\0k\0vv\0";
        assert!(check_pairs(one).is_some());
        assert!(check_pairs(&one[..one.len() - 1]).is_none());
        assert!(check_pairs(&[]).is_none());
        assert!(check_pairs(&[0; 5]).is_none());
    }
}
