//! Clients that want to make a server hold memory: connections, streams, and messages that are
//! never whole.

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::Request;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long one attacker tries to get its bytes through.
const PATIENCE: Duration = Duration::from_secs(6);
/// Bytes written at once.
const CHUNK: usize = 16 * 1024;

/// What an attack holds open; dropping it lets go.
#[derive(Default)]
#[expect(missing_debug_implementations, reason = "it is only held")]
pub struct Held {
    connections: JoinSet<()>,
    senders: Vec<SendRequest<Bytes>>,
    sockets: Vec<TcpStream>,
    streams: Vec<(ResponseFuture, SendStream<Bytes>)>,
    answered: Vec<RecvStream>,
    /// Bytes of messages that the server took.
    pub sent: usize,
    /// Connections or streams that it did not take.
    pub refused: usize,
}

// === impl Held ===

impl Held {
    fn join(&mut self, other: Self) {
        let Self {
            mut connections,
            senders,
            sockets,
            streams,
            answered,
            sent,
            refused,
        } = other;
        self.senders.extend(senders);
        self.sockets.extend(sockets);
        self.streams.extend(streams);
        self.answered.extend(answered);
        self.sent += sent;
        self.refused += refused;
        self.connections
            .spawn(async move { while connections.join_next().await.is_some() {} });
    }
}

/// `connections` connections, each with `streams` calls of `path`, each of which begins a message
/// of `bytes` bytes and sends all but the last one.
pub async fn half_messages(
    target: SocketAddr,
    path: &'static str,
    connections: usize,
    streams: usize,
    bytes: usize,
) -> Held {
    many(connections, move || async move {
        let mut held = connect(target).await?;
        for _ in 0..streams {
            let sent = timeout(PATIENCE, half_message(&mut held, target, path, bytes)).await;
            if !matches!(sent, Ok(Ok(()))) {
                held.refused += 1;
                break;
            }
        }
        Ok(held)
    })
    .await
}

/// `connections` connections, each with `streams` calls of `path` that say nothing.
pub async fn empty_streams(
    target: SocketAddr,
    path: &'static str,
    connections: usize,
    streams: usize,
) -> Held {
    many(connections, move || async move {
        let mut held = connect(target).await?;
        for nth in 0..streams {
            let opened = timeout(PATIENCE, open(&mut held, target, path)).await;
            let Ok(Ok(stream)) = opened else {
                // The server wants no more.
                held.refused += streams - nth;
                break;
            };
            held.streams.push(stream);
        }
        Ok(held)
    })
    .await
}

/// `count` connections that send `bytes` and then nothing more.
pub async fn silent(target: SocketAddr, count: usize, bytes: &'static [u8]) -> Held {
    many(count, move || async move {
        let socket = socket(target).await?;
        let mut held = Held::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            socket.writable().await?;
            match socket.try_write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        held.sockets.push(socket);
        Ok(held)
    })
    .await
}

/// One connection after the other, each with a call that is refused or reset at once, for as long
/// as `during` says.
pub async fn rapid(target: SocketAddr, path: &'static str, during: Duration) -> usize {
    let mut count = 0;
    let all = async {
        loop {
            if let Ok(mut held) = connect(target).await
                && let Ok((_, mut stream)) = open(&mut held, target, path).await
            {
                stream.send_reset(h2::Reason::CANCEL);
            }
            count += 1;
        }
    };
    // It only ends by its time.
    let _ = timeout(during, all).await;
    count
}

async fn many<F>(count: usize, make: impl Fn() -> F) -> Held
where
    F: Future<Output = Result<Held>> + Send + 'static,
{
    let mut attackers = JoinSet::new();
    for _ in 0..count {
        let attack = make();
        attackers.spawn(attack);
    }
    let mut all = Held::default();
    while let Some(ended) = attackers.join_next().await {
        match ended {
            Ok(Ok(held)) => all.join(held),
            _ => all.refused += 1,
        }
    }
    all
}

/// From another loopback address than the well-behaved.
async fn socket(target: SocketAddr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 0, 0, 66), 0).into())?;
    let stream = timeout(PATIENCE, socket.connect(target)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn connect(target: SocketAddr) -> Result<Held> {
    let (sender, connection) = h2::client::handshake(socket(target).await?).await?;
    let mut held = Held::default();
    held.connections.spawn(async move {
        // However it ends, the attack is over.
        let _ = connection.await;
    });
    held.senders.push(sender);
    Ok(held)
}

async fn open(
    held: &mut Held,
    target: SocketAddr,
    path: &'static str,
) -> Result<(ResponseFuture, SendStream<Bytes>)> {
    let request = Request::post(format!("http://{target}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let sender = held.senders.pop().context("no connection")?;
    let mut sender = sender.ready().await?;
    let opened = sender.send_request(request, false);
    held.senders.push(sender);
    Ok(opened?)
}

async fn half_message(
    held: &mut Held,
    target: SocketAddr,
    path: &'static str,
    bytes: usize,
) -> Result<()> {
    let (response, mut stream) = open(held, target, path).await?;
    let mut prefix = vec![0];
    prefix.extend(u32::try_from(bytes)?.to_be_bytes());
    stream.send_data(prefix.into(), false)?;
    let mut left = bytes - 1;
    while left > 0 {
        let wanted = left.min(CHUNK);
        stream.reserve_capacity(wanted);
        let granted = poll_fn(|cx| stream.poll_capacity(cx)).await;
        let granted = granted.context("reset")??.min(wanted);
        stream.send_data(Bytes::from(vec![0; granted]), false)?;
        held.sent += granted;
        left -= granted;
    }
    held.streams.push((response, stream));
    Ok(())
}
