//! Log, time and ticks.

use std::time::Duration;

use proxy_wasm::types::LogLevel;
use wasmtime::Linker;

use super::{Answer, Vm, answer, enter, read, write};
use crate::state::{Timer, VmState};
use crate::status::Status;

/// The level modules are told to log at: info.
const LOG_LEVEL: u32 = LogLevel::Info as u32;
/// The highest log level: critical.
const LOG_LEVEL_MAX: u32 = LogLevel::Critical as u32;

pub(super) fn add(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    linker.func_wrap("env", "proxy_log", log)?;
    linker.func_wrap("env", "proxy_get_log_level", get_log_level)?;
    linker.func_wrap("env", "proxy_set_tick_period_milliseconds", set_tick_period)?;
    linker.func_wrap(
        "env",
        "proxy_get_current_time_nanoseconds",
        get_current_time,
    )?;
    Ok(())
}

fn log(vm: Vm<'_>, level: u32, text: u32, len: u32) -> Answer {
    enter(&vm, "proxy_log")?;
    if level > LOG_LEVEL_MAX {
        return Ok(Status::BadArgument.into());
    }
    answer(read(&vm, text, len).map(|bytes| {
        let message = String::from_utf8_lossy(&bytes).into_owned();
        let state = vm.data();
        let mut process = state.process.borrow_mut();
        process.log(state.thread, state.life, message);
    }))
}

fn get_log_level(mut vm: Vm<'_>, out: u32) -> Answer {
    enter(&vm, "proxy_get_log_level")?;
    answer(write(&mut vm, out, &LOG_LEVEL.to_le_bytes()))
}

fn set_tick_period(mut vm: Vm<'_>, milliseconds: u32) -> Answer {
    enter(&vm, "proxy_set_tick_period_milliseconds")?;
    let state = vm.data_mut();
    let Some((root, _)) = state.acting_root() else {
        return Ok(Status::BadArgument.into());
    };
    let period = Duration::from_millis(milliseconds.into());
    if period.is_zero() {
        state.timers.remove(&root);
    } else {
        let due = state.process.borrow().now() + period;
        state.timers.insert(root, Timer { period, due });
    }
    Ok(Status::Ok.into())
}

fn get_current_time(mut vm: Vm<'_>, out: u32) -> Answer {
    enter(&vm, "proxy_get_current_time_nanoseconds")?;
    let now = vm.data().process.borrow().clock.system();
    let nanoseconds = u64::try_from(now.as_nanos())?;
    answer(write(&mut vm, out, &nanoseconds.to_le_bytes()))
}
