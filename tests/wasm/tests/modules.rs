//! What the built modules import and export, and how large they are.

use std::collections::BTreeSet;

use anyhow::Result;
use tests_wasm::module::Built;

/// Bytes a module may have.
const SIZE_MAX: usize = 160 * 1024;

/// Host functions of Envoy 1.30, without `env.proxy_`.
const PROXY: &str = "log get_status set_property get_property send_local_response get_shared_data \
    set_shared_data register_shared_queue resolve_shared_queue dequeue_shared_queue \
    enqueue_shared_queue get_header_map_value add_header_map_value replace_header_map_value \
    remove_header_map_value get_header_map_pairs set_header_map_pairs get_header_map_size \
    get_buffer_status get_buffer_bytes set_buffer_bytes http_call grpc_call grpc_stream grpc_close \
    grpc_cancel grpc_send set_tick_period_milliseconds get_current_time_nanoseconds define_metric \
    increment_metric record_metric get_metric set_effective_context done call_foreign_function \
    continue_stream close_stream get_log_level";

/// WASI functions of Envoy 1.30.
const WASI: &str = "fd_write fd_read fd_seek fd_close fd_fdstat_get environ_get environ_sizes_get \
    args_get args_sizes_get clock_time_get random_get proc_exit path_open fd_prestat_get \
    fd_prestat_dir_name";

const COMMON: &str = "memory _initialize proxy_abi_version_0_2_1 proxy_on_memory_allocate \
    proxy_on_vm_start proxy_on_configure proxy_on_tick proxy_on_done \
    proxy_on_grpc_receive proxy_on_grpc_close";

/// Exports of the HTTP filter alone.
const FILTER: &str = "proxy_on_context_create proxy_on_request_headers";

/// Exports of the access logger alone.
const LOG: &str = "proxy_on_log";

fn names(list: &str, prefix: &str) -> BTreeSet<String> {
    list.split_whitespace()
        .map(|name| format!("{prefix}{name}"))
        .collect()
}

/// One import that the oldest supported Envoy lacks, and its listener does not load.
#[test]
fn modules_import_only_what_envoy_1_30_has() -> Result<()> {
    let mut allowed = names(PROXY, "env.proxy_");
    allowed.extend(names(WASI, "wasi_snapshot_preview1."));
    for built in [Built::Filter, Built::Log] {
        let imports = built.interface()?.imports;
        let unknown: Vec<_> = imports.difference(&allowed).collect();
        assert!(unknown.is_empty(), "{built:?} imports {unknown:?}");
        assert!(!imports.is_empty(), "{built:?} has imports at all");
    }
    Ok(())
}

/// Whatever is exported, Envoy calls: an access logger must not have stream callbacks, and neither
/// module the callback for initial metadata, which may come inside another callback.
#[test]
fn modules_export_exactly_what_their_roles_use() -> Result<()> {
    let log = names(&format!("{COMMON} {LOG}"), "");
    let filter = names(&format!("{COMMON} {FILTER}"), "");
    assert_eq!(Built::Log.interface()?.exports, log);
    assert_eq!(Built::Filter.interface()?.exports, filter);
    Ok(())
}

#[test]
fn modules_keep_to_their_size() -> Result<()> {
    for built in [Built::Filter, Built::Log] {
        let size = built.bytes()?.len();
        assert!(size <= SIZE_MAX, "{built:?} has {size} bytes");
    }
    Ok(())
}
