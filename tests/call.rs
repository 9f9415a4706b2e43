//! `repd call`: what it prints, and how it ends when there is no reply.

mod common;

use std::net::TcpListener;
use std::process::Output;
use std::thread::spawn;
use std::time::Instant;

use common::{Process, repd, time_limit};

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
    assert_eq!(call(&["--raw"], b"\x00\xff\n"), b"\n\xff\x00");
    assert_eq!(call(&["--raw", "ab", "cd"], b""), b"badc");
    assert_eq!(call(&["--", "-x", "--raw"], b""), b"x-\nwar--\n");
    let mebibyte = vec![b'x'; 1 << 20];
    assert_eq!(call(&["--raw"], &mebibyte), mebibyte);
}

#[test]
fn an_error_reply_is_3_with_its_code_and_text() {
    let _limit = time_limit(60);
    let service = Process::sleepy(&["--timeout", "0.1"]);
    let call = |frame: &str| said(&repd(&["call", &service.endpoint, frame], b""));
    assert_eq!(
        call("never"),
        (Some(3), "".into(), "error: 504 the deadline passed before the reply\n".into())
    );
    let (status, printed, error) = call("what?");
    assert_eq!((status, printed.as_str()), (Some(3), ""));
    assert!(error.starts_with("error: 400 "), "{error}");
}

#[test]
fn nobody_there_is_said_at_once_and_silence_when_the_time_is_up() {
    let _limit = time_limit(60);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
    let (status, _, error) = said(&repd(&["call", &endpoint, "x", "--timeout", "0.2"], b""));
    assert_eq!(status, Some(1));
    assert!(error.contains("timed out: no reply") && error.contains(&endpoint), "{error}");
    drop(listener);
    for gone in [&endpoint, "ipc:///no/such/socket"] {
        let start = Instant::now();
        let (status, _, error) = said(&repd(&["call", gone, "x", "--timeout", "20"], b""));
        assert_eq!(status, Some(1));
        assert!(error.contains("cannot connect to") && error.contains(gone), "{error}");
        // Long before the time is up.
        assert!(start.elapsed().as_secs() < 10);
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
    let swallowing = spawn(move || {
        let mut peers = Vec::new();
        for attempt in 0.. {
            let mut message = router.recv_multipart(0).unwrap();
            peers.push(message[0].clone());
            message[2] = format!("reply {attempt}").into_bytes();
            if attempt == 2 {
                router.send_multipart(message, 0).unwrap();
                break;
            }
        }
        peers
    });
    let call = repd(&["call", &endpoint, "x", "--timeout", "1", "--retries", "5"], b"");
    assert_eq!(said(&call), (Some(0), "reply 2\n".into(), "".into()));
    let mut peers = swallowing.join().unwrap();
    peers.dedup();
    assert_eq!(peers.len(), 3);

    // An address that no other test uses.
    let endpoint = "tcp://127.0.71.3:23571";
    let calling =
        spawn(|| repd(&["call", endpoint, "ab", "--timeout", "0.5", "--retries", "40"], b""));
    let _service = Process::run(
        std::process::Command::new(common::REPD).args(["serve", "--listen", endpoint]),
    );
    assert_eq!(said(&calling.join().unwrap()), (Some(0), "ba\n".into(), "".into()));
}

#[test]
fn a_service_is_called_by_name_by_ipv6_and_by_path() {
    let _limit = time_limit(60);
    let path = std::env::temp_dir().join(format!("repd-call-{}", std::process::id()));
    let file = format!("ipc://{}", path.display());
    let options = ["--listen", &file, "--listen", "tcp://[::1]:*"];
    let mut service = Process::start(&options);
    let port = service.endpoint.rsplit(':').next().unwrap().to_string();
    service.wait_for_line("listening on");
    let v6 = service.wait_for_line("listening on");
    let v6 = v6.split("listening on ").nth(1).unwrap();
    for endpoint in [&format!("tcp://localhost:{port}"), v6, &file] {
        assert_eq!(
            said(&repd(&["call", endpoint, "ab"], b"")),
            (Some(0), "ba\n".into(), "".into())
        );
    }
}

#[test]
fn a_connection_that_the_service_ends_is_not_called_refused() {
    let _limit = time_limit(60);
    let service = Process::start(&["--max-message-size", "1k"]);
    let (status, _, error) = said(&repd(&["call", &service.endpoint], &[b'x'; 2000]));
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
