//! Metrics of the process.

use wasmtime::Linker;

use super::{Answer, Vm, answer, enter, read_text, write};
use crate::state::VmState;
use crate::status::Status;

/// Ids one VM may have; Envoy keeps each, so a module that defines on and on leaks.
const IDS_PER_VM_MAX: usize = 4096;

pub(super) fn add(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    linker.func_wrap("env", "proxy_define_metric", define)?;
    linker.func_wrap("env", "proxy_increment_metric", increment)?;
    linker.func_wrap("env", "proxy_record_metric", record)?;
    linker.func_wrap("env", "proxy_get_metric", get)?;
    Ok(())
}

fn define(mut vm: Vm<'_>, kind: u32, name: u32, len: u32, out: u32) -> Answer {
    enter(&vm, "proxy_define_metric")?;
    let name = match read_text(&vm, name, len) {
        Ok(name) => name,
        Err(status) => return Ok(status.into()),
    };
    let state = vm.data_mut();
    let mut process = state.process.borrow_mut();
    let id = process.metrics.define(&mut state.metric_ids, kind, &name);
    if state.metric_ids.count() == IDS_PER_VM_MAX {
        let violation = format!("one VM defined {IDS_PER_VM_MAX} metrics");
        process.violations.push(violation);
    }
    drop(process);
    match id {
        Some(id) => answer(write(&mut vm, out, &id.to_le_bytes())),
        None => Ok(Status::BadArgument.into()),
    }
}

fn increment(vm: Vm<'_>, id: u32, offset: i64) -> Answer {
    enter(&vm, "proxy_increment_metric")?;
    let state = vm.data();
    let mut process = state.process.borrow_mut();
    Ok(process
        .metrics
        .increment(&state.metric_ids, id, offset)
        .into())
}

fn record(vm: Vm<'_>, id: u32, value: u64) -> Answer {
    enter(&vm, "proxy_record_metric")?;
    let state = vm.data();
    let mut process = state.process.borrow_mut();
    Ok(process.metrics.record(&state.metric_ids, id, value).into())
}

fn get(mut vm: Vm<'_>, id: u32, out: u32) -> Answer {
    enter(&vm, "proxy_get_metric")?;
    let state = vm.data();
    let value = state.process.borrow().metrics.read(&state.metric_ids, id);
    answer(value.and_then(|value| write(&mut vm, out, &value.to_le_bytes())))
}
