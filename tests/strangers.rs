//! What anybody who reaches the port can do to the service and its clients: nothing. Each of these
//! is mended by a patch of zmq-sys/patches, and fails without it.

mod common;

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use common::raw::{self, Raw, property};
use common::{Client, Folder, Process, time_limit, until};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;

const BOTH: [&str; 2] = ["5", "0"];

fn echo(workers: &str, options: &[&str]) -> Process {
    let start = ["--handler", "echo", "--workers", workers];
    Process::start(&[&start[..], options].concat())
}

fn sleepy(workers: &str) -> Process {
    Process::sleepy(&["--workers", workers, "--verbose"])
}

/// Asks a few questions, as anybody would.
fn is_served(endpoint: &str) {
    let client = Client::req(endpoint);
    (0..50).for_each(|n| assert_eq!(client.ask_text(&n.to_string()), n.to_string()));
}

/// Ends the service, which must have done so in good order.
fn ends_well(mut service: Process) {
    service.signal(Signal::SIGTERM);
    assert_eq!(service.wait().code(), Some(0));
}

#[test]
fn nobody_can_claim_an_id_that_the_service_gives_itself() {
    let _limit = time_limit(120);
    for workers in BOTH {
        let service = echo(workers, &[]);
        // With an unseeded rand(3) of glibc's, the ids of the first unnamed clients began there.
        let ids = [0x6b8b_4567_u32, 0xbd1b_58ba].into_iter().flat_map(|id| id..id + 32);
        let mut claims: Vec<Raw> = ids
            .map(|id| Raw::dealer(&service.endpoint, &[&[0], &id.to_be_bytes()[..]].concat()))
            .collect();
        let _clients: Vec<Client> = (0..4).map(|_| Client::req(&service.endpoint)).collect();
        is_served(&service.endpoint);
        claims.iter_mut().for_each(|claim| assert_eq!(claim.rest(), b""));
        ends_well(service);
    }
}

#[test]
fn a_name_that_is_too_long_is_refused() {
    let _limit = time_limit(60);
    let service = echo("5", &[]);
    let mut longest = Raw::dealer(&service.endpoint, &[b'n'; 255]);
    assert_eq!(longest.ask(b"a").unwrap(), [b"a"]);
    assert_eq!(Raw::dealer(&service.endpoint, &[b'n'; 256]).rest(), b"");
    // In ZMTP 2.0 (RFC 15) the name is the first message; the socket's type stands in the greeting.
    let mut older = Raw::connect(&service.endpoint);
    older.send(b"\xff\0\0\0\0\0\0\0\x01\x7f\x01\x05");
    older.send(&raw::frame(0, &[b'n'; 256]));
    older.rest();
    ends_well(service);
}

#[test]
fn nobody_can_take_a_name_and_the_replies_that_are_due_to_it() {
    let _limit = time_limit(60);
    for workers in BOTH {
        let mut service = sleepy(workers);
        let mut owner = Raw::dealer(&service.endpoint, b"sensor 1");
        owner.send(&raw::request(b"500"));
        service.wait_for_line("request \"500\"");
        let thieves = raw::handshakes(b"sensor 1").map(|handshake| {
            let mut thief = Raw::connect(&service.endpoint);
            thief.send(&[handshake, raw::request(b"0")].concat());
            thief
        });
        assert_eq!(owner.reply().unwrap(), [b"500"]);
        // They hear its side of the greeting at most; in ZMTP 2.0 that ends with its name, which is
        // empty.
        let older = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x06\0\0".to_vec();
        for (mut thief, greeting) in thieves.into_iter().zip([raw::greeting(), older]) {
            let rest = thief.rest();
            assert!(greeting.starts_with(&rest), "{rest:?}");
        }
        assert_eq!(owner.ask(b"1").unwrap(), [b"1"]);
        ends_well(service);
    }
}

#[test]
fn a_client_that_leaves_and_comes_back_under_its_name_is_served() {
    let _limit = time_limit(120);
    for workers in BOTH {
        let mut service = sleepy(workers);
        let endpoint = service.endpoint.clone();
        let client = || {
            Client::with(zmq::REQ, &endpoint, |socket| {
                socket.set_identity(b"sensor 1").unwrap();
                socket.set_req_correlate(true).unwrap();
            })
        };
        (0..100).for_each(|_| assert_eq!(client().ask_text("0"), "0"));
        // Also while a reply is due, which one that correlates does not take for its own.
        let mut hasty = Raw::dealer(&endpoint, b"sensor 1");
        hasty.send(&raw::request(b"300"));
        service.wait_for_line("request \"300\"");
        drop(hasty);
        assert_eq!(client().ask_text("1"), "1");
    }
}

#[test]
fn a_client_whose_name_is_not_free_yet_loses_nothing() {
    let _limit = time_limit(60);
    for workers in BOTH {
        let mut service = echo(workers, &["--io-threads", "2"]);
        // Such as its last connection, of whose end nobody has heard yet.
        let mut last = Raw::dealer(&service.endpoint, b"sensor 1");
        assert_eq!(last.ask(b"0").unwrap(), [b"0"]);
        let name = |socket: &zmq::Socket| socket.set_identity(b"sensor 1").unwrap();
        let client = Client::with(zmq::REQ, &service.endpoint, name);
        client.send(&[b"1"]);
        let line = service.wait_for_line("warning: refused tcp://127.0.0.1:");
        assert!(line.contains(": another connection has its routing id; so far: "), "{line}");
        assert_eq!(last.ask(b"2").unwrap(), [b"2"]);
        drop(last);
        assert_eq!(client.receive(), [b"1"]);
        ends_well(service);
    }
}

#[test]
fn who_is_refused_leaves_no_descriptor_whatever_it_still_sends() {
    let _limit = time_limit(120);
    let flood = raw::request(b"0").repeat(5000);
    for workers in BOTH {
        let mut service = sleepy(workers);
        let mut owner = Raw::dealer(&service.endpoint, b"sensor 1");
        assert_eq!(owner.ask(b"0").unwrap(), [b"0"]);
        let before = service.descriptors();
        // The one server thread learns of them when all have left.
        owner.send(&raw::request(b"300"));
        service.wait_for_line("request \"300\"");
        for handshake in raw::handshakes(b"sensor 1").iter().cycle().take(40) {
            let mut namesake = Raw::connect(&service.endpoint);
            namesake.send(handshake);
            namesake.send(&flood);
            namesake.reset();
        }
        assert_eq!(owner.reply().unwrap(), [b"300"]);
        until("their descriptors are closed", || service.descriptors() == before);
        assert_eq!(owner.ask(b"1").unwrap(), [b"1"]);
        ends_well(service);
    }
}

#[test]
fn at_the_limit_of_open_files_clients_wait_until_others_leave() {
    let _limit = time_limit(120);
    let folder = Folder::new("limit");
    let path = folder.file("socket");
    let service = Process::start(&["--handler", "echo", "--listen", &format!("ipc://{path}")]);
    service.limit_files(80);
    let owner = Client::req(&service.endpoint);
    assert_eq!(owner.ask_text("a"), "a");
    // More than there are descriptors for, each way; the system has them connected all the same.
    let address = service.endpoint.strip_prefix("tcp://").unwrap();
    let over_tcp: Vec<TcpStream> = (0..80).map(|_| TcpStream::connect(address).unwrap()).collect();
    until("it has no descriptor left", || service.descriptors() >= 80);
    let over_ipc: Vec<UnixStream> = (0..80).map(|_| UnixStream::connect(&path).unwrap()).collect();
    assert_eq!(owner.ask_text("b"), "b");
    let waiting = [Client::req(&service.endpoint), Client::req(&format!("ipc://{path}"))];
    waiting.iter().for_each(|client| client.send(&[b"c"]));
    assert_eq!(owner.ask_text("d"), "d");
    drop((over_tcp, over_ipc));
    waiting.iter().for_each(|client| assert_eq!(client.receive(), [b"c"]));
    ends_well(service);
}

/// Makes a READY of a DEALER with so many properties more, each with a value of that length.
fn ready(more: usize, length: usize) -> Vec<Vec<u8>> {
    let more = (0..more).map(|n| property(&format!("X-{n:02}"), &vec![7; length]));
    more.chain([property("Socket-Type", b"DEALER")]).collect()
}

#[test]
fn a_handshake_has_little_to_say() {
    let _limit = time_limit(60);
    let service = echo("5", &[]);
    for (more, length, is_taken) in
        [(31, 0, true), (32, 0, false), (1, 1900, true), (1, 2048, false)]
    {
        let mut client = Raw::connect(&service.endpoint);
        client.greet();
        client.send(&raw::command("READY", &ready(more, length).concat()));
        // Its own READY the service sends in any case.
        let said = client.receive().is_some() && client.ask(b"a").is_some();
        assert_eq!(said, is_taken, "{more} properties of {length} bytes");
    }
    // In ZMTP 2.0 the first message is the name; here it only says how long it would be, within the
    // limit of messages.
    let mut older = Raw::connect(&service.endpoint);
    older.send(b"\xff\0\0\0\0\0\0\0\x01\x7f\x01\x05\x02\0\0\0\0\0\x0f\0\0");
    older.rest();
    ends_well(service);
}

#[test]
fn a_limit_below_a_handshakes_size_lets_clients_in() {
    let _limit = time_limit(60);
    let service = echo("5", &["--max-message-size", "32"]);
    let client = Client::with(zmq::REQ, &service.endpoint, |socket| {
        socket.set_identity(&[b'n'; 255]).unwrap();
    });
    assert_eq!(
        client.ask_text("as long as it may be, and no by"),
        "as long as it may be, and no by"
    );
    // It holds for what follows.
    client.send(&[&[7; 33]]);
    assert_eq!(client.receive_code(), 413);
    ends_well(service);
}

#[test]
fn a_handshake_that_does_not_end_is_ended() {
    let _limit = time_limit(120);
    let mut service = sleepy("5");
    let client = Client::req(&service.endpoint);
    client.send(&[b"9000"]);
    service.wait_for_line("request \"9000\"");
    let ready = raw::command("READY", &ready(0, 0).concat());
    let whole = [raw::greeting(), ready].concat();
    let beginnings = [0, 1, 11, 12, 63, 64, 65, whole.len() - 1];
    let mut unfinished = beginnings.map(|length| {
        let mut stranger = Raw::connect(&service.endpoint);
        stranger.send(&whole[..length]);
        stranger
    });
    unfinished.iter_mut().for_each(|stranger| drop(stranger.rest()));
    // All that in less time than the request takes.
    client.socket.set_rcvtimeo(0).unwrap();
    assert_eq!(client.receive_in_time(), None);
}

#[test]
fn what_came_in_time_counts_however_late_it_is_read() {
    let _limit = time_limit(120);
    let service = echo("5", &[]);
    let mut late = Raw::connect(&service.endpoint);
    late.greet();
    let mut silent = Raw::connect(&service.endpoint);
    silent.greet();
    // The service is not let run for as long as a handshake may take, and that is what another one
    // shows.
    service.halt();
    let ready = raw::command("READY", &ready(0, 0).concat());
    late.send(&[ready, raw::request(b"a")].concat());
    let _ = Raw::connect(&echo("5", &[]).endpoint).rest();
    service.signal(Signal::SIGCONT);
    late.receive().expect("a READY");
    assert_eq!(late.reply().unwrap(), [b"a"]);
    silent.rest();
    ends_well(service);
}

#[test]
fn who_speaks_another_protocol_is_told_of() {
    let _limit = time_limit(60);
    let folder = Folder::new("refused");
    let path = folder.file("socket");
    for workers in BOTH {
        let mut service = echo(workers, &["--listen", &format!("ipc://{path}")]);
        let mut stranger = Raw::connect(&service.endpoint);
        // A greeting of another mechanism, and a READY of another kind of socket.
        stranger.send(&[&raw::greeting()[..12], b"PLAN", &[0; 48]].concat());
        stranger.rest();
        service.wait_for_line("it wants keys or a password, and this service has none");
        let mut publisher = Raw::connect(&service.endpoint);
        publisher.greet();
        publisher.send(&raw::command("READY", &property("Socket-Type", b"PUB")));
        publisher.rest();
        let line = service.wait_for_line("warning: refused tcp://127.0.0.1:");
        assert!(
            line.ends_with("it is no ZeroMQ client, or breaks the protocol; so far: 1"),
            "{line}"
        );
        let mut browser = Raw::connect(&service.endpoint);
        browser.send(b"GET / HTTP/1.1\r\n\r\n");
        browser.rest();
        let line = service.wait_for_line("it speaks HTTP, not ZMTP; so far: 2");
        assert!(line.contains("warning: refused tcp://127.0.0.1:"), "{line}");
        let mut local = UnixStream::connect(&path).unwrap();
        local.write_all(&[&raw::greeting()[..12], b"PLAIN", &[0; 47]].concat()).unwrap();
        service.wait_for_line("warning: refused a process of this machine: ");
        // Who only looks whether the port is open is no news.
        drop(Raw::connect(&service.endpoint));
        is_served(&service.endpoint);
        ends_well(service);
    }
}

#[test]
fn a_bad_handshake_is_ended_at_once() {
    let _limit = time_limit(60);
    let service = echo("5", &[]);
    let mechanism = |name: &[u8]| [&raw::greeting()[..12], name, &[0; 48][..]].concat();
    let after_greeting = |said: Vec<u8>| [raw::greeting(), said].concat();
    let ready = raw::command("READY", &ready(0, 0).concat());
    let wrong_type = raw::command("READY", &property("Socket-Type", b"PUB"));
    for said in [
        mechanism(b"PLAN"),
        mechanism(b"null"),
        after_greeting(wrong_type),
        after_greeting(raw::command("READY", b"\x0bSocket-Type\0\0\0\xffREQ")),
        after_greeting(raw::command("HELLO", b"")),
        after_greeting(raw::command("ERROR", b"\x03400")),
        after_greeting(raw::frame(raw::COMMAND, b"")),
        after_greeting(raw::frame(0, b"no command")),
        after_greeting([&ready[..], &ready].concat()),
        // Others than ZeroMQ's, whose first byte may be the length of a name in ZMTP 1.0.
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(),
        b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        b"\xff\0\0\0\0\0\0\x01\0\x02".to_vec(),
    ] {
        // It has less than its time left once the other is gone, but some.
        let mut slow = Raw::connect(&service.endpoint);
        let mut stranger = Raw::connect(&service.endpoint);
        stranger.send(&said);
        stranger.rest();
        slow.shake_hands(&[property("Socket-Type", b"REQ")]);
        assert_eq!(slow.ask(b"a").unwrap(), [b"a"]);
    }
    ends_well(service);
}

/// Lets this process have that many files open. Returns false, and says so, if the system does not.
fn may_open(files: u64) -> bool {
    let (now, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let may =
        now >= files || (most >= files && setrlimit(Resource::RLIMIT_NOFILE, files, most).is_ok());
    assert!(may || std::env::var_os("CI").is_none(), "this needs {files} open files");
    if !may {
        common::skipped(&format!("{files} files cannot be open here"));
    }
    may
}

#[test]
fn who_only_knocks_does_not_keep_others_out() {
    let _limit = time_limit(120);
    if !may_open(5000) {
        return;
    }
    let service = echo("5", &[]);
    let before = service.descriptors();
    let strangers: Vec<Raw> = (0..4300).map(|_| Raw::connect(&service.endpoint)).collect();
    // From another host; the address before the semicolon is the client's own.
    let other = service.endpoint.replace("tcp://", "tcp://127.0.0.9:0;");
    is_served(&other);
    // No more than 4,096 can be in their handshake.
    assert!(service.descriptors() <= before + 4096, "{}", service.descriptors() - before);
    drop(strangers);
    until("they are forgotten", || service.descriptors() == before);
    is_served(&service.endpoint);
    ends_well(service);
}

#[test]
fn what_a_connection_costs_is_bounded() {
    const CLIENTS: usize = 300;
    let _limit = time_limit(120);
    let service = echo("5", &[]);
    let ask_all = |clients: &mut [Raw]| {
        let body = [b'x'; 64];
        clients.iter_mut().for_each(|client| client.send(&raw::request(&body)));
        clients.iter_mut().for_each(|client| assert_eq!(client.reply().unwrap(), [body]));
    };
    let connect = || Raw::dealer(&service.endpoint, b"");
    ask_all(&mut [connect(), connect(), connect()]);
    let before = service.memory();
    let mut clients: Vec<Raw> = (0..CLIENTS).map(|_| connect()).collect();
    let silent = (service.memory() - before) / CLIENTS as u64;
    // So often that each place of a pipe has been used.
    (0..40).for_each(|_| ask_all(&mut clients));
    let busy = (service.memory() - before) / CLIENTS as u64;
    println!("a silent connection costs {silent} bytes, a busy one {busy}");
    assert!(silent <= 12 << 10 && busy <= 20 << 10, "{silent}, {busy}");
    let most = service.memory() + (1 << 20);
    // What they took is free for those who come after them.
    for _ in 0..3 {
        drop(clients);
        until("they are forgotten", || service.descriptors() < CLIENTS);
        clients = (0..CLIENTS).map(|_| connect()).collect();
        ask_all(&mut clients);
        assert!(service.memory() <= most, "{} over {most}", service.memory());
    }
    drop(clients);
    until("they are forgotten", || service.descriptors() < CLIENTS);
    assert!(service.memory() <= most);
}

#[test]
fn a_ping_without_a_ttl_is_not_answered_with_memory() {
    let _limit = time_limit(60);
    let service = echo("5", &[]);
    let ping = |data: &[u8]| {
        let mut client = Raw::dealer(&service.endpoint, b"");
        client.send(&raw::command("PING", data));
        client.receive().map(|(_, pong)| pong)
    };
    // RFC 37: a TTL of two bytes, and up to 16 that are sent back.
    assert_eq!(ping(b"\0\0").unwrap(), b"\x04PONG");
    assert_eq!(ping(b"\0\0sixteen bytes...more").unwrap(), b"\x04PONGsixteen bytes...");
    assert_eq!(ping(b""), None);
    assert_eq!(ping(b"\0"), None);
    // Nor is what says that its name is longer than all of it.
    let mut client = Raw::dealer(&service.endpoint, b"");
    client.send(&raw::frame(raw::COMMAND, b"\x05PING"));
    assert_eq!(client.rest(), b"");
    is_served(&service.endpoint);
    ends_well(service);
}

#[test]
fn a_ping_with_a_long_ttl_is_no_end() {
    let _limit = time_limit(60);
    let service = echo("5", &[]);
    // In tenths of a second: 65.6 s, which are 64 ms more than 16 bits of milliseconds can hold,
    // and 0.3 s.
    let [mut long, mut short] = [656_u16, 3].map(|ttl| {
        let mut client = Raw::dealer(&service.endpoint, b"");
        client.send(&raw::command("PING", &ttl.to_be_bytes()));
        assert_eq!(client.receive().unwrap().1, b"\x04PONG");
        client
    });
    assert_eq!(short.rest(), b"");
    assert_eq!(long.ask(b"a").unwrap(), [b"a"]);
    ends_well(service);
}

/// It is read when the requests before it are, which wait until the service takes more of them.
#[test]
fn a_ping_that_is_read_after_its_connection_has_ended_is_not_answered() {
    let _limit = time_limit(60);
    let mut service = sleepy("0");
    let mut slow = Raw::dealer(&service.endpoint, b"");
    slow.send(&raw::request(b"500"));
    service.wait_for_line("request \"500\"");
    let mut client = Raw::dealer(&service.endpoint, b"");
    let requests = raw::request(b"0").repeat(500);
    client.send(&[requests, raw::command("PING", b"\0\0")].concat());
    // So it has read as much as it takes, and then that the connection has ended.
    Raw::dealer(&service.endpoint, b"");
    client.reset();
    Raw::dealer(&service.endpoint, b"");
    assert_eq!(slow.reply().unwrap(), [b"500"]);
    assert_eq!(Raw::dealer(&service.endpoint, b"").ask(b"0").unwrap(), [b"0"]);
    ends_well(service);
}

#[test]
fn commands_are_no_requests() {
    let _limit = time_limit(60);
    for workers in BOTH {
        let service = echo(workers, &[]);
        let mut client = Raw::dealer(&service.endpoint, b"");
        for name in ["SUBSCRIBE", "CANCEL", "HELLO", "PONG", "READY"] {
            client.send(&raw::command(name, b"a"));
            // Where the body should be, too.
            client.send(&raw::frame(raw::MORE, b""));
            client.send(&raw::command(name, b"a"));
            client.send(&raw::frame(0, name.as_bytes()));
            assert_eq!(client.reply().unwrap(), [name.as_bytes()]);
        }
        ends_well(service);
    }
}
