//! The border to Envoy: the few of its functions that are used, by our own declarations, and the
//! hooks that it calls, in `hooks`. The only module with unsafe code.
//!
//! Envoy's functions are looked up by name when the module is loaded, since the loader binds
//! lazily: one that an Envoy lacks would end the process at its first call. An Envoy that lacks any
//! is refused in one sentence. The layouts are those of
//! `source/extensions/dynamic_modules/abi/abi.h` in Envoy 1.38 to 1.40, which are the same for what
//! is used here.
#![expect(
    unsafe_code,
    reason = "hooks and calls cross the border to Envoy, whose pointers no compiler checks"
)]

use std::ffi::{CStr, c_char, c_void};
use std::mem;
use std::slice;

use filter_core::host::LogLevel;

use crate::host::{ConfigHandle, Proxy, StreamId};
use crate::ticker::Waker;
use crate::worker::Exchange;

mod hooks;

/// Bytes of Envoy's or of ours, by who made it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Bytes {
    data: *const u8,
    len: usize,
}

/// A header or trailer.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Field {
    name: Bytes,
    value: Bytes,
}

/// A pointer of Envoy's that only Envoy looks behind.
type Opaque = *mut c_void;

/// Envoy's number of the response headers among its maps of headers.
const RESPONSE_HEADERS: u32 = 2;
/// Envoy's result for a stream that was opened.
const OPENED: u32 = 0;

/// Declares the table of Envoy's functions and how it is filled.
macro_rules! functions {
    ($($field:ident = $name:literal: fn($($arg:ty),*) $(-> $result:ty)?;)*) => {
        /// The functions of the Envoy that loaded the module.
        #[derive(Clone, Copy)]
        pub(crate) struct Envoy {
            $($field: unsafe extern "C" fn($($arg),*) $(-> $result)?,)*
        }

        impl Envoy {
            /// Looks all functions up by `find`; the name of the first that is missing otherwise.
            fn load(find: impl Fn(&CStr) -> Opaque) -> Result<Self, &'static str> {
                Ok(Self {
                    $($field: {
                        let address = find($name);
                        if address.is_null() {
                            return Err($name.to_str().unwrap_or_default());
                        }
                        // SAFETY: Envoy's function of this name has this signature.
                        unsafe {
                            mem::transmute::<
                                Opaque,
                                unsafe extern "C" fn($($arg),*) $(-> $result)?,
                            >(address)
                        }
                    },)*
                })
            }
        }
    };
}

functions! {
    log = c"envoy_dynamic_module_callback_log": fn(u32, Bytes);
    start_stream = c"envoy_dynamic_module_callback_http_filter_config_start_http_stream":
        fn(Opaque, *mut u64, Bytes, *const Field, usize, Bytes, bool, u64) -> u32;
    send_data = c"envoy_dynamic_module_callback_http_filter_config_stream_send_data":
        fn(Opaque, u64, Bytes, bool) -> bool;
    reset_stream = c"envoy_dynamic_module_callback_http_filter_config_reset_http_stream":
        fn(Opaque, u64);
    scheduler_new = c"envoy_dynamic_module_callback_http_filter_config_scheduler_new":
        fn(Opaque) -> Opaque;
    scheduler_commit = c"envoy_dynamic_module_callback_http_filter_config_scheduler_commit":
        fn(Opaque, u64);
    scheduler_delete = c"envoy_dynamic_module_callback_http_filter_config_scheduler_delete":
        fn(Opaque);
    get_header = c"envoy_dynamic_module_callback_http_get_header":
        fn(Opaque, u32, Bytes, *mut Bytes, usize, *mut usize) -> bool;
    get_cluster_name = c"envoy_dynamic_module_callback_http_get_cluster_name":
        fn(Opaque, *mut Bytes) -> bool;
    // Not before Envoy 1.38: the hooks for the end of the process came with it.
    signal_init_complete =
        c"envoy_dynamic_module_callback_bootstrap_extension_config_signal_init_complete":
        fn(Opaque);
}

unsafe extern "C" {
    fn dlsym(handle: Opaque, name: *const c_char) -> Opaque;
}

/// The address of a function in the program, or null.
fn find(name: &CStr) -> Opaque {
    /// `RTLD_DEFAULT`: all that is loaded.
    const ANYWHERE: Opaque = std::ptr::null_mut();
    // SAFETY: the name ends with a zero byte.
    unsafe { dlsym(ANYWHERE, name.as_ptr()) }
}

/// Wakes the main thread for a configuration.
pub(crate) struct Scheduler {
    envoy: Envoy,
    scheduler: Opaque,
}

// SAFETY: Envoy's schedulers may be used on any thread, and ours is used under one lock.
unsafe impl Send for Scheduler {}

/// One filter instance of Envoy, during a hook of it.
struct Live {
    envoy: Envoy,
    filter: Opaque,
}

// === impl Bytes ===

impl Bytes {
    fn of(bytes: &[u8]) -> Self {
        Self {
            data: bytes.as_ptr(),
            len: bytes.len(),
        }
    }

    const NONE: Self = Self {
        data: std::ptr::null(),
        len: 0,
    };

    /// What Envoy shows.
    ///
    /// # Safety
    ///
    /// It is Envoy's, and valid during the hook that gave it.
    unsafe fn read<'a>(self) -> &'a [u8] {
        if self.data.is_null() || self.len == 0 {
            return &[];
        }
        // SAFETY: as the caller says.
        unsafe { slice::from_raw_parts(self.data, self.len) }
    }
}

// === impl Envoy ===

impl Envoy {
    fn schedule(self, config: ConfigHandle) -> Scheduler {
        // SAFETY: the configuration is being made.
        let scheduler = unsafe { (self.scheduler_new)(opaque(config)) };
        Scheduler {
            envoy: self,
            scheduler,
        }
    }
}

fn opaque(config: ConfigHandle) -> Opaque {
    std::ptr::with_exposed_provenance_mut(config.0)
}

impl Proxy for Envoy {
    fn log(&self, level: LogLevel, message: &str) {
        let level = match level {
            LogLevel::Debug => 1,
            LogLevel::Info => 2,
            LogLevel::Warn => 3,
            LogLevel::Error => 4,
        };
        let message = format!("meshmeter: {message}");
        // SAFETY: Envoy reads the text during the call.
        unsafe { (self.log)(level, Bytes::of(message.as_bytes())) };
    }

    fn start_stream(
        &self,
        config: ConfigHandle,
        cluster: &str,
        authority: &str,
        path: &str,
    ) -> Option<StreamId> {
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", authority),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ]
        .map(|(name, value)| Field {
            name: Bytes::of(name.as_bytes()),
            value: Bytes::of(value.as_bytes()),
        });
        let mut stream = 0;
        // SAFETY: the configuration lives (`Process`), and Envoy copies what it is given.
        let result = unsafe {
            (self.start_stream)(
                opaque(config),
                &raw mut stream,
                Bytes::of(cluster.as_bytes()),
                fields.as_ptr(),
                fields.len(),
                Bytes::NONE,
                false,
                0,
            )
        };
        (result == OPENED).then_some(StreamId(stream))
    }

    fn send(&self, config: ConfigHandle, stream: StreamId, data: &[u8], ends: bool) -> bool {
        // SAFETY: as above.
        unsafe { (self.send_data)(opaque(config), stream.0, Bytes::of(data), ends) }
    }

    fn reset(&self, config: ConfigHandle, stream: StreamId) {
        // SAFETY: as above.
        unsafe { (self.reset_stream)(opaque(config), stream.0) };
    }
}

// === impl Scheduler ===

impl Waker for Scheduler {
    fn wake(&self) {
        // SAFETY: the scheduler is deleted with this value only.
        unsafe { (self.envoy.scheduler_commit)(self.scheduler, 0) };
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        // SAFETY: nobody else has it.
        unsafe { (self.envoy.scheduler_delete)(self.scheduler) };
    }
}

// === impl Live ===

impl Exchange for Live {
    fn with_cluster<T>(&self, look: impl FnOnce(Option<&[u8]>) -> T) -> T {
        let mut name = Bytes::NONE;
        // SAFETY: the filter lives during its hook, and so does the name.
        let known = unsafe { (self.envoy.get_cluster_name)(self.filter, &raw mut name) };
        // SAFETY: as above.
        look(known.then(|| unsafe { name.read() }))
    }

    fn status(&self) -> Option<u16> {
        let mut value = Bytes::NONE;
        // SAFETY: the filter and its headers live during its hook.
        let known = unsafe {
            (self.envoy.get_header)(
                self.filter,
                RESPONSE_HEADERS,
                Bytes::of(b":status"),
                &raw mut value,
                0,
                std::ptr::null_mut(),
            )
        };
        if !known {
            return None;
        }
        // SAFETY: as above.
        str::from_utf8(unsafe { value.read() }).ok()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An Envoy that lacks a function is refused by the function's name; no address is called.
    #[test]
    fn a_missing_function_is_named() {
        let somewhere: Opaque = std::ptr::without_provenance_mut(8);
        let without = c"envoy_dynamic_module_callback_http_get_cluster_name";
        let found = Envoy::load(|name| {
            if name == without {
                std::ptr::null_mut()
            } else {
                somewhere
            }
        });
        assert_eq!(found.err(), without.to_str().ok());
        assert!(Envoy::load(|_| somewhere).is_ok());
    }

    /// A test is no Envoy.
    #[test]
    fn this_program_has_none() {
        assert_eq!(
            Envoy::load(find).err(),
            Some("envoy_dynamic_module_callback_log")
        );
    }

    /// The layout of the ABI: a header is four words.
    #[test]
    fn layouts_are_those_of_the_abi() {
        assert_eq!(size_of::<Bytes>(), 2 * size_of::<usize>());
        assert_eq!(size_of::<Field>(), 4 * size_of::<usize>());
    }
}
