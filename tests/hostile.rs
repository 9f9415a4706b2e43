//! What badly behaved clients do to the others: nothing.

mod common;

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::{scope, sleep};
use std::time::Duration;

use common::raw::{MORE, Raw, command, frame, greeting, property, ready, request};
use common::{Client, Folder, Killed, LIMIT, Link, Process, code, time_limit, until};

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
    let starts = [vec![], greeting(), [&greeting()[..], ready].concat()];
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
fn a_request_beyond_the_limits_gets_a_413_and_the_next_one_its_reply() {
    let _limit = time_limit(60);
    for workers in BOTH {
        let service = echo(workers, &["--max-message-size", "32k", "--max-frames", "3"]);
        for client in [Client::req(&service.endpoint), Client::dealer(&service.endpoint)] {
            let most: &[u8] = &[7; 32 << 10];
            assert_eq!(client.ask(&[most]), [most]);
            for (request, why) in [
                (&[&[7; (32 << 10) + 1][..]][..], "is larger than 32768 bytes"),
                (&[most, b"", b"x"], "is larger than 32768 bytes"),
                // In many reads of the network.
                (&[&[7; 128 << 10]], "is larger than 32768 bytes"),
                (&[most, most, most], "is larger than 32768 bytes"),
                (&[&b""[..]; 4], "has more than 3 frames"),
                (&[&b"x"[..]; 300], "has more than 3 frames"),
            ] {
                let reply = client.ask(request);
                assert_eq!(code(&reply), Some(413), "{reply:?}");
                assert_eq!(reply[2], format!("the request {why}").as_bytes());
                assert_eq!(client.ask(&[b"a", b"b"]), [b"a", b"b"]);
            }
        }
        ends_well(service);
    }
}

#[test]
fn a_message_far_beyond_the_limits_is_not_read_to_its_end() {
    let _limit = time_limit(60);
    let mut service = echo("5", &["--max-message-size", "1k", "--max-frames", "1"]);
    let innocent = Client::req(&service.endpoint);
    let half: &[u8] = &[7; 40 << 10];
    for request in
        [&[&[7; 1 << 20][..]][..], &[half, half], &[&[7; 4096][..]; 40], &[&b""[..]; 2000]]
    {
        let client = Client::with(zmq::DEALER, &service.endpoint, |socket| {
            socket.set_reconnect_ivl(-1).unwrap();
            socket.set_sndhwm(0).unwrap();
        });
        let monitored = "inproc://ended";
        client.socket.monitor(monitored, zmq::SocketEvent::DISCONNECTED.to_raw().into()).unwrap();
        let ended = client.context().socket(zmq::PAIR).unwrap();
        ended.set_rcvtimeo(LIMIT.as_millis() as i32).unwrap();
        ended.connect(monitored).unwrap();
        client.send(request);
        assert!(ended.recv_multipart(0).is_ok(), "it was not cut off");
        assert_eq!(innocent.ask(&[b"a"]), [b"a"]);
    }
    service.wait_for_line("warning: cut off tcp://127.0.0.1:");
    let log = ends_well(service);
    assert!(log.contains(", clients cut off: 4"), "{log}");
}

/// Over other services of this kind, or by REQ_CORRELATE: each adds a frame in front.
#[test]
fn a_request_may_come_over_64_hops_and_beyond_that_gets_a_413() {
    let _limit = time_limit(60);
    for frames in ["1", "64"] {
        let service = echo("5", &["--max-frames", frames]);
        let client = Client::dealer(&service.endpoint);
        for (hops, is_served) in [(0, true), (1, true), (64, true), (65, false), (128, false)] {
            let ids: Vec<Vec<u8>> = (0..hops).map(|hop| vec![hop as u8 + 1; 255]).collect();
            let message = [ids.clone(), vec![vec![], b"body".to_vec()]].concat();
            client.socket.send_multipart(message, 0).unwrap();
            let reply = client.socket.recv_multipart(0).expect("a reply");
            assert_eq!(reply[..=hops], [ids, vec![vec![]]].concat(), "{hops} hops");
            let body = &reply[hops + 1..];
            match is_served {
                true => assert_eq!(body, [b"body"]),
                false => assert_eq!(code(body), Some(413), "{hops} hops"),
            }
        }
        // Of one more the delimiter, or all behind it, is thrown away: it cannot be answered.
        let most = 128 + frames.parse::<usize>().unwrap();
        for hops in [most + 1, most] {
            let message = [vec![vec![1]; hops], vec![vec![], b"body".to_vec()]].concat();
            client.socket.send_multipart(message, 0).unwrap();
        }
        let reply = client.socket.recv_multipart(0).expect("a reply");
        assert_eq!((reply.len(), code(&reply[most + 1..])), (most + 4, Some(413)));
        for (length, is_served) in [(16_320, true), (16_321, false), (1 << 20, false)] {
            client.socket.send_multipart([&vec![1; length][..], b"", b"body"], 0).unwrap();
            let reply = client.socket.recv_multipart(0).expect("a reply");
            assert_eq!(code(&reply[2..]), (!is_served).then_some(413), "{length} bytes");
        }
        let log = ends_well(service);
        assert!(log.contains(", malformed messages: 1"), "{log}");
    }
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
    let Raw(mut stream) = Raw::dealer(endpoint, b"");
    let request = request(&vec![7; size]);
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
            // libzmq keeps some messages of the client, and the proxy 64 MiB of replies for all
            // clients. Without these limits it would be 2 GiB.
            let grown = service.memory() - idle;
            println!("grown by {} MiB", grown >> 20);
            assert!(grown < 256 << 20, "{} MiB", grown >> 20);
            drop(stream);
        });
        // What it had goes back to the system.
        until("the memory is given back", || service.memory() < idle + (16 << 20));
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

/// Keepalive says nothing while the reply is on its way.
#[test]
fn a_client_whose_host_vanishes_before_its_reply_has_come_is_given_up() {
    let _limit = time_limit(60);
    let Some(link) = Link::new("vanishes") else { return };
    let sleepy = common::sleepy();
    let options = "--listen tcp://10.77.0.1:* --heartbeat 1 --verbose";
    let mut service = link.serve("a", sleepy.to_str().unwrap(), options);
    let mut call = link.command("b", common::REPD);
    call.args(["call", "--timeout", "3600", &service.endpoint, "500"]).stderr(Stdio::null());
    let _caller = Killed(call.spawn().unwrap());
    service.wait_for_line("request \"500\"");
    link.set("down");
    service.wait_for_line(": reply ");
    until("the connection is given up", || service.connections().is_empty());
}

#[test]
fn a_dead_client_is_noticed_its_connection_closed_and_its_name_free() {
    let _limit = time_limit(60);
    dies("1");
}

#[test]
#[ignore = "it takes two minutes"]
fn a_dead_client_is_noticed_without_a_heartbeat_too() {
    let _limit = time_limit(300);
    dies("0");
}

fn dies(heartbeat: &str) {
    let Some(link) = Link::new("dead") else { return };
    let options = format!("--listen tcp://10.77.0.1:* --heartbeat {heartbeat} --handler echo");
    let service = link.serve("a", common::REPD, &options);
    let name = b"sensor 1";
    let mut client = link.connect("b", &service.endpoint);
    client.become_dealer(name);
    assert_eq!(client.ask(b"a").unwrap(), [b"a"]);
    until("the reply is acknowledged", || service.is_probed());
    link.set("down");
    // The next one of that name is its system after a power failure.
    let again = || {
        let mut next = link.connect("a", &service.endpoint);
        next.greet();
        next.send(&ready(name));
        next.receive().is_some().then_some(next)
    };
    assert!(again().is_none());
    let mut next = loop {
        match again() {
            Some(next) => break next,
            None => sleep(Duration::from_millis(10)),
        }
    };
    assert_eq!(next.ask(b"b").unwrap(), [b"b"]);
}

/// Strangers who send as fast as they can and read nothing, each the same again and again.
struct Flood {
    strangers: Vec<(Raw, usize)>,
    message: Vec<u8>,
    /// How often each sends it.
    times: usize,
    /// Number of bytes that the service has taken.
    taken: Arc<AtomicUsize>,
}

impl Flood {
    fn start(strangers: usize, connect: impl Fn() -> Raw, message: &[u8], times: usize) -> Flood {
        let connect = |_| {
            let stranger = connect();
            stranger.0.set_nonblocking(true).unwrap();
            (stranger, 0)
        };
        let strangers = (0..strangers).map(connect).collect();
        Flood { strangers, message: message.to_vec(), times, taken: Arc::default() }
    }

    /// Sends what the service takes by now, up to a share for each; how many bytes that was.
    fn send(&mut self) -> usize {
        let most = (16 << 20) / self.strangers.len().clamp(1, 16);
        let before = self.taken.load(Relaxed);
        self.strangers.retain_mut(|(stranger, sent)| {
            let mut share = 0;
            while share < most && *sent / self.message.len() < self.times {
                match stranger.0.write(&self.message[*sent % self.message.len()..]) {
                    Ok(written) => {
                        (*sent, share) = (*sent + written, share + written);
                        self.taken.fetch_add(written, Relaxed);
                    }
                    // One that is cut off is done.
                    Err(error) => return error.kind() == ErrorKind::WouldBlock,
                }
            }
            true
        });
        self.taken.load(Relaxed) - before
    }
}

/// Its host acknowledges what it is sent, and each look at whether there is place again.
#[test]
fn a_client_that_reads_nothing_for_long_is_cut_off() {
    let _limit = time_limit(60);
    let service = echo("5", &["--heartbeat", "1"]);
    let mut deaf = Raw::dealer(&service.endpoint, b"");
    // More than the system keeps of the replies.
    (0..12).for_each(|_| deaf.send(&request(&[7; 1 << 20])));
    until("its connection has ended", || service.connections().is_empty());
    ends_well(service);
}

/// Each of them is a valid request, or the beginning of one, by one client and by a hundred.
#[test]
fn what_strangers_send_and_do_not_read_is_bounded() {
    let _limit = time_limit(300);
    const MIB: u64 = 1 << 20;
    type Connect = fn(&str) -> Raw;
    let body = vec![7; MIB as usize];
    let delimiter = frame(MORE, b"");
    let many_frames =
        [vec![frame(MORE, &body[..16 << 10]); 63], vec![frame(0, b"x")]].concat().concat();
    // As much as may be in one.
    let long = frame(0, &vec![7; 4 * MIB as usize]);
    let half = [&delimiter[..], &long[..long.len() - 1]].concat();
    let ready = property("", b"").repeat(131_056);
    let dealer = |endpoint: &str| Raw::dealer(endpoint, b"");
    let greeted = |endpoint: &str| {
        let mut stranger = Raw::connect(endpoint);
        stranger.greet();
        stranger
    };
    const EVER: usize = usize::MAX;
    let attacks: [(_, Connect, _, _); _] = [
        ("large requests", dealer, request(&body), EVER),
        ("requests of many frames", dealer, [&delimiter[..], &many_frames].concat(), EVER),
        ("endless messages", dealer, frame(MORE, &body[..64 << 10]), EVER),
        ("endless empty frames", dealer, frame(MORE, b"").repeat(10_000), EVER),
        ("long envelopes", dealer, [frame(MORE, &body), request(&body)].concat(), EVER),
        ("small requests", dealer, request(&body[..40]).repeat(1000), 1000),
        ("half a frame", dealer, half, 1),
        ("a READY with properties", greeted, command("READY", &ready), 1),
    ];
    for (strangers, most) in [(1, 256 * MIB), (100, 512 * MIB)] {
        let service = echo("5", &[]);
        let innocent = Client::req(&service.endpoint);
        innocent.ask_text("a");
        let before = service.memory();
        for (attack, connect, message, times) in &attacks {
            let connect = || connect(&service.endpoint);
            let mut flood = Flood::start(strangers, connect, message, *times);
            let (mut quiet, mut peak) = (0, 0);
            // Until the service takes no more of them, and goes on serving others.
            let mut sent = 0;
            while quiet < 50 && sent < (strangers as u64).clamp(8, 16) * 64 * MIB {
                let taken = flood.send();
                sent += taken as u64;
                quiet = if taken == 0 { quiet + 1 } else { 0 };
                assert_eq!(innocent.ask_text("ab"), "ab");
                peak = peak.max(service.memory());
            }
            println!("{strangers}, {attack}: sent {} MiB, peak {} MiB", sent >> 20, peak >> 20);
            assert!(peak < most, "{attack} by {strangers}: {} MiB", peak >> 20);
            drop(flood);
            let kept = || service.memory().saturating_sub(before);
            until("the memory is given back", || kept() < 16 * MIB);
        }
        ends_well(service);
    }
}

/// Each look at the network reads something of each stranger, but not all that there is.
#[test]
fn who_asks_for_little_does_not_wait_for_a_hundred_who_send_much() {
    let _limit = time_limit(120);
    for options in [&[][..], &["--io-threads", "1"]] {
        let service = echo("5", options);
        let connect = || Raw::dealer(&service.endpoint, b"");
        let mut flood = Flood::start(100, connect, &request(&[7; 1 << 20]), usize::MAX);
        let sent = Arc::clone(&flood.taken);
        let replies = scope(|threads| {
            let innocent = threads.spawn(|| {
                let client = Client::req(&service.endpoint);
                client.ask_text("is connected");
                until("they send", || sent.load(Relaxed) > 200 << 20);
                let mut replies = 0;
                while sent.load(Relaxed) < 700 << 20 {
                    client.ask_text("little");
                    replies += 1;
                }
                replies
            });
            while !innocent.is_finished() {
                flood.send();
            }
            innocent.join().unwrap()
        });
        println!("{options:?}: replies while they sent half a GiB: {replies}");
        // With a megabyte of each at a look it would be two or three.
        assert!(replies > 20, "{replies}");
        drop(flood);
        until("it knows that they are gone", || service.connections().is_empty());
        ends_well(service);
    }
}

/// Nobody can answer, so that what is sent is kept, or refused.
#[test]
fn what_all_strangers_together_send_is_bounded() {
    let _limit = time_limit(120);
    let mut service =
        Process::sleepy(&["--workers", "1", "--timeout", "3600", "--drain", "0", "--verbose"]);
    let stuck = Client::req(&service.endpoint);
    stuck.send(&[b"never"]);
    service.wait_for_line("request \"never\"");
    let before = service.memory();
    let connect = || Raw::dealer(&service.endpoint, b"");
    let mut flood = Flood::start(100, connect, &request(&[7; 64 << 10]), usize::MAX);
    let (mut sent, mut peak) = (0, 0);
    until("much is sent", || {
        sent += flood.send();
        peak = peak.max(service.memory());
        sent > 500 << 20
    });
    // Those that it takes, and what libzmq has not handed over yet.
    let kept = (peak - before) >> 20;
    assert!(kept < 64 + 32 + 16, "{kept} MiB");
}

/// More than may be unread at a time: those whose turn has to wait are not forgotten.
#[test]
fn what_waits_since_too_much_is_unread_is_answered_in_the_end() {
    let _limit = time_limit(120);
    // All of them are to be held, beside what is left for others.
    let options = ["--workers", "2", "--timeout", "3600", "--drain", "60", "--verbose"];
    let mut service = Process::sleepy(&[&options[..], &["--max-memory", "128M"]].concat());
    let slow = Client::dealer(&service.endpoint);
    (0..2).for_each(|_| slow.send(&[b"1000"]));
    (0..2).for_each(|_| drop(service.wait_for_line("request \"1000\"")));
    let context = zmq::Context::new();
    let clients: Vec<Client> =
        (0..50).map(|_| Client::within(&context, zmq::DEALER, &service.endpoint, |_| ())).collect();
    let body = vec![7; 64 << 10];
    for client in &clients {
        (0..20).for_each(|_| client.send(&[b"0", &body]));
    }
    for client in &clients {
        (0..20).for_each(|_| assert_eq!(client.receive()[1], body));
    }
    (0..2).for_each(|_| assert_eq!(slow.receive(), [b"1000"]));
    ends_well(service);
}
