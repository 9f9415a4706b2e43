//! The libzmq inside is the one that was meant: zmq-sys/README.md.

mod common;

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use common::{LIMIT, Process, time_limit, until};

#[test]
fn it_is_4_3_5_with_curve() {
    assert_eq!(zmq::version(), (4, 3, 5));
    assert_eq!(zmq::has("curve"), Some(true));
}

fn socket(context: &zmq::Context, kind: zmq::SocketType) -> zmq::Socket {
    let socket = context.socket(kind).unwrap();
    socket.set_linger(0).unwrap();
    socket.set_rcvtimeo(LIMIT.as_millis() as i32).unwrap();
    socket
}

#[test]
fn curve_lets_in_who_knows_the_servers_key_and_nobody_else() {
    let _limit = time_limit(60);
    let context = zmq::Context::new();
    let keys = zmq::CurveKeyPair::new().unwrap();
    let server = socket(&context, zmq::REP);
    server.set_curve_server(true).unwrap();
    server.set_curve_secretkey(&keys.secret_key).unwrap();
    server.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = server.get_last_endpoint().unwrap().unwrap();
    let client = |name: &str, server_key: &[u8]| {
        let events = format!("inproc://{name}");
        let own = zmq::CurveKeyPair::new().unwrap();
        let client = socket(&context, zmq::REQ);
        client.set_curve_serverkey(server_key).unwrap();
        client.set_curve_publickey(&own.public_key).unwrap();
        client.set_curve_secretkey(&own.secret_key).unwrap();
        client.monitor(&events, zmq::SocketEvent::ALL.to_raw().into()).unwrap();
        let monitor = socket(&context, zmq::PAIR);
        monitor.connect(&events).unwrap();
        client.connect(&endpoint).unwrap();
        (client, monitor)
    };
    let (right, monitor) = client("right", &keys.public_key);
    right.send("hello", 0).unwrap();
    assert_eq!(server.recv_bytes(0).unwrap(), b"hello");
    server.send("olleh", 0).unwrap();
    assert_eq!(right.recv_bytes(0).unwrap(), b"olleh");
    drop((right, monitor));
    let (wrong, monitor) = client("wrong", &zmq::CurveKeyPair::new().unwrap().public_key);
    wrong.send("hello", 0).unwrap();
    // The handshake ends, and not well.
    until("the wrong key is refused", || {
        let event = monitor.recv_multipart(0).unwrap().remove(0);
        let event = u16::from_ne_bytes(*event.first_chunk().unwrap());
        assert_ne!(event, zmq::SocketEvent::HANDSHAKE_SUCCEEDED.to_raw());
        event == zmq::SocketEvent::DISCONNECTED.to_raw()
            || event == zmq::SocketEvent::HANDSHAKE_FAILED_NO_DETAIL.to_raw()
    });
    assert_eq!(server.poll(zmq::POLLIN, 0).unwrap(), 0);
}

/// Returns what libzmq names an unnamed client, and what a REQ that correlates puts before its
/// first request.
fn first_ids() -> Vec<Vec<u8>> {
    let context = zmq::Context::new();
    let router = socket(&context, zmq::ROUTER);
    router.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = router.get_last_endpoint().unwrap().unwrap();
    let req = socket(&context, zmq::REQ);
    req.set_req_correlate(true).unwrap();
    let clients = [req, socket(&context, zmq::DEALER), socket(&context, zmq::DEALER)];
    let received = clients.iter().map(|client| {
        client.connect(&endpoint).unwrap();
        client.send("", 0).unwrap();
        router.recv_multipart(0).unwrap()
    });
    let received: Vec<_> = received.collect();
    let ids = received.iter().map(|frames| frames[0].clone());
    ids.chain([received[0][1].clone()]).collect()
}

/// Run by another test in processes of their own.
#[test]
#[ignore]
fn says_its_first_ids() {
    first_ids().iter().for_each(|id| println!("\nid {id:?}"));
}

#[test]
fn nobody_can_guess_what_unnamed_clients_are_named() {
    let _limit = time_limit(60);
    let ids = first_ids();
    let [clients @ .., _request] = &ids[..] else { panic!("{ids:?}") };
    // A zero byte, which no name of a client's own begins with, and eight that nobody knows.
    assert!(clients.iter().all(|id| id[0] == 0 && id.len() == 9), "{clients:?}");
    // An unseeded rand(3) gives every process the same.
    let of_a_process = || {
        let itself = std::env::current_exe().unwrap();
        let run = ["says_its_first_ids", "--exact", "--ignored", "--nocapture"];
        let output = Command::new(itself).args(run).output().unwrap().stdout;
        let output = String::from_utf8(output).unwrap();
        let ids = output.lines().filter(|line| line.starts_with("id "));
        ids.map(String::from).collect::<Vec<_>>()
    };
    let (one, other) = (of_a_process(), of_a_process());
    assert!(one.len() == 4 && one.iter().all(|id| !other.contains(id)), "{one:?} {other:?}");
}

#[test]
fn keepalive_is_on_with_and_without_a_heartbeat() {
    let _limit = time_limit(60);
    ["60", "0"].into_iter().for_each(keepalive_is_on);
}

fn keepalive_is_on(heartbeat: &str) {
    let service = Process::start(&["--heartbeat", heartbeat]);
    let client = common::Client::req(&service.endpoint);
    assert_eq!(client.ask_text("ab"), "ba");
    until("the keepalive timer runs", || service.is_probed());
}

#[test]
fn the_backlog_is_the_one_that_was_asked_for() {
    let _limit = time_limit(60);
    let service = Process::start(&["--backlog", "77"]);
    let port = service.endpoint.rsplit(':').next().unwrap().to_string();
    let sockets = Command::new("ss").args(["-Hltn", &format!("sport = :{port}")]).output().unwrap();
    // ss(8): of a listening socket, the third column is the backlog.
    let line = String::from_utf8(sockets.stdout).unwrap();
    assert_eq!(line.split_whitespace().nth(2), Some("77"), "{line}");
}

/// Returns what the process has open, by number.
fn open(pid: u32) -> Vec<(String, String)> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let target = |file: fs::DirEntry| {
        let target = fs::read_link(file.path()).unwrap();
        (file.file_name().into_string().unwrap(), target.to_string_lossy().into_owned())
    };
    files.map(|file| target(file.unwrap())).collect()
}

#[test]
fn mailboxes_are_eventfds_and_not_socket_pairs() {
    let _limit = time_limit(60);
    let service = Process::start(&["--workers", "10"]);
    let open = open(service.pid());
    let count = |kind: &str| open.iter().filter(|(_, target)| target.contains(kind)).count();
    // Two sockets a worker, and libzmq's own threads.
    assert!(count("eventfd") >= 20, "{open:?}");
    // The listener, and the pair that signals come through, with a writer for each.
    assert!(count("socket:") <= 5, "{open:?}");
}

#[test]
fn a_child_process_inherits_no_descriptor() {
    let _limit = time_limit(60);
    let name = format!("ipc://@repd-cloexec-{}", std::process::id());
    let service = Process::start(&["--listen", &name]);
    let _client = common::Client::req(&service.endpoint);
    let inherited = open(std::process::id());
    for (number, target) in open(service.pid()) {
        // Standard input, output and error, and what this test was itself started with.
        if ["0", "1", "2"].contains(&number.as_str())
            || inherited.contains(&(number.clone(), target.clone()))
        {
            continue;
        }
        let path = format!("/proc/{}/fdinfo/{number}", service.pid());
        let info = fs::read_to_string(path).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or("02000000");
        let flags = u32::from_str_radix(flags.trim(), 8).unwrap();
        // O_CLOEXEC, of open(2).
        assert_ne!(flags & 0o2000000, 0, "{number} {target}");
    }
}

#[test]
fn of_the_cxx_library_only_what_libzmq_needs_is_linked_in() {
    let program = fs::read(env!("CARGO_BIN_EXE_repd")).unwrap();
    let has = |name: &str| program.windows(name.len()).any(|bytes| bytes == name.as_bytes());
    // The name of a type of that library, and that of its locales.
    assert!(has("_vmi_class_type_info") && !has("St6locale"));
    let archive = Command::new("c++").arg("-print-file-name=libstdc++.a").output();
    if archive.is_ok_and(|output| output.stdout.starts_with(b"/")) {
        assert!(!has("libstdc++.so"), "it is loaded");
    } else {
        eprintln!("skipped: there is no libstdc++.a");
    }
}

#[test]
fn sockets_of_other_patterns_cannot_be_made() {
    let context = zmq::Context::new();
    for kind in [zmq::PUB, zmq::SUB, zmq::PUSH, zmq::PULL, zmq::XPUB, zmq::XSUB, zmq::STREAM] {
        assert_eq!(context.socket(kind).err(), Some(zmq::Error::EINVAL), "{kind:?}");
    }
}

#[test]
fn an_error_that_the_zmq_crate_does_not_know_is_an_error_and_no_panic() {
    let _limit = time_limit(60);
    let file = std::env::temp_dir().join(format!("repd-errno-{}", std::process::id()));
    fs::write(&file, "").unwrap();
    let context = zmq::Context::new();
    let router = socket(&context, zmq::ROUTER);
    // ENOTDIR, EACCES or EROFS, ENOENT, by the system's numbers.
    for path in [format!("{}/x", file.display()), "/sys/x".into(), "/proc/x/y".into()] {
        assert!(router.bind(&format!("ipc://{path}")).is_err(), "{path}");
    }
    fs::remove_file(&file).unwrap();
    let linked = Command::new("ldd").arg(common::REPD).output().unwrap();
    let linked = String::from_utf8_lossy(&linked.stdout).into_owned();
    assert!(!linked.contains("libzmq") && !linked.contains("libsodium"), "{linked}");
}

/// As where nobody listens at a port that the system may choose for the connection's own end.
#[test]
fn a_socket_is_never_connected_to_itself() {
    let _limit = time_limit(60);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let context = zmq::Context::new();
    let dealer = socket(&context, zmq::DEALER);
    let events = "inproc://never";
    dealer.monitor(events, zmq::SocketEvent::ALL.to_raw().into()).unwrap();
    let monitor = socket(&context, zmq::PAIR);
    monitor.connect(events).unwrap();
    dealer.set_reconnect_ivl(10).unwrap();
    dealer.connect(&format!("tcp://127.0.0.1:{port};127.0.0.1:{port}")).unwrap();
    dealer.send("hello", 0).unwrap();
    let mut tries = 0;
    while tries < 5 {
        let event = monitor.recv_multipart(0).unwrap().remove(0);
        let event = u16::from_ne_bytes(*event.first_chunk().unwrap());
        assert_ne!(event, zmq::SocketEvent::CONNECTED.to_raw());
        tries += usize::from(event == zmq::SocketEvent::CONNECT_RETRIED.to_raw());
    }
    drop(dealer);
    // Nor is the port taken.
    until("the port is free", || TcpListener::bind(("127.0.0.1", port)).is_ok());
}
