//! Data shared by the VMs of one `vm_id`.

use wasmtime::Linker;

use super::{Answer, Vm, enter, give, read, read_text, write};
use crate::state::VmState;
use crate::status::Status;

pub(super) fn add(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    linker.func_wrap("env", "proxy_get_shared_data", get)?;
    linker.func_wrap("env", "proxy_set_shared_data", set)?;
    Ok(())
}

fn get(mut vm: Vm<'_>, key: u32, len: u32, out: u32, out_len: u32, out_cas: u32) -> Answer {
    enter(&vm, "proxy_get_shared_data")?;
    let key = match read_text(&vm, key, len) {
        Ok(key) => key,
        Err(status) => return Ok(status.into()),
    };
    let state = vm.data();
    let process = state.process.borrow();
    let Some(held) = process.shared_data.get(&state.vm_id, &key).cloned() else {
        return Ok(Status::NotFound.into());
    };
    drop(process);
    let given = give(&mut vm, &held.value, out, out_len)?;
    if given != Status::Ok {
        return Ok(given.into());
    }
    super::answer(write(&mut vm, out_cas, &held.cas.to_le_bytes()))
}

fn set(vm: Vm<'_>, key: u32, key_len: u32, value: u32, value_len: u32, cas: u32) -> Answer {
    enter(&vm, "proxy_set_shared_data")?;
    let arguments = read_text(&vm, key, key_len).and_then(|key| {
        let value = read(&vm, value, value_len)?;
        Ok((key, value))
    });
    let (key, value) = match arguments {
        Ok(arguments) => arguments,
        Err(status) => return Ok(status.into()),
    };
    let state = vm.data();
    let mut process = state.process.borrow_mut();
    if process.contended() {
        process.shared_data.touch(&state.vm_id, &key);
    }
    let status = process.shared_data.set(&state.vm_id, &key, value, cas);
    Ok(status.into())
}
