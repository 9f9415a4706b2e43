//! What answers hears who asks.

mod common;

use std::sync::mpsc::channel;
use std::thread::spawn;

use common::keys::Keys;
use common::status::Status;
use common::{Client, Process, repd, time_limit};
use nix::unistd::Uid;
use repd::{Backend, Config, Fault, Frame, Handler, Service};

#[test]
fn a_program_hears_who_asks() {
    let _limit = time_limit(60);
    let keys = Keys::new("names");
    let ipc = format!("ipc://{}", keys.path("socket"));
    let both = r#"printf "<$REPD_CLIENT> <$REPD_PEER> "; cat"#;
    let packets = "import sys
while True:
    frames, more = [], True
    while more:
        length = int.from_bytes(sys.stdin.buffer.read(4), 'big')
        more = length >> 31
        frames.append(sys.stdin.buffer.read(length & 0x7fffffff))
    reply = b'|'.join(frames)
    sys.stdout.buffer.write(len(reply).to_bytes(4, 'big') + reply)
    sys.stdout.flush()";
    for workers in ["1", "0"] {
        for (program, listed, over_ipc) in [
            (
                &["--framing", "once", "--", "sh", "-c", both][..],
                "<pump-7> <127.0.0.1> abc",
                "<uid:UID> <localhost> abc",
            ),
            (&["--framing", "lines", "--", "cat"], "pump-7\tabc", "uid:UID\tabc"),
            (&["--", "python3", "-c", packets], "pump-7\tabc", "uid:UID\tabc"),
            (&["--multipart", "--", "python3", "-c", packets], "pump-7|abc", "uid:UID|abc"),
        ] {
            let options = ["--workers", workers, "--listen", &ipc, "--name-clients"];
            let service = keys.serve(&[&options, program].concat());
            let client = keys.client(zmq::REQ, &service.endpoint, "pump-7");
            assert_eq!(client.ask_text("abc"), listed);
            let own = over_ipc.replace("UID", &Uid::effective().to_string());
            assert_eq!(Client::req(&ipc).ask_text("abc"), own);
            assert_eq!(client.ask_text("abc"), listed);
        }
        // Where nothing says who that is, it has no name.
        let service = Process::start(&[
            "--workers",
            workers,
            "--name-clients",
            "--framing",
            "lines",
            "--",
            "cat",
        ]);
        assert_eq!(Client::req(&service.endpoint).ask_text("abc"), "\tabc");
    }
}

#[test]
fn workers_and_upstreams_hear_who_asks() {
    let _limit = time_limit(60);
    let keys = Keys::new("names-beyond");
    let backend = format!("ipc://{}", keys.path("backend"));
    let service = keys.serve(&["--backend", &backend, "--name-clients"]);
    let (heard, hears) = channel();
    spawn(move || {
        let worker = zmq::Context::new().socket(zmq::REP).unwrap();
        worker.connect(&backend).unwrap();
        while let Ok(request) = worker.recv_multipart(0) {
            worker.send(&request[1], 0).unwrap();
            if heard.send(request).is_err() {
                break;
            }
        }
    });
    let client = keys.client(zmq::REQ, &service.endpoint, "pump-7");
    // A client cannot put another name there: repd's is the first.
    assert_eq!(client.ask(&[b"other", b"abc"]), [b"other"]);
    assert_eq!(hears.recv().unwrap(), [&b"pump-7"[..], b"other", b"abc"]);

    let upstream = Process::start(&["--handler", "echo"]);
    let front = keys.serve(&["--upstream", &upstream.endpoint, "--name-clients"]);
    let client = keys.client(zmq::REQ, &front.endpoint, "pump-7");
    assert_eq!(client.ask(&[b"abc"]), [&b"pump-7"[..], b"abc"]);
}

#[test]
fn the_name_of_who_asks_counts_in_what_is_held() {
    let _limit = time_limit(60);
    let held = |options: &[&str]| {
        let upstream = zmq::Context::new().socket(zmq::ROUTER).unwrap();
        upstream.bind("tcp://127.0.0.1:*").unwrap();
        let at = upstream.get_last_endpoint().unwrap().unwrap();
        let shown = ["--upstream", &at, "--status", "tcp://127.0.0.1:*"];
        let mut service = Process::start(&[&shown, options].concat());
        service.wait_for_line(": connected");
        let client = Client::req(&service.endpoint);
        client.send(&[b"abc"]);
        upstream.recv_multipart(0).unwrap();
        let shown = Status::of(&service)
            .until("it is in flight", |shown| shown["upstreams"][0]["in_flight"] == 1);
        shown["limits"]["memory_held_bytes"].as_u64().unwrap()
    };
    assert_eq!(held(&["--name-clients"]) - held(&[]), size_of::<Frame>() as u64);
}

/// Answers with the name of who asks.
struct Names;

impl Handler for Names {
    fn handle(&mut self, _request: Vec<Frame>) -> Result<Vec<Frame>, Fault> {
        Ok(vec![Frame::from("nobody")])
    }

    fn handle_from(
        &mut self,
        client: &repd::Client,
        request: Vec<Frame>,
    ) -> Result<Vec<Frame>, Fault> {
        let text = format!("{} {} {}", client.name(), client.address(), request.len());
        Ok(vec![Frame::from(text)])
    }
}

#[test]
fn a_handler_hears_who_asks_if_it_wants_to() {
    let _limit = time_limit(60);
    let keys = Keys::new("names-here");
    for (workers, is_named, text) in
        [(1, true, "pump-7 127.0.0.1 1"), (0, true, "pump-7 127.0.0.1 1"), (1, false, "nobody")]
    {
        let config = Config::new(Backend::workers(workers, |_| Names))
            .listen(["tcp://127.0.0.1:*".parse().unwrap()])
            .key(keys.path("service.key_secret"))
            .clients(keys.path("clients"))
            .name_clients(is_named);
        let running = Service::spawn(&config).unwrap();
        let client = keys.client(zmq::REQ, &running.endpoints()[0], "pump-7");
        assert_eq!(client.ask_text("abc"), text);
        running.stop().unwrap();
    }
}

#[test]
fn who_comes_under_the_routing_id_of_another_gets_nothing_of_it() {
    let _limit = time_limit(60);
    let keys = Keys::new("names-taken");
    let lines = [keys.make("one"), keys.make("two")].concat();
    keys.write("clients", &lines);
    let ipc = format!("ipc://{}", keys.path("socket"));
    let (key, clients) = (keys.path("service.key_secret"), keys.path("clients"));
    for workers in ["2", "0"] {
        let options =
            ["--workers", workers, "--listen", &ipc, "--key", &key, "--clients", &clients];
        let mut service = Process::sleepy(&[&options[..], &["--verbose"]].concat());
        let connect = |endpoint: &str, name: Option<&str>| {
            let use_key = name.map(|name| keys.curve_of(name));
            Client::with(zmq::DEALER, endpoint, |socket| {
                socket.set_identity(b"same").unwrap();
                use_key.iter().for_each(|use_key| use_key(socket));
            })
        };
        let endpoint = service.endpoint.clone();
        for (endpoint, name) in [(&endpoint, Some("two")), (&ipc, None)] {
            let one = connect(&service.endpoint, Some("one"));
            one.send(&[b"400"]);
            service.wait_for_line("request \"400\"");
            drop(one);
            // Its request is handled before this one is, or with it.
            let other = connect(endpoint, name);
            assert_eq!(other.ask(&[b"500"]), [b"500"]);
        }
    }
}

#[test]
fn a_name_is_of_no_use_to_a_built_in_handler() {
    let _limit = time_limit(60);
    let refused = repd(&["serve", "--check", "--name-clients"], b"");
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("cannot use --name-clients with a built-in handler"), "{said}");
}
