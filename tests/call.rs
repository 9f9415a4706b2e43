//! `repd call`: what it prints, and how it ends when there is no reply.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::process::{Command, Output};
use std::sync::mpsc::channel;
use std::thread::spawn;

use common::raw::{MORE, Raw, command, frame, greeting, property};
use common::{
    Folder, Process, REPD, has_ipv6, refusing, repd, time_limit, until, with_backend, with_folder,
};

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn frames_are_printed_one_a_line_or_as_they_are() {
    let _limit = time_limit(60);
    let service = Process::start(&[]);
    let call = |options: &[&str], input: &[u8]| {
        let output = repd(&[&["call", &service.endpoint], options].concat(), input);
        assert_eq!((output.status.code(), &output.stderr[..]), (Some(0), &b""[..]));
        output.stdout
    };
    assert_eq!(call(&["hello"], b""), b"olleh\n");
    assert_eq!(call(&["hello", "", "caf\u{e9}"], b""), "olleh\n\n\u{e9}fac\n".as_bytes());
    assert_eq!(call(&[], b"from input"), b"tupni morf\n");
    assert_eq!(call(&[], b""), b"\n");
    assert_eq!(call(&[], b"a\nb"), b"b\\na\n");
    // The line end of a text is not asked for, unless one says so; bytes are as they are.
    assert_eq!(call(&[], b"hello\n"), b"olleh\n");
    assert_eq!(call(&[], b"hello\n\r\n"), b"\\nolleh\n");
    assert_eq!(call(&["--keep-newline"], b"hello\n"), b"\\nolleh\n");
    assert_eq!(call(&["--raw"], b"\x00\xff\n"), b"\n\xff\x00");
    assert_eq!(call(&["--raw", "ab", "cd"], b""), b"badc");
    assert_eq!(call(&["--", "-x", "--raw"], b""), b"x-\nwar--\n");
    let mebibyte = vec![b'x'; 1 << 20];
    assert_eq!(call(&["--raw"], &mebibyte), mebibyte);
}

#[test]
fn an_error_reply_is_3_with_its_code_and_text() {
    let _limit = time_limit(60);
    let (service, hasty) = (Process::sleepy(&[]), Process::sleepy(&["--timeout", "0.1"]));
    let call =
        |service: &Process, frame: &str| said(&repd(&["call", &service.endpoint, frame], b""));
    assert_eq!(
        call(&hasty, "never"),
        (Some(3), "".into(), "error: 504 the deadline passed before the reply\n".into())
    );
    let (status, printed, error) = call(&service, "what?");
    assert_eq!((status, printed.as_str()), (Some(3), ""));
    assert!(error.starts_with("error: 400 "), "{error}");
}

#[test]
fn nobody_there_is_said_at_once_and_silence_when_the_time_is_up() {
    let _limit = time_limit(60);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
    // On a busy machine that may be too short for a connection.
    until("only the reply is missing", || {
        let (status, _, error) = said(&repd(&["call", &endpoint, "x", "--timeout", "0.2"], b""));
        assert_eq!(status, Some(1));
        assert!(error.contains("timed out: no ") && error.contains(&endpoint), "{error}");
        error.contains("no reply")
    });
    let (_held, refusing) = refusing();
    for gone in [&refusing, "ipc:///no/such/socket"] {
        // Long before the time is up: the test would not wait for that.
        let (status, _, error) = said(&repd(&["call", gone, "x", "--timeout", "3600"], b""));
        assert_eq!(status, Some(1));
        assert!(error.contains("cannot connect to") && error.contains(gone), "{error}");
    }
}

#[test]
fn retries_use_a_fresh_socket_and_outlive_a_service_that_starts_late() {
    let _limit = time_limit(60);
    // A service that swallows the first two requests: each try is a connection of its own.
    let context = zmq::Context::new();
    let router = context.socket(zmq::ROUTER).unwrap();
    router.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = router.get_last_endpoint().unwrap().unwrap();
    let (send, peers) = channel();
    spawn(move || {
        for attempt in 0.. {
            let mut message = router.recv_multipart(0).unwrap();
            send.send(message[0].clone()).unwrap();
            message[2] = b"reply".to_vec();
            if attempt >= 2 {
                router.send_multipart(message, 0).unwrap();
            }
        }
    });
    let call = repd(&["call", &endpoint, "x", "--timeout", "1", "--retries", "100"], b"");
    assert_eq!(said(&call), (Some(0), "reply\n".into(), "".into()));
    let mut peers: Vec<_> = peers.try_iter().take(3).collect();
    peers.dedup();
    assert_eq!(peers.len(), 3);

    let folder = Folder::new("late");
    let endpoint = format!("ipc://{}", folder.file("s"));
    let nobody_yet = UnixListener::bind(folder.file("s")).unwrap();
    let late = endpoint.clone();
    let calling =
        spawn(move || repd(&["call", &late, "ab", "--timeout", "0.5", "--retries", "1000"], b""));
    // It has tried.
    drop(nobody_yet.accept().unwrap());
    drop(nobody_yet);
    let _service = Process::run(Command::new(REPD).args(["serve", "--listen", &endpoint]));
    assert_eq!(said(&calling.join().unwrap()), (Some(0), "ba\n".into(), "".into()));
}

#[test]
fn a_service_is_called_by_name_by_ipv6_and_by_path() {
    let _limit = time_limit(60);
    let folder = Folder::new("call");
    let file = format!("ipc://{}", folder.file("s"));
    let mut service = Process::start(&["--listen", &file]);
    let port = service.endpoint.rsplit(':').next().unwrap();
    let mut endpoints = vec![format!("tcp://localhost:{port}"), file];
    let v6 = has_ipv6()
        .then(|| Process::run(Command::new(REPD).args(["serve", "--listen", "tcp://[::1]:*"])));
    endpoints.extend(v6.iter().map(|service| service.endpoint.clone()));
    service.wait_for_line(&endpoints[1]);
    for endpoint in &endpoints {
        assert_eq!(
            said(&repd(&["call", endpoint, "ab"], b"")),
            (Some(0), "ba\n".into(), "".into())
        );
    }
}

#[test]
fn what_a_server_speaks_is_told_and_it_gets_no_request() {
    let _limit = time_limit(60);
    let publisher = [greeting(), command("READY", &property("Socket-Type", b"PUB"))].concat();
    for (says, told) in [
        (&b"J\0\0\0\n8.0.36\0"[..], r"does not speak ZMTP, but begins with J\x00\x00\x00"),
        (b"INFO {\"server_id\":\"ND\"}\r\n", "does not speak ZMTP, but begins with INFO"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "speaks SSH, not ZMTP"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "speaks HTTP, not ZMTP"),
        (&publisher, "is a PUB, which does not serve REQ clients"),
        // The greeting of a PUB of ZMTP 2.0, and its routing id.
        (b"\xff\0\0\0\0\0\0\0\x01\x7f\x01\x01\0\0", "is a PUB, which does not serve REQ clients"),
    ] {
        for command in [&["call", "in vain"][..], &["bench", "--requests=1", "--warmup=0"]] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
            let says = says.to_vec();
            let server = spawn(move || {
                let mut connection = Raw::from_stream(listener.accept().unwrap().0);
                connection.send(&says);
                connection.rest()
            });
            let arguments = [&command[..1], &[&endpoint], &command[1..]].concat();
            let (status, _, error) = said(&repd(&arguments, b""));
            let heard = server.join().unwrap();
            assert!(!heard.ends_with(b"in vain"), "{told}: it has got the request");
            let remedy = "give the endpoint of a repd, or of another server of REQ clients";
            assert_eq!(error, format!("error: {endpoint} {told}; {remedy}\n"), "{command:?}");
            assert_eq!(status, Some(1));
        }
    }
    let (_service, backend) = with_backend(&[]);
    for command in [&["call"][..], &["bench", "--requests=1", "--warmup=0"]] {
        let (status, _, error) = said(&repd(&[command, &[&*backend]].concat(), b""));
        assert!(error.contains("does it serve REQ clients"), "{command:?}: {error}");
        assert_eq!((status, error.lines().count()), (Some(1), 1));
    }
}

#[test]
fn what_cannot_be_reached_is_told_and_nobody_hangs() {
    let _limit = time_limit(60);
    let ends = |files: u32, command: &str, endpoint: &str| {
        let run = format!("ulimit -n {files}; exec {REPD} {command} '{endpoint}' --timeout 2");
        let (status, out, error) = said(&Command::new("sh").args(["-c", &run]).output().unwrap());
        assert!(matches!(status, Some(1 | 2)) && out.is_empty(), "{run}: {status:?}, {out}");
        assert!(error.starts_with("error: ") && error.lines().count() == 1, "{run}: {error}");
    };
    let nowhere = "tcp://127.0.0.1:1";
    for command in ["call", "bench --clients 1 --requests 1 --warmup 0"] {
        for _ in 0..20 {
            for endpoint in [
                nowhere,
                "tcp://no.such.invalid:1",
                "tcp://*:1",
                "tcp://none99:1",
                "ipc:///no/such",
            ] {
                ends(1024, command, endpoint);
            }
        }
        (4..12).cycle().take(80).for_each(|files| ends(files, command, nowhere));
    }
}

#[test]
fn of_a_reply_without_an_end_little_is_kept() {
    let _limit = time_limit(60);
    let router = [greeting(), command("READY", &property("Socket-Type", b"ROUTER"))].concat();
    for frames in [1 << 16, (1 << 16) + 1, usize::MAX] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
        let server = spawn({
            let router = router.clone();
            move || {
                let mut raw = Raw::from_stream(listener.accept().unwrap().0);
                raw.send(&router);
                let mut heard = Vec::new();
                while !heard.ends_with(b"hi") {
                    heard.push(raw.byte().expect("the request"));
                }
                let mut connection = raw.0;
                connection.write_all(&frame(MORE, b"")).unwrap();
                let thousand = frame(MORE, b"x").repeat(1000);
                let mut left = frames - 1;
                while left >= 1000 && connection.write_all(&thousand).is_ok() {
                    left -= 1000;
                }
                if left < 1000 {
                    let last = [frame(MORE, b"x").repeat(left), frame(0, b"x")].concat();
                    connection.write_all(&last).unwrap();
                }
                // Until it is closed.
                while connection.read(&mut [0; 1024]).is_ok_and(|length| length > 0) {}
            }
        });
        let (code, out, error) = said(&repd(&["call", "--timeout=600", &endpoint, "hi"], b""));
        if frames == 1 << 16 {
            assert_eq!((code, out.lines().count()), (Some(0), frames), "{error}");
        } else {
            let why = "is too large: it has more than 1073741824 bytes or 65536 frames";
            assert!(code == Some(1) && error.contains(why), "{frames}: {error}");
        }
        server.join().unwrap();
    }
}

/// The first address is another host's, where nothing listens; whichever is the first.
#[test]
fn each_address_of_a_name_is_tried() {
    let _limit = time_limit(60);
    let hosts = Folder::new("hosts");
    fs::write(hosts.file("hosts"), "127.0.0.2 both\n127.0.0.3 both\n").unwrap();
    // Of a name that stands there twice, all addresses (host.conf(5)).
    fs::write(hosts.file("host.conf"), "multi on\n").unwrap();
    for host in ["127.0.0.2", "127.0.0.3"] {
        let service = Process::run(Command::new(REPD).args([
            "serve",
            "--listen",
            &format!("tcp://{host}:*"),
        ]));
        let endpoint = service.endpoint.replace(host, "both");
        let calls = [
            &["call", "--timeout", "10", &endpoint, "ab"][..],
            &["bench", "--clients", "2", "--requests", "10", "--warmup", "0", &endpoint],
        ];
        for arguments in calls {
            let Some(mut command) = with_folder(&hosts, "/etc", arguments) else { return };
            let (code, out, error) = said(&command.output().unwrap());
            assert_eq!((code, &*error), (Some(0), ""), "{arguments:?}: {out}");
        }
    }
}

#[test]
fn a_connection_that_the_service_ends_is_not_called_refused() {
    let _limit = time_limit(60);
    let service = Process::start(&["--max-message-size", "1k"]);
    let (status, _, error) = said(&repd(&["call", &service.endpoint], &[b'x'; 2000]));
    assert_eq!(status, Some(3), "{error}");
    let (status, _, error) = said(&repd(&["call", &service.endpoint], &[b'x'; 100_000]));
    assert_eq!(status, Some(1));
    assert!(error.contains("closed the connection before it replied"), "{error}");
    assert!(error.contains("larger than it takes"), "{error}");
}

#[test]
fn what_an_error_reply_says_changes_no_terminal() {
    let _limit = time_limit(60);
    let service = Process::start(&["--handler", "echo"]);
    let call = ["call", &service.endpoint, "REPD-ERROR", "999", "\x1b[31mred\nline"];
    let (status, _, error) = said(&repd(&call, b""));
    assert_eq!((status, error.as_str()), (Some(3), "error: 999 \\u{1b}[31mred\\nline\n"));
}
