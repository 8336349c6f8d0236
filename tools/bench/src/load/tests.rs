//! The load against a scripted server: every request counts once, and nothing but a 200 passes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;

use super::{
    Connection, END_HEADERS, END_STREAM, FAILING_FIELDS, FRAME_HEAD, HEADERS, Head, Load,
    MISSING_FIELDS, PREFACE, REQUEST_FIELDS, Statuses,
};

/// Answers the first `good` requests as they ask for and all later ones with `status`; returns the
/// stream identifiers it saw and the most requests that stood open at once.
fn server(good: usize, status: u8) -> (SocketAddr, JoinHandle<(Vec<u32>, usize)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut preface = vec![0; PREFACE.len()];
        stream.read_exact(&mut preface).unwrap();
        assert_eq!(preface, PREFACE);
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        stream.write_all(&settings).unwrap();
        serve(&mut stream, good, status)
    };
    (address, std::thread::spawn(serve))
}

fn serve(stream: &mut TcpStream, good: usize, status: u8) -> (Vec<u32>, usize) {
    let (mut seen, mut most) = (Vec::new(), 0);
    let mut input = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let got = stream.read(&mut chunk).unwrap_or(0);
        if got == 0 {
            return (seen, most);
        }
        input.extend_from_slice(&chunk[..got]);
        let mut output = Vec::new();
        let mut open = 0;
        while input.len() >= FRAME_HEAD {
            let head = Head::read(input[..FRAME_HEAD].try_into().unwrap());
            if input.len() < FRAME_HEAD + head.length {
                break;
            }
            let payload: Vec<_> = input
                .drain(..FRAME_HEAD + head.length)
                .skip(FRAME_HEAD)
                .collect();
            if head.kind != HEADERS {
                continue;
            }
            let wanted = match payload.as_slice() {
                REQUEST_FIELDS => 0x88,
                MISSING_FIELDS => 0x8d,
                FAILING_FIELDS => 0x48,
                other => panic!("{other:02x?}"),
            };
            open += 1;
            let code = if seen.len() < good { wanted } else { status };
            seen.push(head.stream);
            let answer = Head {
                length: 1,
                flags: END_STREAM | END_HEADERS,
                ..head
            };
            answer.write(&mut output);
            output.push(code);
        }
        most = most.max(open);
        if stream.write_all(&output).is_err() {
            return (seen, most);
        }
    }
}

/// All requests are sent once, on rising odd streams, over several runs, within the bound on those
/// in flight.
#[test]
fn sends_exactly_what_was_asked() {
    let (address, server) = server(usize::MAX, 0);
    let mut connection = Connection::open(address).unwrap();
    connection.run(Load::Good, 1000, 7).unwrap();
    let mixed = connection.run(Load::Mixed, 23, 7).unwrap();
    let expected = Statuses {
        good: 21,
        missing: 1,
        failing: 1,
    };
    assert_eq!(mixed, expected);
    drop(connection);
    let (seen, most) = server.join().unwrap();
    let expected: Vec<u32> = (0..1023).map(|n| 2 * n + 1).collect();
    assert_eq!(seen, expected);
    assert!((1..=7).contains(&most), "{most} at once");
}

/// An error answer must not pass for work done: 0x8d is `:status: 404`.
#[test]
fn an_error_answer_fails_the_run() {
    let (address, server) = server(10, 0x8d);
    let mut connection = Connection::open(address).unwrap();
    connection.run(Load::Good, 10, 5).unwrap();
    let error = connection.run(Load::Good, 1, 1).unwrap_err();
    assert!(error.to_string().contains("not a 200"), "{error}");
    let error = connection.run(Load::Mixed, 20, 5).unwrap_err();
    assert!(error.to_string().contains("answered"), "{error}");
    drop(connection);
    server.join().unwrap();
}

/// A server that goes away is an error, not an endless wait.
#[test]
fn a_closed_connection_fails_the_run() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut connection = Connection::open(listener.local_addr().unwrap()).unwrap();
    drop(listener.accept().unwrap());
    assert!(connection.run(Load::Good, 1, 1).is_err());
}
