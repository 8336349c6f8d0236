//! `cargo xtask wasm`: builds the filter and cuts the two published modules out of it.
//!
//! Each module exports only what its roles use, since Envoy calls whatever is exported; both import
//! only what the oldest supported Envoy has, since one unknown import fails the load of the
//! listener.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};
use walrus::{ExportItem, Module, ValType};

/// Largest module that is let through, in bytes.
const SIZE_MAX: usize = 160 * 1024;
/// Size to aim for, in bytes.
const SIZE_AIM: usize = 64 * 1024;
/// Bytes of stack: callbacks are shallow, and each page that is not there is not in any VM.
const STACK_BYTES: usize = 64 * 1024;
/// Where the modules go, relative to the workspace.
const OUT: &str = "target/wasm";

/// A module: its file and its exports, each with the name it has in the build.
struct Variant {
    file: &'static str,
    /// Callbacks beside those of [`COMMON`], as (name in the build, name for the host).
    callbacks: &'static [(&'static str, &'static str)],
}

/// Part of the name that rustc gives the function that a panic ends in.
const PANIC_HANDLER: &str = "rust_begin_unwind";

/// Parts of the names of functions that nothing but a panic or a failed allocation calls.
const PANIC_ONLY: [&str; 6] = [
    PANIC_HANDLER,
    "3std9panicking",
    "3std5panic",
    "3std3sys9backtrace",
    "3std5alloc24default_alloc_error_hook",
    "3std2io",
];

/// What every module exports, as (name in the build, name for the host).
const COMMON: [(&str, &str); 9] = [
    ("memory", "memory"),
    ("_initialize", "_initialize"),
    ("mm_abi_version_0_2_1", "proxy_abi_version_0_2_1"),
    ("mm_on_memory_allocate", "proxy_on_memory_allocate"),
    ("mm_on_vm_start", "proxy_on_vm_start"),
    ("mm_on_tick", "proxy_on_tick"),
    ("mm_on_done", "proxy_on_done"),
    ("mm_on_grpc_receive", "proxy_on_grpc_receive"),
    ("mm_on_grpc_close", "proxy_on_grpc_close"),
];

const VARIANTS: [Variant; 3] = [
    Variant {
        file: "meshmeter-filter.wasm",
        callbacks: &[
            ("mm_filter_on_configure", "proxy_on_configure"),
            ("mm_on_context_create", "proxy_on_context_create"),
            ("mm_on_request_headers", "proxy_on_request_headers"),
        ],
    },
    Variant {
        file: "meshmeter-log.wasm",
        callbacks: &[
            ("mm_log_on_configure", "proxy_on_configure"),
            ("mm_on_log", "proxy_on_log"),
        ],
    },
    // Not published: a request with very many headers ends its VM.
    Variant {
        file: "test/meshmeter-trap.wasm",
        callbacks: &[
            ("mm_filter_on_configure", "proxy_on_configure"),
            ("mm_on_context_create", "proxy_on_context_create"),
            ("mm_trap_on_request_headers", "proxy_on_request_headers"),
        ],
    },
];

/// Functions that the host of Envoy 1.30 offers in `env`, without the prefix `proxy_`.
const ENV_IMPORTS: [&str; 41] = [
    "log",
    "get_status",
    "set_property",
    "get_property",
    "send_local_response",
    "get_shared_data",
    "set_shared_data",
    "register_shared_queue",
    "resolve_shared_queue",
    "dequeue_shared_queue",
    "enqueue_shared_queue",
    "get_header_map_value",
    "add_header_map_value",
    "replace_header_map_value",
    "remove_header_map_value",
    "get_header_map_pairs",
    "set_header_map_pairs",
    "get_header_map_size",
    "get_buffer_status",
    "get_buffer_bytes",
    "set_buffer_bytes",
    "http_call",
    "grpc_call",
    "grpc_stream",
    "grpc_close",
    "grpc_cancel",
    "grpc_send",
    "set_tick_period_milliseconds",
    "get_current_time_nanoseconds",
    "define_metric",
    "increment_metric",
    "record_metric",
    "get_metric",
    "set_effective_context",
    "done",
    "call_foreign_function",
    "continue_stream",
    "close_stream",
    "get_log_level",
    "continue_request",
    "continue_response",
];

/// Functions that it offers in `wasi_snapshot_preview1`.
const WASI_IMPORTS: [&str; 15] = [
    "fd_write",
    "fd_read",
    "fd_seek",
    "fd_close",
    "fd_fdstat_get",
    "environ_get",
    "environ_sizes_get",
    "args_get",
    "args_sizes_get",
    "clock_time_get",
    "random_get",
    "proc_exit",
    "path_open",
    "fd_prestat_get",
    "fd_prestat_dir_name",
];

/// Builds the modules and checks them.
pub(crate) fn run(root: &Path) -> Result<()> {
    let built = trap_on_panic(&build(root)?)?;
    let out = root.join(OUT);
    fs::create_dir_all(out.join("test"))?;
    for variant in &VARIANTS {
        let bytes = cut(&built, variant).with_context(|| format!("cut out {}", variant.file))?;
        check(&bytes, variant).with_context(|| format!("check {}", variant.file))?;
        // Written aside and renamed: a test that runs meanwhile sees the old module or the new one.
        let target = out.join(variant.file);
        let aside = target.with_extension("wasm.new");
        fs::write(&aside, &bytes)?;
        fs::rename(&aside, &target)?;
        println!(
            "{OUT}/{}: {} bytes (aim {SIZE_AIM}, limit {SIZE_MAX})",
            variant.file,
            bytes.len()
        );
    }
    Ok(())
}

/// Compiles the filter and returns the module with everything in it.
fn build(root: &Path) -> Result<Vec<u8>> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .current_dir(root)
        .args(["build", "--quiet", "--package", "filter"])
        .args(["--profile", "wasm", "--target", "wasm32-wasip1"])
        // The names of functions are needed once more, to find the panic handler.
        .args(["--config", "profile.wasm.strip=false"])
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(root)?.join("\x1f"))
        .status()
        .context("run cargo")?;
    ensure!(status.success(), "cargo build of the filter failed");
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let path = target.join("wasm32-wasip1/wasm/filter.wasm");
    fs::read(&path).with_context(|| format!("read {}", path.display()))
}

/// A small stack, and no paths of this machine in panic messages, so that every machine builds the
/// same bytes.
fn rustflags(root: &Path) -> Result<Vec<String>> {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")))
        .context("find the home of cargo")?;
    Ok(vec![
        "-C".to_owned(),
        format!("link-arg=-zstack-size={STACK_BYTES}"),
        format!("--remap-path-prefix={}=cargo", home.display()),
        format!("--remap-path-prefix={}=.", root.display()),
    ])
}

fn exports(variant: &Variant) -> BTreeMap<&'static str, &'static str> {
    COMMON.iter().chain(variant.callbacks).copied().collect()
}

/// Leaves the exports of one module, under the names the host knows, and what they need.
fn cut(built: &[u8], variant: &Variant) -> Result<Vec<u8>> {
    let mut module = Module::from_buffer(built)?;
    let wanted = exports(variant);
    let all: Vec<_> = module.exports.iter().map(walrus::Export::id).collect();
    let mut missing = wanted.clone();
    for id in all {
        let name = module.exports.get(id).name.clone();
        match missing.remove(name.as_str()) {
            Some(public) => public.clone_into(&mut module.exports.get_mut(id).name),
            None => module.exports.delete(id),
        }
    }
    ensure!(
        missing.is_empty(),
        "the build does not export {:?}",
        missing.keys()
    );
    walrus::passes::gc::run(&mut module);
    let sections: Vec<_> = module.customs.iter().map(|(id, _)| id).collect();
    for section in sections {
        module.customs.delete(section);
    }
    Ok(module.emit_wasm())
}

/// Makes a panic a trap and nothing else. It ends the VM in any case; std's handler would first
/// look for a backtrace and print it, and brings a second allocator and the environment with it: a
/// sixth of the module.
fn trap_on_panic(built: &[u8]) -> Result<Vec<u8>> {
    let mut module = walrus::ModuleConfig::new()
        .generate_name_section(false)
        .parse(built)
        .context("read the built module")?;
    let named = |function: &walrus::Function, parts: &[&str]| {
        let name = function.name.as_deref().unwrap_or_default();
        parts.iter().any(|part| name.contains(part))
    };
    let all: Vec<_> = module.funcs.iter_local().map(|(id, _)| id).collect();
    let mut handlers = 0;
    for id in all {
        let function = module.funcs.get(id);
        if !named(function, &PANIC_ONLY) {
            continue;
        }
        handlers += usize::from(named(function, &[PANIC_HANDLER]));
        let (params, results) = module.types.params_results(function.ty());
        let (params, results) = (params.to_vec(), results.to_vec());
        let args = params.iter().map(|ty| module.locals.add(*ty)).collect();
        let mut trap = walrus::FunctionBuilder::new(&mut module.types, &params, &results);
        trap.func_body().unreachable();
        module.funcs.get_mut(id).kind = walrus::FunctionKind::Local(trap.local_func(args));
    }
    ensure!(
        handlers == 1,
        "{handlers} functions are called {PANIC_HANDLER}: has rustc changed its names?"
    );
    Ok(module.emit_wasm())
}

/// Refuses a module that Envoy would not load or that is too large.
fn check(bytes: &[u8], variant: &Variant) -> Result<()> {
    ensure!(
        bytes.len() <= SIZE_MAX,
        "{} bytes, at most {SIZE_MAX}",
        bytes.len()
    );
    wasmparser::validate(bytes).context("validate")?;
    let module = Module::from_buffer(bytes)?;
    for import in module.imports.iter() {
        let (from, name) = (import.module.as_str(), import.name.as_str());
        let known = match from {
            "env" => name
                .strip_prefix("proxy_")
                .is_some_and(|name| ENV_IMPORTS.contains(&name)),
            "wasi_snapshot_preview1" => WASI_IMPORTS.contains(&name),
            _ => false,
        };
        ensure!(known, "import {from}.{name}: Envoy 1.30 does not have it");
    }
    let wanted: Vec<_> = exports(variant).into_values().collect();
    for export in module.exports.iter() {
        ensure!(
            wanted.contains(&export.name.as_str()),
            "export {}: no role of this module uses it",
            export.name
        );
        if let ExportItem::Function(function) = export.item {
            check_signature(&module, &export.name, function)?;
        }
    }
    Ok(())
}

/// Envoy refuses a callback with a wrong signature; ours take and give 32-bit integers only.
fn check_signature(module: &Module, name: &str, function: walrus::FunctionId) -> Result<()> {
    let ty = module.types.get(module.funcs.get(function).ty());
    let (params, results) = match name {
        "_initialize" | "proxy_abi_version_0_2_1" => (0, 0),
        "proxy_on_tick" | "proxy_on_log" => (1, 0),
        "proxy_on_memory_allocate" | "proxy_on_done" => (1, 1),
        "proxy_on_context_create" => (2, 0),
        "proxy_on_vm_start" | "proxy_on_configure" => (2, 1),
        "proxy_on_grpc_receive" | "proxy_on_grpc_close" => (3, 0),
        "proxy_on_request_headers" => (3, 1),
        other => bail!("export {other}: unknown to this check"),
    };
    let narrow = |types: &[ValType]| types.iter().all(|ty| *ty == ValType::I32);
    ensure!(
        ty.params().len() == params
            && ty.results().len() == results
            && narrow(ty.params())
            && narrow(ty.results()),
        "export {name}: takes {:?}, gives {:?}",
        ty.params(),
        ty.results()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module with the given exports and one import.
    fn module(imports: (&str, &str), names: &[&str]) -> Vec<u8> {
        let mut module = Module::default();
        let ty = module.types.add(&[], &[]);
        module.add_import_func(imports.0, imports.1, ty);
        for name in names {
            let mut function = walrus::FunctionBuilder::new(&mut module.types, &[], &[]);
            function.func_body();
            let id = function.finish(Vec::new(), &mut module.funcs);
            module.exports.add(name, id);
        }
        module.emit_wasm()
    }

    /// A host function that came after Envoy 1.30 is refused by name.
    #[test]
    fn an_unknown_import_is_refused() {
        for (from, name) in [
            ("env", "proxy_new_thing"),
            ("wasi_snapshot_preview1", "sched_yield"),
        ] {
            let error = check(&module((from, name), &[]), &VARIANTS[0]).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
        check(&module(("env", "proxy_log"), &[]), &VARIANTS[0]).unwrap();
    }

    /// An export that the role does not use is refused: Envoy would call it.
    #[test]
    fn an_export_of_another_role_is_refused() {
        let bytes = module(("env", "proxy_log"), &["proxy_on_request_headers"]);
        let error = check(&bytes, &VARIANTS[1]).unwrap_err();
        assert!(error.to_string().contains("no role"), "{error}");
        // Known to the filter, but of a wrong type.
        let error = check(&bytes, &VARIANTS[0]).unwrap_err();
        assert!(error.to_string().contains("takes"), "{error}");
    }

    /// What only panics need becomes a trap; a build without a panic handler, or with names that
    /// are not understood, is refused.
    #[test]
    fn a_panic_is_a_trap() {
        let mut built = Module::default();
        let mut add = |name: &str| {
            let mut function = walrus::FunctionBuilder::new(&mut built.types, &[], &[ValType::I32]);
            function.name(name.to_owned()).func_body().i32_const(7);
            let id = function.finish(Vec::new(), &mut built.funcs);
            built.exports.add(name, id);
        };
        add("_R7___rustc17rust_begin_unwind");
        add("mm_on_tick");
        let cut = trap_on_panic(&built.emit_wasm()).unwrap();
        let module = Module::from_buffer(&cut).unwrap();
        let traps = |name: &str| {
            let function = module.exports.get_func(name).unwrap();
            let function = module.funcs.get(function).kind.unwrap_local();
            let body = function.block(function.entry_block());
            matches!(
                body.instrs.first(),
                Some((walrus::ir::Instr::Unreachable(_), _))
            )
        };
        assert!(traps("_R7___rustc17rust_begin_unwind"));
        assert!(!traps("mm_on_tick"));
        let error = trap_on_panic(&module_without_handler()).unwrap_err();
        assert!(error.to_string().contains("rust_begin_unwind"), "{error}");
    }

    fn module_without_handler() -> Vec<u8> {
        module(("env", "proxy_log"), &["mm_on_log"])
    }

    /// Only what a module wants is left, under the names of the host.
    #[test]
    fn a_missing_export_is_named() {
        let error = cut(&module(("env", "proxy_log"), &["mm_on_log"]), &VARIANTS[1]).unwrap_err();
        assert!(error.to_string().contains("mm_on_tick"), "{error}");
    }
}
