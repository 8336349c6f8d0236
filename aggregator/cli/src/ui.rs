//! `ui`: the page in a browser of this machine, with the rights of whoever runs the command.
//!
//! ```text
//! browser ── http://127.0.0.1:PORT/KEY/apis/… ──> gate: method, Host, Origin, key, path
//!                                                  └─> proxy ── Connection ──> kube-apiserver
//! ```
//!
//! Whoever has the link has the user's rights to the page, as long as the command runs, so the link
//! is a secret: its key is in the path, since a cookie of 127.0.0.1 would go to every port. The
//! browser is started with another link, which works once, since what a program is started with is
//! seen by other users of the machine.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use aggregator_view::{GROUP, VERSION};
use common_http::{Deadlines, Http2, Limits, Metrics, Peer, Protocol, Server, Settings};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::args::UiArgs;
use crate::output::{Failure, note};
use crate::{Connection, Program};
use gate::Gate;
use proxy::Proxy;

mod gate;
mod proxy;

/// Connections of browsers at once: some tabs of one reader.
const CONNECTIONS: usize = 64;

/// Streams of events are cut at the end; nothing else takes long.
const DRAIN: Duration = Duration::from_millis(200);

/// Serves until Ctrl-C.
pub(crate) async fn run(args: &UiArgs, program: Program) -> Result<ExitCode, Failure> {
    let connection = Connection::open(&args.connection, program).await?;
    let start = start(&connection).await?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|error| {
        let message = format!("cannot listen on {address}: {error}; choose another --port");
        Failure::new(&message)
    })?;
    let bound = listener
        .local_addr()
        .map_err(|error| Failure::new(&error))?;
    let gate = Gate::new(bound.port(), &start);
    let [link, once] = [gate.link(), gate.link_for_once()];
    // A closed stdout is no error.
    let _ = writeln!(std::io::stdout(), "{link}");
    note("Keep this link to yourself: it shows what you may see. Ctrl-C ends it.");
    if !args.no_open
        && let Err(error) = open::that_detached(once)
    {
        note(&format!(
            "no browser could be started ({error}): open the link above"
        ));
    }
    serve(listener, Proxy::new(gate, connection), interrupted()).await;
    Ok(ExitCode::SUCCESS)
}

/// The first page that this user may see, below the version of the API group: all namespaces, or
/// the one that is asked for or of the context.
async fn start(connection: &Connection) -> Result<String, Failure> {
    let base = format!("/apis/{GROUP}/{VERSION}/");
    let in_namespace = format!("namespaces/{}/page", connection.namespace());
    if connection.given_namespace().is_none() {
        match connection.get(&format!("{base}page"), &[]).await {
            Ok(_) => return Ok("page".to_owned()),
            Err(error) if error.status() == Some(403) => note(&format!(
                "you may not see all namespaces, so the page begins with {}",
                connection.namespace()
            )),
            Err(error) => return Err(error.into()),
        }
    }
    connection
        .get(&format!("{base}{in_namespace}"), &[])
        .await?;
    Ok(in_namespace)
}

/// Serves on `listener` until `stop` is cancelled.
pub(crate) async fn serve(listener: TcpListener, proxy: Proxy, stop: CancellationToken) {
    let settings = Settings {
        listener: "ui",
        protocol: Protocol::Http1,
        limits: Limits {
            per_address: CONNECTIONS,
            ..Limits::of(CONNECTIONS)
        },
        deadlines: Deadlines::default(),
        head_bytes_max: 16 * 1024,
        headers_max: 100,
        http2: Http2::default(),
    };
    let proxy = Arc::new(proxy);
    let handler = move |_: &Arc<Peer>| {
        let proxy = Arc::clone(&proxy);
        move |request: http::Request<_>| {
            let proxy = Arc::clone(&proxy);
            async move { proxy.respond_to(&request.into_parts().0).await }
        }
    };
    Server::new(settings, &Metrics::default())
        .serve(listener, stop, DRAIN, handler)
        .await;
}

/// Cancelled at Ctrl-C and SIGTERM.
fn interrupted() -> CancellationToken {
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        let Ok(mut terminate) = signal(SignalKind::terminate()) else {
            return;
        };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        stopped.cancel();
    });
    stop
}

#[cfg(test)]
mod tests;
