//! State of one VM as the host keeps it: contexts, tokens, timers, and what the running callback
//! may see.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use wasmtime::{Memory, TypedFunc};

use crate::connection::{ConnectionId, VmIndex};
use crate::metrics::MetricIds;
use crate::plugin::RootKey;
use crate::process::{Life, Process, Thread};
use crate::request::StreamInfo;

/// The first token of a gRPC stream in every VM.
const FIRST_STREAM_TOKEN: u32 = 6;
/// Distance of two tokens; the two low bits are the kind of call.
const TOKEN_INCREMENT: u32 = 4;

/// Where in its life a VM is, which decides what it may call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    /// In `_initialize`.
    Initialize,
    /// In `proxy_on_memory_allocate`.
    Allocate,
    Run,
}

/// A gRPC stream as the root context that opened it knows it.
#[derive(Debug)]
pub(crate) struct GrpcStream {
    pub(crate) connection: ConnectionId,
    pub(crate) local_closed: bool,
}

/// A root or stream context.
#[derive(Debug)]
pub(crate) struct Context {
    /// The root's id; for a root its own.
    pub(crate) root: u32,
    /// Key of a root; `None` for streams.
    pub(crate) key: Option<RootKey>,
    /// The request that properties and headers are about.
    pub(crate) info: Option<Rc<StreamInfo>>,
    /// Streams of a root by token.
    pub(crate) streams: BTreeMap<u32, GrpcStream>,
}

/// The tick of a root. Envoy does not remove it with the root.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timer {
    pub(crate) period: Duration,
    pub(crate) due: Duration,
}

/// A callback that waits for the running one to return.
#[derive(Debug)]
pub(crate) struct DeferredClose {
    pub(crate) root: u32,
    pub(crate) token: u32,
    pub(crate) status: u32,
    pub(crate) message: String,
}

pub(crate) struct VmState {
    pub(crate) process: Rc<RefCell<Process>>,
    pub(crate) index: VmIndex,
    pub(crate) thread: Thread,
    pub(crate) life: Life,
    pub(crate) vm_id: String,
    pub(crate) memory: Option<Memory>,
    pub(crate) allocator: Option<TypedFunc<u32, u32>>,
    pub(crate) phase: Phase,
    /// Name of the callback that runs.
    pub(crate) callback: &'static str,
    pub(crate) current: u32,
    /// 0, or the context that `proxy_set_effective_context` named within this callback.
    pub(crate) effective: u32,
    pub(crate) contexts: BTreeMap<u32, Context>,
    pub(crate) timers: BTreeMap<u32, Timer>,
    pub(crate) metric_ids: MetricIds,
    pub(crate) plugin_configuration: Option<Vec<u8>>,
    pub(crate) grpc_message: Option<Vec<u8>>,
    /// Status and message while `proxy_on_grpc_close` runs.
    pub(crate) grpc_status: (u32, String),
    pub(crate) deferred: Vec<DeferredClose>,
    pub(crate) done_called: bool,
    last_context: u32,
    next_token: u32,
}

// === impl VmState ===

impl VmState {
    pub(crate) fn new(
        process: Rc<RefCell<Process>>,
        index: VmIndex,
        thread: Thread,
        life: Life,
        vm_id: String,
    ) -> Self {
        Self {
            process,
            index,
            thread,
            life,
            vm_id,
            memory: None,
            allocator: None,
            phase: Phase::Initialize,
            callback: "_initialize",
            current: 0,
            effective: 0,
            contexts: BTreeMap::new(),
            timers: BTreeMap::new(),
            metric_ids: MetricIds::default(),
            plugin_configuration: None,
            grpc_message: None,
            grpc_status: (0, String::new()),
            deferred: Vec::new(),
            done_called: false,
            last_context: 0,
            next_token: FIRST_STREAM_TOKEN,
        }
    }

    pub(crate) fn add_root(&mut self, key: RootKey) -> u32 {
        self.last_context += 1;
        let context = Context {
            root: self.last_context,
            key: Some(key),
            info: None,
            streams: BTreeMap::new(),
        };
        self.contexts.insert(self.last_context, context);
        self.last_context
    }

    pub(crate) fn add_stream(&mut self, root: u32, info: Rc<StreamInfo>) -> u32 {
        self.last_context += 1;
        let context = Context {
            root,
            key: None,
            info: Some(info),
            streams: BTreeMap::new(),
        };
        self.contexts.insert(self.last_context, context);
        self.last_context
    }

    pub(crate) fn root_of_key(&self, key: &RootKey) -> Option<u32> {
        let mut contexts = self.contexts.iter();
        contexts
            .find(|(_, context)| context.key.as_ref() == Some(key))
            .map(|(id, _)| *id)
    }

    /// The context that a host function acts on.
    pub(crate) fn acting(&self) -> Option<&Context> {
        let effective = self.contexts.get(&self.effective);
        effective.or_else(|| self.contexts.get(&self.current))
    }

    /// The root that gRPC calls and timers go to.
    pub(crate) fn acting_root(&mut self) -> Option<(u32, &mut Context)> {
        let root = self.acting()?.root;
        let context = self.contexts.get_mut(&root)?;
        Some((root, context))
    }

    pub(crate) fn take_token(&mut self) -> u32 {
        let token = self.next_token;
        self.next_token += TOKEN_INCREMENT;
        token
    }

    /// Removes a context; the streams of a root are reset without a callback.
    pub(crate) fn remove_context(&mut self, id: u32) {
        let Some(context) = self.contexts.remove(&id) else {
            return;
        };
        let mut process = self.process.borrow_mut();
        let now = process.now();
        for stream in context.streams.values() {
            process.network.drop_sidecar_end(now, stream.connection);
        }
    }
}
