//! What badly behaved clients do to the others: nothing.

mod common;

use std::io::Write;
use std::net::TcpStream;
use std::process::Stdio;
use std::thread::scope;

use common::{Client, Folder, GREETING, Killed, LIMIT, Link, Process, Wire, time_limit, until};

const BOTH: [&str; 2] = ["5", "0"];

fn echo(workers: &str, options: &[&str]) -> Process {
    let start = ["--handler", "echo", "--workers", workers];
    Process::start(&[&start[..], options].concat())
}

/// Asks a few questions, as anybody would.
fn is_served(endpoint: &str) {
    let client = Client::req(endpoint);
    (0..50).for_each(|n| assert_eq!(client.ask_text(&n.to_string()), n.to_string()));
}

fn connect(endpoint: &str) -> TcpStream {
    let stream = TcpStream::connect(endpoint.strip_prefix("tcp://").unwrap()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

/// Ends the service, which must have done so in good order.
fn ends_well(mut service: Process) -> String {
    service.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(service.wait().code(), Some(0));
    let log = service.rest_of_log();
    assert!(!log.contains("panicked"), "{log}");
    log
}

#[test]
fn a_message_without_a_delimiter_is_dropped_and_counted() {
    let _limit = time_limit(60);
    for workers in BOTH {
        let service = echo(workers, &[]);
        let client = Client::dealer(&service.endpoint);
        client.socket.send("no delimiter", 0).unwrap();
        client.socket.send_multipart(["no", "delimiter"], 0).unwrap();
        client.socket.send_multipart([""], 0).unwrap();
        client.socket.send_multipart(vec!["x"; 200], 0).unwrap();
        let long_way: Vec<&str> = [vec!["x"; 200], vec!["", "x"]].concat();
        client.socket.send_multipart(long_way, 0).unwrap();
        // In order behind the five: the reply to it is the first.
        assert_eq!(client.ask(&[b"a request"]), [b"a request"]);
        is_served(&service.endpoint);
        let log = ends_well(service);
        assert!(log.contains("requests: 51, replies: 51, malformed messages: 5"), "{log}");
    }
}

#[test]
fn random_bytes_on_the_port_hurt_nobody() {
    let _limit = time_limit(60);
    let service = echo("5", &[]);
    // Marsaglia's xorshift: the same bytes each time.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    // Some noise gets past the greeting.
    let ready = b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03REQ";
    let starts = [vec![], GREETING.to_vec(), [&GREETING[..], ready].concat()];
    for round in 0..300 {
        let mut stream = connect(&service.endpoint);
        let noise: Vec<u8> = (0..round % 64).flat_map(|_| random()).collect();
        // The service may hang up in the middle of it.
        let _ = stream.write_all(&starts[round % 3]).and_then(|()| stream.write_all(&noise));
        if round % 50 == 0 {
            is_served(&service.endpoint);
        }
    }
    is_served(&service.endpoint);
    ends_well(service);
}

#[test]
fn half_open_connections_hurt_nobody() {
    let _limit = time_limit(60);
    let service = echo("5", &[]);
    let silent: Vec<TcpStream> = (0..100).map(|_| connect(&service.endpoint)).collect();
    let mut stalled: Vec<TcpStream> = (0..100).map(|_| connect(&service.endpoint)).collect();
    stalled.iter_mut().for_each(|stream| stream.write_all(b"\xff\0\0\0").unwrap());
    is_served(&service.endpoint);
    drop((silent, stalled));
    is_served(&service.endpoint);
    ends_well(service);
}

#[test]
fn a_frame_beyond_the_limit_ends_the_connection_before_it_is_read() {
    let _limit = time_limit(60);
    let service = echo("5", &["--max-message-size", "1k"]);
    let mut client = Wire::connect(&service.endpoint);
    client.send(&[7; 1024]).unwrap();
    assert_eq!(client.receive().unwrap(), [[7; 1024]]);
    // All of it but the last byte, which is not waited for.
    let beyond = Wire::message(&[7; 1025]);
    client.0.write_all(&beyond[..beyond.len() - 1]).unwrap();
    assert_eq!(client.receive(), None);
    is_served(&service.endpoint);
    ends_well(service);
}

#[test]
fn clients_that_leave_before_their_reply_are_counted_and_forgotten() {
    let _limit = time_limit(60);
    let folder = Folder::new("leave");
    let gate = folder.file("gate");
    nix::unistd::mkfifo(&gate[..], nix::sys::stat::Mode::S_IRWXU).unwrap();
    // The reply is what comes through the gate.
    let program = ["--", "sh", "-c", "while read -r line; do cat \"$0\"; done", &gate];
    let options = ["--workers", "2", "--verbose", "--framing", "lines"];
    let mut service = Process::start(&[&options[..], &program].concat());
    for _ in 0..3 {
        let client = Client::req(&service.endpoint);
        client.send(&[b"a"]);
        service.wait_for_line("request \"a\"");
        drop(client);
        until("its connection has ended", || service.connections().is_empty());
        std::fs::write(&gate, "a\n").unwrap();
        service.wait_for_line("its client is gone");
    }
    let client = Client::req(&service.endpoint);
    client.send(&[b"b"]);
    std::fs::write(&gate, "b\n").unwrap();
    assert_eq!(client.receive(), [b"b"]);
    let log = ends_well(service);
    assert!(log.contains("requests: 4, replies: 4, clients gone: 3"), "{log}");
}

/// Sends requests of `size` bytes for as long as the service takes them, without reading one reply.
fn flood(endpoint: &str, size: usize) -> TcpStream {
    let Wire(mut stream) = Wire::connect(endpoint);
    let request = Wire::message(&vec![7; size]);
    // 2 GiB at most: a service that took all that would have been seen to.
    stream.set_write_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
    for _ in 0..(2_usize << 30) / size {
        if stream.write_all(&request).is_err() {
            break;
        }
    }
    stream
}

#[test]
fn a_client_that_never_reads_costs_bounded_memory_and_the_others_nothing() {
    let _limit = time_limit(120);
    for workers in BOTH {
        let service = echo(workers, &["--timeout", "60"]);
        let endpoint = service.endpoint.as_str();
        let idle = service.memory();
        scope(|threads| {
            let flood = threads.spawn(|| flood(endpoint, 1 << 20));
            while !flood.is_finished() {
                is_served(&service.endpoint);
            }
            let stream = flood.join().unwrap();
            is_served(&service.endpoint);
            // libzmq keeps 64 MiB of requests and 256 MiB of replies for the client; the proxy keeps 64 MiB
            // for all clients. Without these limits it would be 2 GiB.
            let grown = service.memory() - idle;
            println!("grown by {} MiB", grown >> 20);
            assert!(grown < 512 << 20, "{} MiB", grown >> 20);
            drop(stream);
        });
        is_served(&service.endpoint);
    }
}

#[test]
fn a_slow_reader_of_large_replies_gets_them_all_and_of_one_worker_in_order() {
    let _limit = time_limit(120);
    for workers in ["5", "1", "0"] {
        // Few may wait at the client and in libzmq, so that the replies pile up at the proxy.
        let service = echo(workers, &["--max-message-size", "64M"]);
        let client = Client::with(zmq::DEALER, &service.endpoint, |socket| {
            socket.set_rcvhwm(1).unwrap();
            socket.set_rcvbuf(64 << 10).unwrap();
        });
        let body = |n: u8| vec![n; 256 << 10];
        const REQUESTS: u8 = 100;
        (0..REQUESTS).for_each(|n| client.send(&[&body(n)]));
        // Another client is served while these wait.
        is_served(&service.endpoint);
        let mut replies: Vec<u8> = (0..REQUESTS)
            .map(|_| {
                let reply = client.receive().remove(0);
                assert_eq!(reply, body(reply[0]));
                reply[0]
            })
            .collect();
        if workers == "5" {
            replies.sort_unstable();
        }
        assert_eq!(replies, (0..REQUESTS).collect::<Vec<_>>());
    }
}

/// What one client is sent changes nothing for others, those that are leaving among them.
#[test]
fn replies_that_grow_while_clients_come_and_go_hurt_nobody() {
    let _limit = time_limit(120);
    for workers in BOTH {
        let service = echo(workers, &[]);
        let steady = Client::req(&service.endpoint);
        (0..300).for_each(|_| assert_eq!(steady.ask_text("x"), "x"));
        scope(|threads| {
            threads.spawn(|| (0..50).for_each(|_| is_served(&service.endpoint)));
            let large = Client::req(&service.endpoint);
            for size in (0..=20).map(|power| 1 << power) {
                let body = vec![b'x'; size];
                (0..10).for_each(|_| assert!(large.ask(&[&body]) == [&body[..]], "{size}"));
            }
        });
        assert_eq!(steady.ask_text("x"), "x");
        ends_well(service);
    }
}

#[test]
fn a_client_whose_requests_wait_for_long_is_not_taken_for_dead() {
    let _limit = time_limit(60);
    // More requests than libzmq takes from a connection, behind one that takes three heartbeats.
    let service = Process::sleepy(&["--workers", "1", "--heartbeat", "1"]);
    let client = Client::dealer(&service.endpoint);
    client.send(&[b"3500"]);
    (0..2000).for_each(|_| client.send(&[b"0"]));
    assert_eq!(client.receive(), [b"3500"]);
    (0..2000).for_each(|_| assert_eq!(client.receive(), [b"0"]));
}

#[test]
fn a_client_that_comes_back_under_its_name_is_served_at_once() {
    let _limit = time_limit(60);
    let service = echo("5", &[]);
    let named = || {
        Client::with(zmq::REQ, &service.endpoint, |socket| {
            socket.set_identity(b"sensor 1").unwrap()
        })
    };
    let first = named();
    assert_eq!(first.ask_text("a"), "a");
    // The first connection is still there, as after a power failure.
    let second = named();
    assert_eq!(second.ask_text("b"), "b");
}

#[test]
fn a_dead_client_is_noticed_and_its_connection_closed() {
    let _limit = time_limit(60);
    let Some(link) = Link::new("dead") else { return };
    let sleepy = common::sleepy();
    let options = "--listen tcp://10.77.0.1:* --heartbeat 1 --verbose";
    let mut service = link.serve("a", sleepy.to_str().unwrap(), options);
    let mut call = link.command("b", common::REPD);
    call.args(["call", "--timeout", "3600", &service.endpoint, "never"]).stderr(Stdio::null());
    let _caller = Killed(call.spawn().unwrap());
    service.wait_for_line("request \"never\"");
    assert!(!service.connections().is_empty());
    link.set("down");
    until("the connection is given up", || service.connections().is_empty());
}
