//! The hooks that Envoy calls. Each catches panics: what panics counts nothing, and the request
//! goes on.

use std::cell::Cell;
use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use filter_core::host::{LogLevel, RootId};

use super::{Bytes, Envoy, Field, Live, Opaque, find};
use crate::grpc::{self, Status};
use crate::host::{ConfigHandle, Proxy as _, StreamId};
use crate::plugin::Plugin;
use crate::process::Process;
use crate::ticker::Ticker;
use crate::worker::{Request, Worker};

/// The state of this Envoy.
static PROCESS: OnceLock<Process<Envoy>> = OnceLock::new();
static TICKER: Ticker<super::Scheduler> = Ticker::new();

thread_local! {
    static WORKER: Cell<Option<&'static Worker>> = const { Cell::new(None) };
}

/// One filter instance.
struct Filter {
    /// Outlives the filter: Envoy destroys a configuration after its filters.
    plugin: *const Plugin,
    request: Request<'static>,
}

/// Return value of hooks that may stop Envoy: go on.
const CONTINUE: u32 = 0;

/// Runs a hook; nothing unwinds into Envoy.
#[inline]
fn guarded<T: Default>(hook: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(hook)).unwrap_or_default()
}

/// Runs a hook with the state of the process.
#[inline]
fn with(hook: impl FnOnce(&'static Process<Envoy>)) {
    guarded(|| {
        if let Some(process) = PROCESS.get() {
            hook(process);
        }
    });
}

fn handle(config: Opaque) -> ConfigHandle {
    ConfigHandle(config.expose_provenance())
}

/// The worker of this thread.
#[inline]
fn worker(process: &Process<Envoy>) -> &'static Worker {
    WORKER.with(|own| {
        own.get().unwrap_or_else(|| {
            let worker = process.add_worker();
            own.set(Some(worker));
            worker
        })
    })
}

/// The version of the ABI that this Envoy has, of those that are served: it warns of any other.
fn abi_version() -> *const c_char {
    // Came with the second.
    let second = c"envoy_dynamic_module_callback_log_v2";
    if find(second).is_null() {
        c"v0.1.0".as_ptr()
    } else {
        c"v0.2.0".as_ptr()
    }
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_program_init() -> *const c_char {
    let loaded = guarded(|| match Envoy::load(find) {
        Ok(envoy) => {
            PROCESS.get_or_init(|| Process::new(envoy));
            true
        }
        Err(missing) => {
            refuse(missing);
            false
        }
    });
    if loaded {
        abi_version()
    } else {
        std::ptr::null()
    }
}

/// Says why this Envoy is refused, on standard error where Envoy cannot log for us.
fn refuse(missing: &str) {
    use std::io::Write as _;
    let _ = writeln!(
        std::io::stderr(),
        "meshmeter: this build of libmeshmeter_filter.so is for Envoy 1.38 to 1.40, and this Envoy has no {missing}: \
         take the Wasm module"
    );
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_new(
    config: Opaque,
    _name: Bytes,
    text: Bytes,
) -> *const c_void {
    let plugin = guarded(|| {
        let process = PROCESS.get()?;
        // SAFETY: Envoy's text, valid during the hook.
        let text = unsafe { text.read() };
        let plugin = process.configure(handle(config), text)?;
        let scheduler = process.proxy().schedule(handle(config));
        if !TICKER.add(plugin.root.0, scheduler) {
            let text = "there is no room for a thread: nothing is streamed";
            process.proxy().log(LogLevel::Error, text);
        }
        Some(Box::new(plugin))
    });
    plugin.map_or(std::ptr::null(), |plugin| {
        Box::into_raw(plugin).cast_const().cast()
    })
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_destroy(plugin: *const c_void) {
    if plugin.is_null() {
        return;
    }
    with(|process| {
        // SAFETY: made by `config_new`, and Envoy destroys it once.
        let plugin = unsafe { Box::from_raw(plugin.cast::<Plugin>().cast_mut()) };
        let RootId(root) = plugin.root;
        TICKER.remove(root);
        process.destroy(plugin.root);
    });
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_scheduled(
    _config: Opaque,
    _plugin: *const c_void,
    _event: u64,
) {
    TICKER.answered();
    with(Process::tick);
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_new(
    plugin: *const c_void,
    _filter: Opaque,
) -> *const c_void {
    let filter = guarded(|| {
        let process = PROCESS.get()?;
        Some(Box::new(Filter {
            plugin: plugin.cast(),
            request: Request::new(worker(process)),
        }))
    });
    filter.map_or(std::ptr::null(), |filter| {
        Box::into_raw(filter).cast_const().cast()
    })
}

/// Calls `hook` with a filter, its configuration and Envoy's view of it.
#[inline]
fn with_filter(
    envoy: Opaque,
    filter: *const c_void,
    hook: impl FnOnce(&mut Request<'static>, &Plugin, &Live),
) {
    with(|process| {
        let filter = filter.cast::<Filter>().cast_mut();
        // SAFETY: made by `filter_new`, not yet destroyed, and Envoy calls one hook of a filter at
        // a time.
        let Some(filter) = (unsafe { filter.as_mut() }) else {
            return;
        };
        // SAFETY: outlives the filter.
        let Some(plugin) = (unsafe { filter.plugin.as_ref() }) else {
            return;
        };
        let live = Live {
            envoy: *process.proxy(),
            filter: envoy,
        };
        hook(&mut filter.request, plugin, &live);
    });
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_request_headers(
    envoy: Opaque,
    filter: *const c_void,
    _ends: bool,
) -> u32 {
    with_filter(envoy, filter, |request, plugin, live| {
        request.begin(plugin, live);
    });
    CONTINUE
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_stream_complete(
    envoy: Opaque,
    filter: *const c_void,
) {
    with_filter(envoy, filter, |request, _, live| request.complete(live));
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_destroy(filter: *const c_void) {
    if filter.is_null() {
        return;
    }
    guarded(|| {
        // SAFETY: made by `filter_new`, and Envoy destroys it once.
        let mut filter = unsafe { Box::from_raw(filter.cast::<Filter>().cast_mut()) };
        filter.request.end();
    });
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_http_stream_headers(
    config: Opaque,
    _plugin: *const c_void,
    stream: u64,
    fields: *const Field,
    count: usize,
    ends: bool,
) {
    on_fields(config, stream, fields, count, ends);
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_http_stream_trailers(
    config: Opaque,
    _plugin: *const c_void,
    stream: u64,
    fields: *const Field,
    count: usize,
) {
    on_fields(config, stream, fields, count, true);
}

fn on_fields(config: Opaque, stream: u64, fields: *const Field, count: usize, ends: bool) {
    with(|process| {
        let fields = if fields.is_null() {
            &[]
        } else {
            // SAFETY: so many fields of Envoy's, valid during the hook.
            unsafe { std::slice::from_raw_parts(fields, count) }
        };
        // SAFETY: as above.
        let fields = fields
            .iter()
            .map(|field| unsafe { (field.name.read(), field.value.read()) });
        process.on_fields(handle(config), StreamId(stream), fields, ends);
    });
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_http_stream_data(
    config: Opaque,
    _plugin: *const c_void,
    stream: u64,
    chunks: *const Bytes,
    count: usize,
    _ends: bool,
) {
    with(|process| {
        if chunks.is_null() {
            return;
        }
        // SAFETY: so many chunks of Envoy's, valid during the hook.
        for chunk in unsafe { std::slice::from_raw_parts(chunks, count) } {
            // SAFETY: as above.
            process.on_data(handle(config), StreamId(stream), unsafe { chunk.read() });
        }
    });
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_http_stream_complete(
    config: Opaque,
    _plugin: *const c_void,
    stream: u64,
) {
    ended(config, stream, grpc::UNKNOWN, "ended");
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_http_stream_reset(
    config: Opaque,
    _plugin: *const c_void,
    stream: u64,
    _reason: u32,
) {
    ended(config, stream, grpc::UNAVAILABLE, "was reset");
}

fn ended(config: Opaque, stream: u64, code: u32, text: &str) {
    with(|process| {
        let status = Status {
            code,
            text: format!("the stream {text} without a status"),
        };
        process.on_end(handle(config), StreamId(stream), status, true);
    });
}

/// The bootstrap extension has no state: any address that is not null.
const EXTENSION: *const c_void = std::ptr::without_provenance(1);

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_bootstrap_extension_config_new(
    config: Opaque,
    _name: Bytes,
    _text: Bytes,
) -> *const c_void {
    with(|process| {
        // Or Envoy never listens.
        // SAFETY: the configuration is being made.
        unsafe { (process.proxy().signal_init_complete)(config) };
    });
    EXTENSION
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_bootstrap_extension_new(
    _config: *const c_void,
    _extension: Opaque,
) -> *const c_void {
    EXTENSION
}

/// Envoy's function that ends the wait for us, and its argument.
struct Completion {
    call: unsafe extern "C" fn(Opaque),
    context: Opaque,
}

// SAFETY: called on the main thread, where the hook came from.
unsafe impl Send for Completion {}

impl Completion {
    fn done(self) {
        // SAFETY: Envoy waits for this call, and it is made once.
        unsafe { (self.call)(self.context) };
    }
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_bootstrap_extension_shutdown(
    _envoy: Opaque,
    _extension: *const c_void,
    call: Option<unsafe extern "C" fn(Opaque)>,
    context: Opaque,
) {
    let Some(call) = call else { return };
    let completion = Completion { call, context };
    with(|process| process.shut_down(Box::new(move || completion.done())));
}

/// Hooks that Envoy looks up and that have nothing to do here.
macro_rules! idle {
    ($($name:ident($($arg:ty),*) $(-> $result:ty)?;)*) => {
        $(#[unsafe(no_mangle)]
        extern "C" fn $name($(_: $arg),*) $(-> $result)? {
            $(let nothing: $result = CONTINUE; nothing)?
        })*
    };
}

type Ptr = *const c_void;

idle! {
    envoy_dynamic_module_on_http_filter_request_body(Ptr, Ptr, bool) -> u32;
    envoy_dynamic_module_on_http_filter_request_trailers(Ptr, Ptr) -> u32;
    envoy_dynamic_module_on_http_filter_response_headers(Ptr, Ptr, bool) -> u32;
    envoy_dynamic_module_on_http_filter_response_body(Ptr, Ptr, bool) -> u32;
    envoy_dynamic_module_on_http_filter_response_trailers(Ptr, Ptr) -> u32;
    envoy_dynamic_module_on_http_filter_http_callout_done(Ptr, Ptr, u64, u32, Ptr, usize, Ptr, usize);
    envoy_dynamic_module_on_http_filter_http_stream_headers(Ptr, Ptr, u64, Ptr, usize, bool);
    envoy_dynamic_module_on_http_filter_http_stream_data(Ptr, Ptr, u64, Ptr, usize, bool);
    envoy_dynamic_module_on_http_filter_http_stream_trailers(Ptr, Ptr, u64, Ptr, usize);
    envoy_dynamic_module_on_http_filter_http_stream_complete(Ptr, Ptr, u64);
    envoy_dynamic_module_on_http_filter_http_stream_reset(Ptr, Ptr, u64, u32);
    envoy_dynamic_module_on_http_filter_scheduled(Ptr, Ptr, u64);
    envoy_dynamic_module_on_http_filter_downstream_above_write_buffer_high_watermark(Ptr, Ptr);
    envoy_dynamic_module_on_http_filter_downstream_below_write_buffer_low_watermark(Ptr, Ptr);
    envoy_dynamic_module_on_bootstrap_extension_config_destroy(Ptr);
    envoy_dynamic_module_on_bootstrap_extension_server_initialized(Ptr, Ptr);
    envoy_dynamic_module_on_bootstrap_extension_worker_thread_initialized(Ptr, Ptr);
    envoy_dynamic_module_on_bootstrap_extension_drain_started(Ptr, Ptr);
    envoy_dynamic_module_on_bootstrap_extension_destroy(Ptr);
    envoy_dynamic_module_on_bootstrap_extension_config_scheduled(Ptr, Ptr, u64);
    envoy_dynamic_module_on_bootstrap_extension_http_callout_done(Ptr, Ptr, u64, u32, Ptr, usize, Ptr, usize);
    envoy_dynamic_module_on_bootstrap_extension_timer_fired(Ptr, Ptr, Ptr);
    envoy_dynamic_module_on_bootstrap_extension_admin_request(Ptr, Ptr, Bytes, Bytes, Bytes) -> u32;
    envoy_dynamic_module_on_bootstrap_extension_file_changed(Ptr, Ptr, Bytes, u32);
    envoy_dynamic_module_on_bootstrap_extension_cluster_add_or_update(Ptr, Ptr, Bytes);
    envoy_dynamic_module_on_bootstrap_extension_cluster_removal(Ptr, Ptr, Bytes);
    envoy_dynamic_module_on_bootstrap_extension_listener_add_or_update(Ptr, Ptr, Bytes);
    envoy_dynamic_module_on_bootstrap_extension_listener_removal(Ptr, Ptr, Bytes);
}
