//! Injection into a Listener, and its removal.
//!
//! `Listener{name 1, filter_chains 3, traffic_direction 16, default_filter_chain 25}`,
//! `FilterChain{filters 3}`, `Filter{name 1, typed_config 4}`, `HttpConnectionManager{http_filters
//! 5, access_log 13}`, `HttpFilter{name 1, typed_config 4}`, `Router{upstream_log 3}`,
//! `Any{type_url 1, value 2}`.

use common_names::Direction;
use prost::Message as _;

use crate::injection::{Directions, Injection, LOGGER, NAME};
use crate::wire::{Field, Message, Splices, WireError};

const LISTENER_NAME: u32 = 1;
const LISTENER_FILTER_CHAINS: u32 = 3;
const LISTENER_DIRECTION: u32 = 16;
const LISTENER_DEFAULT_CHAIN: u32 = 25;
const CHAIN_FILTERS: u32 = 3;
const TYPED_NAME: u32 = 1;
const TYPED_CONFIG: u32 = 4;
const MANAGER_HTTP_FILTERS: u32 = 5;
const MANAGER_ACCESS_LOG: u32 = 13;
const ROUTER_UPSTREAM_LOG: u32 = 3;
const ANY_TYPE: u32 = 1;
const ANY_VALUE: u32 = 2;

const INBOUND: u64 = 1;
const OUTBOUND: u64 = 2;

const MANAGER: &str =
    "/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "/envoy.extensions.filters.http.router.v3.Router";

/// The change to make in each connection manager.
#[derive(Clone, Copy, Debug)]
enum Task<'a> {
    Insert(&'a Injection, Direction),
    Remove,
}

/// Injects into the listener; `None` if it has no connection manager or is injected already.
pub fn insert(listener: &[u8], injection: &Injection) -> Result<Option<Vec<u8>>, WireError> {
    let splices = splices(listener, injection)?;
    Ok(splices.map(|splices| splices.apply(listener)))
}

/// The changes that [`insert`] makes.
pub(crate) fn splices(
    listener: &[u8],
    injection: &Injection,
) -> Result<Option<Splices>, WireError> {
    let message = Message::parse(listener)?;
    match selected(&message, injection.directions)? {
        Some(direction) => chains(&message, Task::Insert(injection, direction)),
        None => Ok(None),
    }
}

/// Removes what was injected; `None` if nothing was.
pub fn remove(listener: &[u8]) -> Result<Option<Vec<u8>>, WireError> {
    let splices = chains(&Message::parse(listener)?, Task::Remove)?;
    Ok(splices.map(|splices| splices.apply(listener)))
}

/// The listener's direction if it is one of `directions`: by `traffic_direction`, or, where that is
/// unset, by the names that App Mesh gives.
fn selected(
    listener: &Message<'_>,
    directions: Directions,
) -> Result<Option<Direction>, WireError> {
    let name = listener.text(LISTENER_NAME)?;
    let direction = listener.number(LISTENER_DIRECTION)?;
    let inbound = direction == INBOUND || (direction == 0 && name.contains("_ingress_"));
    let outbound = direction == OUTBOUND || (direction == 0 && name.contains("_egress_"));
    let chosen = |direction: &&Direction| match direction {
        Direction::Inbound => inbound,
        Direction::Outbound => outbound,
    };
    Ok(directions.each().iter().find(chosen).copied())
}

fn chains(listener: &Message<'_>, task: Task<'_>) -> Result<Option<Splices>, WireError> {
    let numbers = [LISTENER_FILTER_CHAINS, LISTENER_DEFAULT_CHAIN];
    // Protobuf merges a singular message that occurs twice: neither part is what Envoy sees.
    listener.one(LISTENER_DEFAULT_CHAIN)?;
    each(listener, &numbers, |chain| {
        each(&Message::parse(chain)?, &[CHAIN_FILTERS], |filter| {
            typed(filter, MANAGER, |manager| manager_of(manager, task))
        })
    })
}

/// Applies `change` to each field with one of these numbers; `None` if nothing changed.
fn each(
    message: &Message<'_>,
    numbers: &[u32],
    change: impl Fn(&[u8]) -> Result<Option<Splices>, WireError>,
) -> Result<Option<Splices>, WireError> {
    let mut edit = message.edit();
    let has_number = |field: &&Field| numbers.contains(&field.number);
    for field in message.fields().iter().filter(has_number) {
        if let Some(changed) = change(message.content(field)?)? {
            edit.nest(field, changed);
        }
    }
    Ok((!edit.is_empty()).then(|| edit.splices()))
}

/// Applies `change` to the value of a filter's `typed_config` if it has this type.
fn typed(
    filter: &[u8],
    type_name: &str,
    change: impl Fn(&[u8]) -> Result<Option<Splices>, WireError>,
) -> Result<Option<Splices>, WireError> {
    let filter = Message::parse(filter)?;
    let Some(config) = filter.one(TYPED_CONFIG)? else {
        return Ok(None);
    };
    let any = Message::parse(filter.content(config)?)?;
    if !any.text(ANY_TYPE)?.ends_with(type_name) {
        return Ok(None);
    }
    let value = any.one(ANY_VALUE)?;
    let bytes = value.map_or(Ok(&[][..]), |value| any.content(value))?;
    // A missing value is inserted before the other fields, so that removal recognises it there. An
    // empty value that comes first in the input would look the same, and is left unchanged.
    let first = value.is_some_and(|value| value.whole.start == 0);
    if first && bytes.is_empty() {
        return Ok(None);
    }
    let Some(changed) = change(bytes)? else {
        return Ok(None);
    };
    let mut edit = any.edit();
    match (value, any.fields().first()) {
        (Some(value), _) if first && changed.len_of(bytes.len()) == 0 => edit.remove(value),
        (Some(value), _) => edit.nest(value, changed),
        (None, Some(front)) => edit.insert_before(front, ANY_VALUE, &changed.apply(bytes)),
        (None, None) => edit.append(ANY_VALUE, &changed.apply(bytes)),
    }
    let any = edit.splices();
    let mut edit = filter.edit();
    edit.nest(config, any);
    Ok(Some(edit.splices()))
}

fn manager_of(manager: &[u8], task: Task<'_>) -> Result<Option<Splices>, WireError> {
    let manager = Message::parse(manager)?;
    // Without an HTTP filter there is no router, and Envoy rejects the listener with or without
    // ours. The router is last: Envoy requires the terminal filter there.
    let Some(router) = manager.all(MANAGER_HTTP_FILTERS).last() else {
        return Ok(None);
    };
    let mut edit = manager.edit();
    match task {
        Task::Insert(injection, direction) => {
            if let Some(plugin) = &injection.upstream_log {
                let log = plugin.extension(LOGGER, direction).encode_to_vec();
                let changed = typed(manager.content(router)?, ROUTER, |value| {
                    with_log(value, &log)
                })?;
                if let Some(changed) = changed {
                    edit.nest(router, changed);
                }
            }
            if let Some(plugin) = &injection.filter
                && named(&manager, MANAGER_HTTP_FILTERS)?.is_empty()
            {
                let filter = plugin.http_filter(direction).encode();
                edit.insert_before(router, MANAGER_HTTP_FILTERS, &filter);
            }
            if let Some(plugin) = &injection.access_log
                && named(&manager, MANAGER_ACCESS_LOG)?.is_empty()
            {
                let log = plugin.extension(LOGGER, direction).encode_to_vec();
                edit.append(MANAGER_ACCESS_LOG, &log);
            }
        }
        Task::Remove => {
            for number in [MANAGER_HTTP_FILTERS, MANAGER_ACCESS_LOG] {
                for field in named(&manager, number)? {
                    edit.remove(field);
                }
            }
            if let Some(changed) = typed(manager.content(router)?, ROUTER, without_log)? {
                edit.nest(router, changed);
            }
        }
    }
    Ok((!edit.is_empty()).then(|| edit.splices()))
}

fn with_log(router: &[u8], log: &[u8]) -> Result<Option<Splices>, WireError> {
    let router = Message::parse(router)?;
    if !named(&router, ROUTER_UPSTREAM_LOG)?.is_empty() {
        return Ok(None);
    }
    let mut edit = router.edit();
    edit.append(ROUTER_UPSTREAM_LOG, log);
    Ok(Some(edit.splices()))
}

fn without_log(router: &[u8]) -> Result<Option<Splices>, WireError> {
    let router = Message::parse(router)?;
    let mut edit = router.edit();
    for field in named(&router, ROUTER_UPSTREAM_LOG)? {
        edit.remove(field);
    }
    Ok((!edit.is_empty()).then(|| edit.splices()))
}

/// Fields with this number whose `name` is [`NAME`].
fn named<'a>(message: &'a Message<'_>, number: u32) -> Result<Vec<&'a Field>, WireError> {
    let mut ours = Vec::new();
    for field in message.all(number) {
        if Message::parse(message.content(field)?)?.text(TYPED_NAME)? == NAME {
            ours.push(field);
        }
    }
    Ok(ours)
}
