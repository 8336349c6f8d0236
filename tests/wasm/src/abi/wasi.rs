//! The WASI functions of the oldest host: clock, random, output. There are no files, and the
//! environment is empty.

use wasmtime::{Engine, FuncType, Linker, Val, ValType};

use super::{Vm, enter, read, write};
use crate::state::VmState;
use crate::status::Status;

const SUCCESS: u32 = 0;
/// WASI result: no such file descriptor.
const EBADF: u32 = 8;
/// WASI result: a pointer is outside the memory.
const EFAULT: u32 = 21;
/// WASI result: an argument is out of its range.
const EINVAL: u32 = 28;
/// WASI result: not supported.
const ENOTSUP: u32 = 58;
/// Bytes one call of `random_get` may ask for.
const RANDOM_MAX: u32 = 65_536;

type Errno = wasmtime::Result<u32>;

pub(super) fn add(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    let wasi = "wasi_snapshot_preview1";
    for (sizes, strings) in [
        ("environ_sizes_get", "environ_get"),
        ("args_sizes_get", "args_get"),
    ] {
        linker.func_wrap(wasi, sizes, move |vm: Vm<'_>, count: u32, bytes: u32| {
            no_strings(vm, sizes, count, bytes)
        })?;
        linker.func_wrap(wasi, strings, move |vm: Vm<'_>, _: u32, _: u32| {
            no_file(&vm, strings, SUCCESS)
        })?;
    }
    linker.func_wrap(wasi, "clock_time_get", clock_time_get)?;
    linker.func_wrap(wasi, "random_get", random_get)?;
    linker.func_wrap(wasi, "fd_write", fd_write)?;
    linker.func_wrap(wasi, "proc_exit", proc_exit)?;
    linker.func_wrap(
        wasi,
        "fd_read",
        |vm: Vm<'_>, _: u32, _: u32, _: u32, _: u32| no_file(&vm, "fd_read", EBADF),
    )?;
    linker.func_wrap(
        wasi,
        "fd_seek",
        |vm: Vm<'_>, _: u32, _: u64, _: u32, _: u32| no_file(&vm, "fd_seek", EBADF),
    )?;
    linker.func_wrap(wasi, "fd_close", |vm: Vm<'_>, _: u32| {
        no_file(&vm, "fd_close", EBADF)
    })?;
    linker.func_wrap(wasi, "fd_fdstat_get", |vm: Vm<'_>, _: u32, _: u32| {
        no_file(&vm, "fd_fdstat_get", EBADF)
    })?;
    linker.func_wrap(wasi, "fd_prestat_get", |vm: Vm<'_>, _: u32, _: u32| {
        no_file(&vm, "fd_prestat_get", EBADF)
    })?;
    linker.func_wrap(
        wasi,
        "fd_prestat_dir_name",
        |vm: Vm<'_>, _: u32, _: u32, _: u32| no_file(&vm, "fd_prestat_dir_name", EBADF),
    )?;
    linker.func_new(
        wasi,
        "path_open",
        path_open(linker.engine()),
        |vm, _, results| {
            enter(&vm, "path_open")?;
            if let Some(result) = results.first_mut() {
                *result = Val::I32(ENOTSUP.cast_signed());
            }
            Ok(())
        },
    )?;
    Ok(())
}

/// Type of `path_open`, which has more arguments than `func_wrap` would like to read.
fn path_open(engine: &Engine) -> FuncType {
    use ValType::{I32, I64};
    FuncType::new(engine, [I32, I32, I32, I32, I32, I64, I64, I32, I32], [I32])
}

fn no_file(vm: &Vm<'_>, name: &'static str, errno: u32) -> Errno {
    enter(vm, name)?;
    Ok(errno)
}

fn errno(result: Result<(), Status>) -> Errno {
    Ok(result.map_or(EFAULT, |()| SUCCESS))
}

/// No variables, no arguments.
fn no_strings(mut vm: Vm<'_>, name: &'static str, out_count: u32, out_bytes: u32) -> Errno {
    enter(&vm, name)?;
    errno(write(&mut vm, out_count, &[0; 4]).and(write(&mut vm, out_bytes, &[0; 4])))
}

fn clock_time_get(mut vm: Vm<'_>, clock: u32, _precision: u64, out: u32) -> Errno {
    enter(&vm, "clock_time_get")?;
    let time = {
        let process = vm.data().process.borrow();
        match clock {
            0 => process.clock.system(),
            1 => process.clock.monotonic(),
            _ => return Ok(ENOTSUP),
        }
    };
    let nanoseconds = u64::try_from(time.as_nanos())?;
    errno(write(&mut vm, out, &nanoseconds.to_le_bytes()))
}

fn random_get(mut vm: Vm<'_>, out: u32, len: u32) -> Errno {
    enter(&vm, "random_get")?;
    if len > RANDOM_MAX {
        return Ok(EINVAL);
    }
    let mut bytes = vec![0; len as usize];
    vm.data().process.borrow_mut().random().fill(&mut bytes);
    errno(write(&mut vm, out, &bytes))
}

fn fd_write(mut vm: Vm<'_>, fd: u32, vectors: u32, count: u32, out_written: u32) -> Errno {
    enter(&vm, "fd_write")?;
    if !matches!(fd, 1 | 2) {
        return Ok(EBADF);
    }
    let mut text = Vec::new();
    for index in 0..count {
        let Ok(vector) = read(&vm, vectors + index * 8, 8) else {
            return Ok(EFAULT);
        };
        let (at, len) = vector.split_at(4);
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_le_bytes);
        match read(&vm, number(at), number(len)) {
            Ok(bytes) => text.extend(bytes),
            Err(_) => return Ok(EFAULT),
        }
    }
    let written = u32::try_from(text.len())?;
    let message = String::from_utf8_lossy(&text).into_owned();
    let state = vm.data();
    let (thread, life) = (state.thread, state.life);
    state.process.borrow_mut().log(thread, life, message);
    errno(write(&mut vm, out_written, &written.to_le_bytes()))
}

fn proc_exit(vm: Vm<'_>, code: u32) -> wasmtime::Result<()> {
    enter(&vm, "proc_exit")?;
    Err(wasmtime::Error::msg(format!("proc_exit({code})")))
}
