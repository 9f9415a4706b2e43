//! What a service shows of itself: figures, health, the page, `repd status`.

mod common;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use common::keys::Keys;
use common::status::{Status, connect};
use common::{Client, Folder, Link, Process, REPD, repd, time_limit, until};
use nix::sys::signal::Signal::SIGTERM;
use repd::{Backend, Code, Config, Fault, Frame, Running, Service};
use serde_json::{Value, json};

const STATUS: [&str; 2] = ["--status", "tcp://127.0.0.1:*"];

fn serve(options: &[&str]) -> (Process, Status) {
    let process = Process::start(&[&STATUS, options].concat());
    let status = Status::of(&process);
    (process, status)
}

/// A service of this process, with a handler that says what code it answers with: 0 for none.
fn faulty(workers: usize) -> Running {
    let handler = |mut request: Vec<Frame>| -> Result<Vec<Frame>, Fault> {
        match str::from_utf8(&request[0]).unwrap().parse().ok().and_then(Code::new) {
            Some(code) => Err(Fault::new(code, "as asked")),
            None => Ok(vec![request.remove(0)]),
        }
    };
    let any = "tcp://127.0.0.1:*".parse().unwrap();
    let config = Config::new(Backend::workers(workers, move |_| handler));
    let status = "tcp://127.0.0.1:*".parse().unwrap();
    Service::spawn(&config.listen([any]).status(status)).unwrap()
}

#[test]
fn the_figures_of_a_service_add_up() {
    let _limit = time_limit(60);
    for workers in [2, 0] {
        let service = faulty(workers);
        let status = Status(service.status_endpoint().unwrap().into());
        let clients = [(); 2].map(|()| Client::req(&service.endpoints()[0]));
        for _ in 0..100 {
            clients.iter().for_each(|client| assert_eq!(client.ask_text("0"), "0"));
        }
        assert_eq!(common::code(&clients[0].ask(&[b"404"])), Some(404));
        status.until("all of them count", |shown| shown["requests"]["total"] == 201);
        let metrics = status.metrics();
        for (sample, value) in [
            ("repd_requests_total", 201.0),
            ("repd_replies_total{code=\"ok\"}", 200.0),
            ("repd_replies_total{code=\"404\"}", 1.0),
            ("repd_replies_total{code=\"503\"}", 0.0),
            ("repd_request_duration_seconds_count", 201.0),
            ("repd_request_duration_seconds_bucket{le=\"+Inf\"}", 201.0),
            ("repd_queue_duration_seconds_count", 201.0),
            ("repd_handle_duration_seconds_count", 201.0),
            ("repd_connections", 2.0),
            ("repd_requests_in_flight", 0.0),
            ("repd_ready", 1.0),
            ("repd_workers{state=\"idle\"}", workers.max(1) as f64),
        ] {
            assert_eq!(metrics.get(sample), Some(&value), "{workers} workers: {sample}");
        }
        let parts =
            ["queue", "handle"].map(|part| metrics[&format!("repd_{part}_duration_seconds_sum")]);
        let all = metrics["repd_request_duration_seconds_sum"];
        assert!((parts[0] + parts[1] - all).abs() < 1e-6 && all > 0.0, "{parts:?} {all}");
        let shown = status.json();
        assert_eq!(
            (&shown["requests"]["total"], &shown["replies"]["ok"]),
            (&json!(201), &json!(200))
        );
        let client = json!({"client": "127.0.0.1", "kind": "address", "connections": 2,
            "requests": 201, "refused": 0, "per_second": shown["clients"][0]["per_second"]});
        assert_eq!(shown["clients"], json!([client]));
        drop(clients);
        status.until("no connections", |shown| {
            shown["connections"]["open"] == 0 && shown["clients"][0]["connections"] == 0
        });
        service.stop().unwrap();
    }
}

#[test]
fn both_formats_of_metrics_tell_the_same() {
    let _limit = time_limit(60);
    let (service, status) = serve(&[]);
    assert_eq!(Client::req(&service.endpoint).ask_text("abc"), "cba");
    status.until("it counts", |shown| shown["replies"]["ok"] == 1);
    let (_, head, _) = status.get("/metrics");
    assert!(head.contains("Content-Type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    let accept = "GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text;version=1.0.0,*/*;q=0.1\r\n\r\n";
    let open = status.send(accept.as_bytes());
    assert!(open.contains("Content-Type: application/openmetrics-text; version=1.0.0"), "{open}");
    assert!(open.ends_with("# EOF\n") && open.contains("# TYPE repd_requests counter\n"));
    assert!(open.contains("\nrepd_requests_total 1\n"));
}

#[test]
fn who_is_busy_stuck_or_has_no_program_is_shown() {
    let _limit = time_limit(60);
    let state = |shown: &Value, worker: usize| shown["workers"][worker]["state"].clone();
    let service =
        Process::sleepy(&[&STATUS[..], &["--workers", "2", "--timeout", "0.05"]].concat());
    let status = Status::of(&service);
    let client = Client::dealer(&service.endpoint);
    client.send(&[b"60000"]);
    assert_eq!(client.receive_code(), 504);
    let shown = status.until("a worker is stuck", |shown| {
        [state(shown, 0), state(shown, 1)].contains(&json!("stuck"))
    });
    assert_eq!((&shown["state"], &shown["ready"]), (&json!("serving"), &json!(true)));
    client.send(&[b"60000"]);
    assert_eq!(client.receive_code(), 504);
    let shown = status.until("both are stuck", |shown| shown["ready"] == false);
    let why = "every worker or upstream is stuck in requests that have passed their deadline";
    assert_eq!((&shown["state"], &shown["reason"]), (&json!("not ready"), &json!(why)));
    let (code, _, text) = status.get("/readyz");
    assert_eq!((code, text.trim_end()), (503, why));
    assert_eq!(status.get("/healthz").0, 200, "the loop turns");
    assert_eq!(status.metrics()["repd_workers{state=\"stuck\"}"], 2.0);
    drop(service);

    let (service, status) = serve(&[
        "--workers",
        "1",
        "--framing",
        "lines",
        "--",
        "sh",
        "-c",
        "read -r l; echo $l; read -r l; exec sleep 60",
    ]);
    let process = status.json()["workers"][0]["process"].as_u64().expect("a process");
    let client = Client::dealer(&service.endpoint);
    client.send(&[b"a"]);
    client.receive();
    client.send(&[b"b"]);
    let shown = status.until("it is busy", |shown| state(shown, 0) == "busy");
    assert_eq!(shown["workers"][0]["process"], json!(process));
    assert!(shown["workers"][0]["for_seconds"].is_number() && shown["requests"]["in_flight"] == 1);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(process as i32), SIGTERM).unwrap();
    assert_eq!(client.receive_code(), 502);
    let shown = status.until("the next copy runs", |shown| {
        shown["workers"][0]["process"].as_u64().is_some_and(|it| it != process)
    });
    assert_eq!(shown["program"]["starts"], 2);
    assert_eq!(shown["program"]["failures"]["ended"], 1);
    // What the log was told of it is shown too.
    let lost = "worker 1: lost the program ";
    let shown = status.until("the warning is shown", |shown| {
        let warnings = shown["log"]["warnings"].as_array().unwrap().iter();
        warnings.filter_map(|it| it["text"].as_str()).any(|it| it.starts_with(lost))
    });
    assert_eq!(shown["log"]["warnings"][0]["level"], "warning");
    assert!(status.metrics()["repd_log_lines_total{level=\"warning\"}"] >= 1.0);
    assert!(status.get("/").2.contains(lost));
    assert!(String::from_utf8(repd(&["status", &status.0], b"").stdout).unwrap().contains(lost));
}

#[test]
fn upstreams_and_external_workers_are_shown() {
    let _limit = time_limit(60);
    let folder = Folder::new("status-elsewhere");
    let ipc = format!("ipc://{}", folder.file("status"));
    let (one, _) = serve(&[]);
    let two = Process::start(&[]);
    let front = Process::start(&[
        "--status",
        &ipc,
        "--upstream",
        &one.endpoint,
        "--upstream",
        &two.endpoint,
    ]);
    let status = Status(ipc.clone());
    assert_eq!(Client::req(&front.endpoint).ask_text("abc"), "cba");
    let is_up = |shown: &Value, which: usize| shown["upstreams"][which]["state"] == "idle";
    let shown = status.until("both are up", |shown| is_up(shown, 0) && is_up(shown, 1));
    assert_eq!(shown["upstreams"][0]["endpoint"], json!(one.endpoint));
    let ended = format!("repd_upstream_up{{upstream=\"{}\"}}", two.endpoint);
    assert_eq!(status.metrics()[&ended], 1.0);
    drop(two);
    status.until("one is down", |shown| shown["upstreams"][1]["state"] == "disconnected");
    assert_eq!(status.metrics()[&ended], 0.0);
    assert_eq!(status.get("/readyz").0, 200, "the other answers");
    drop(one);
    status.until("no one answers", |shown| shown["ready"] == false);
    assert_eq!(status.get("/readyz").2.trim_end(), "no worker or upstream is connected");
    drop(front);

    let (service, status) = serve(&["--backend", "tcp://127.0.0.1:*"]);
    status.until("nobody is there", |shown| shown["ready"] == false);
    let line = service.log.iter().find_map(|line| line.split("workers connect to ").nth(1));
    let worker = Client::new(zmq::REP, line.unwrap());
    let shown = status.until("a worker is there", |shown| shown["ready"] == true);
    assert_eq!(shown["backend"][0]["state"], "idle");
    drop(worker);
}

#[test]
fn clients_with_keys_are_shown_by_their_names_and_who_is_refused_is_counted() {
    let _limit = time_limit(60);
    let keys = Keys::new("status");
    let ipc = format!("ipc://{}", keys.path("status"));
    let service = keys.serve(&["--status", &ipc]);
    let status = Status(ipc);
    let client = keys.client(zmq::REQ, &service.endpoint, "pump-7");
    assert_eq!(client.ask_text("abc"), "cba");
    keys.make("stranger");
    assert!(!keys.call(&service.endpoint, "stranger").status.success());
    let shown = status.until("both are told of", |shown| {
        let refused = shown["connections"]["refused"]["not-listed"].as_u64();
        shown["replies"]["ok"] == 1 && refused > Some(0)
    });
    let [one] = &shown["clients"].as_array().unwrap()[..] else { panic!("{shown}") };
    assert_eq!(
        (&one["client"], &one["kind"], &one["requests"]),
        (&json!("pump-7"), &json!("name"), &json!(1))
    );
    assert_eq!(shown["public_key"], json!(keys.public("service")));
    let metrics = status.metrics();
    assert_eq!(metrics["repd_client_requests_total{client=\"pump-7\"}"], 1.0);
    assert_eq!(metrics["repd_reloads_total{result=\"ok\"}"], 0.0);
    service.signal(nix::sys::signal::Signal::SIGHUP);
    status.until("the lists are read again", |shown| shown["reloads"]["ok"] == 1);
    for path in ["/", "/status.json", "/metrics"] {
        assert!(!status.get(path).2.contains(&keys.secret("service")));
    }
}

#[test]
fn it_is_ready_until_it_drains_and_then_says_so() {
    let _limit = time_limit(60);
    let service = Process::sleepy(&STATUS);
    let status = Status::of(&service);
    assert_eq!((status.get("/readyz").0, status.get("/healthz").0), (200, 200));
    let client = Client::dealer(&service.endpoint);
    client.send(&[b"2000"]);
    status.until("it is in flight", |shown| shown["requests"]["in_flight"] == 1);
    service.signal(SIGTERM);
    let shown = status.until("it drains", |shown| shown["state"] == "draining");
    assert_eq!(shown["ready"], false);
    let (code, _, text) = status.get("/readyz");
    assert_eq!((code, text.trim_end()), (503, "the service is about to end, and refuses requests"));
    assert_eq!(status.get("/healthz").0, 200);
    assert_eq!(client.receive(), [b"2000"]);
}

#[test]
fn a_handler_that_takes_its_time_is_no_fault_where_it_is_called_in_the_loop() {
    let _limit = time_limit(60);
    let service = Process::sleepy(&[&STATUS[..], &["--workers", "0"]].concat());
    let status = Status::of(&service);
    assert_eq!(status.get("/readyz").0, 200);
    let client = Client::dealer(&service.endpoint);
    client.send(&[b"3000"]);
    let shown = status.until("it is in the handler", |shown| shown["state"] == "handling");
    assert_eq!(
        (&shown["workers"][0]["state"], &shown["requests"]["in_flight"]),
        (&json!("busy"), &json!(1))
    );
    assert_eq!((status.get("/readyz").0, status.get("/healthz").0), (200, 200));
    client.receive();
    status.until("it is not any more", |shown| shown["state"] == "serving");
}

#[test]
fn the_page_is_one_document_that_loads_nothing() {
    let _limit = time_limit(60);
    let folder = Folder::new("status-page");
    let named = format!("ipc://{}", folder.file("<script>"));
    let (service, status) = serve(&["--listen", &named]);
    assert_eq!(Client::req(&service.endpoint).ask_text("abc"), "cba");
    let (code, head, page) = status.get("/");
    assert!(code == 200 && head.contains("Content-Type: text/html; charset=utf-8"), "{head}");
    assert!(
        head.contains("Content-Security-Policy: default-src 'none'; style-src 'sha256-"),
        "{head}"
    );
    for header in
        ["X-Content-Type-Options: nosniff", "Cache-Control: no-store", "Connection: close"]
    {
        assert!(head.contains(header), "{head}");
    }
    assert!(
        page.len() < 24 << 10 && page.contains("<header class=\"good\"><h1>Serving</h1>"),
        "{page}"
    );
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script"), "{page}");
    let head = status.send(b"HEAD / HTTP/1.1\r\n\r\n");
    assert!(head.contains("Content-Length: ") && head.ends_with("\r\n\r\n"), "{head}");
}

#[test]
fn what_is_no_request_is_refused_and_nothing_is_changed_by_any() {
    let _limit = time_limit(60);
    let (service, status) = serve(&[]);
    for (bytes, code) in [
        (&b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n"[..], " 405 "),
        (b"GET /../../etc/passwd HTTP/1.1\r\n\r\n", " 404 "),
        (b"GET / HTTP/9.9\r\n\r\n", " 400 "),
        (&[&b"GET /"[..], &[b'a'; 20_000]].concat(), " 431 "),
        (&[&b"GET / HTTP/1.1\r\n"[..], &b"a: b\r\n".repeat(100)].concat(), " 431 "),
        (&zmq_greeting(), " 400 "),
    ] {
        let answer = status.send(bytes);
        assert!(answer.starts_with("HTTP/1.1") && answer[..14].contains(code), "{answer:?}");
    }
    let mut dice = fastrand::Rng::with_seed(7);
    for _ in 0..300 {
        let mut bytes = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
        for _ in 0..dice.usize(1..9) {
            let place = dice.usize(..bytes.len());
            bytes[place] = dice.u8(..);
        }
        let mut stream = connect(&status.0);
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    assert_eq!(status.get("/healthz").0, 200);
    assert_eq!(Client::req(&service.endpoint).ask_text("abc"), "cba");
}

fn zmq_greeting() -> Vec<u8> {
    common::raw::greeting()
}

#[test]
fn who_sends_no_more_than_its_request_is_answered() {
    let _limit = time_limit(60);
    let (_service, status) = serve(&[]);
    for part in [&b"GET /healthz HTTP/1.1\r\n\r\n"[..], b"GET /healthz HTTP/1.1\r\n", b""] {
        let mut stream = connect(&status.0);
        stream.write_all(part).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer.ends_with("\r\n\r\nok\n"), part.ends_with(b"\r\n\r\n"), "{answer:?}");
    }
}

#[test]
fn what_a_reader_sends_after_its_request_is_dropped_and_not_for_long() {
    let _limit = time_limit(60);
    let (_service, status) = serve(&[]);
    let mut stream = connect(&status.0);
    stream.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
    let (rest, mut sent) = (vec![b'a'; 1 << 20], 0);
    while stream.write_all(&rest).is_ok() {
        sent += 1;
        // What the system keeps for a socket is less.
        assert!(sent < 64, "{sent} MiB were taken");
    }
}

#[test]
fn slow_readers_are_bounded_and_in_nobodys_way() {
    let _limit = time_limit(60);
    let (service, status) = serve(&[]);
    let client = Client::req(&service.endpoint);
    assert_eq!((status.get("/").0, client.ask_text("abc")), (200, "cba".into()));
    let (before, memory) = (service.descriptors(), service.memory());
    let mut slow: Vec<TcpStream> = Vec::new();
    for number in 0..1000 {
        let mut stream = connect(&status.0);
        // Half a request, one whose answer is not read, or much of one.
        let bytes = match number % 3 {
            0 => "GET / HTT".into(),
            1 => "GET / HTTP/1.1\r\n\r\n".into(),
            _ => format!("GET / HTTP/1.1\r\n{}", "x: y\r\n".repeat(1000)),
        };
        let _ = stream.write_all(bytes.as_bytes());
        slow.push(stream);
        if number % 50 == 0 {
            assert_eq!(client.ask_text("abc"), "cba");
            assert_eq!(status.get("/healthz").0, 200);
        }
    }
    assert!(service.descriptors() <= before + 40, "{} of {before}", service.descriptors());
    assert!(service.memory() <= memory + (2 << 20), "{} of {memory}", service.memory());
    status.until("all are counted", |shown| shown["requests"]["total"] == 21);
    // Nobody may be slow for ever.
    let mut half = connect(&status.0);
    half.write_all(b"GET / HTT").unwrap();
    half.set_read_timeout(None).unwrap();
    let _ = half.read_to_end(&mut Vec::new());
}

#[test]
fn repd_status_shows_it_and_its_exit_code_says_whether_it_is_ready() {
    let _limit = time_limit(60);
    let (service, status) = serve(&[]);
    assert_eq!(Client::req(&service.endpoint).ask_text("abc"), "cba");
    status.until("it counts", |shown| shown["replies"]["ok"] == 1);
    let shown = repd(&["status", &status.0], b"");
    let text = String::from_utf8(shown.stdout).unwrap();
    assert_eq!(shown.status.code(), Some(0));
    for part in
        ["serving, since ", &service.endpoint, "workers            5 idle", "requests 1, replies 1"]
    {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    let shown = repd(&["status", "--json", &status.0], b"");
    let json: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!((&json["schema"], &json["state"]), (&json!(1), &json!("serving")));
    let shown = repd(&["status", "--quiet", &status.0], b"");
    assert!(shown.status.success() && shown.stdout.is_empty() && shown.stderr.is_empty());

    let (_unready, unready) = serve(&["--backend", "tcp://127.0.0.1:*"]);
    unready.until("nobody is there", |shown| shown["ready"] == false);
    let shown = repd(&["status", &unready.0], b"");
    let text = String::from_utf8(shown.stdout).unwrap();
    assert_eq!(shown.status.code(), Some(1));
    assert!(text.starts_with("not ready: no worker or upstream is connected, since "), "{text}");
    assert_eq!(repd(&["status", "--quiet", &unready.0], b"").status.code(), Some(1));

    for (endpoint, code) in [
        ("ipc:///nowhere/status", 3),
        (service.endpoint.as_str(), 3),
        ("tcp://*:5555", 2),
        ("udp://x", 2),
    ] {
        let shown = repd(&["status", endpoint], b"");
        let said = String::from_utf8(shown.stderr).unwrap();
        assert_eq!(shown.status.code(), Some(code), "{endpoint}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        let quiet = repd(&["status", "--quiet", endpoint], b"");
        assert_eq!((quiet.status.code(), quiet.stderr.is_empty()), (Some(code), code == 3));
    }
}

#[test]
fn repd_status_reads_no_schema_but_its_own() {
    let _limit = time_limit(60);
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp://{}", other.local_addr().unwrap());
    let answers = std::thread::spawn(move || {
        for body in [r#"{"schema":2,"ready":true}"#, r#"{"ready":true}"#, "{}"] {
            let mut stream = other.accept().unwrap().0;
            let _ = stream.read(&mut [0; 1024]);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all((head + body).as_bytes()).unwrap();
        }
    });
    for why in ["its schema is 2, and this repd reads 1", "shows no status", "shows no status"] {
        let shown = repd(&["status", &endpoint], b"");
        let said = String::from_utf8(shown.stderr).unwrap();
        assert!(shown.status.code() == Some(3) && said.contains(why), "{said}");
    }
    answers.join().unwrap();
    let refused = repd(&["status", "--watch", "--quiet", &endpoint], b"");
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn repd_status_goes_on_watching_also_while_nothing_answers() {
    let _limit = time_limit(60);
    let folder = Folder::new("status-watch");
    let ipc = format!("ipc://{}", folder.file("status"));
    let mut watch = Command::new(REPD);
    watch.args(["status", "--watch", "--json", &ipc]).stdout(Stdio::piped());
    let mut watch = common::Killed(watch.spawn().unwrap());
    let mut lines = std::io::BufReader::new(watch.0.stdout.take().unwrap());
    let mut next = || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut lines, &mut line).unwrap();
        serde_json::from_str::<Value>(&line).unwrap()
    };
    assert!(next()["error"].as_str().unwrap().starts_with("cannot read the status at ipc://"));
    let _service = Process::start(&["--status", &ipc]);
    until("it answers", || next()["state"] == "serving");
}

#[test]
fn who_reads_it_from_elsewhere_is_let_in_by_allow_and_deny() {
    let _limit = time_limit(60);
    let Some(link) = Link::new("status") else { return };
    for (option, is_let_in) in [("--allow 10.78.0.0/16", false), ("--deny 10.78.0.0/16", true)] {
        let options = format!("--listen tcp://127.0.0.1:* --status tcp://0.0.0.0:* {option}");
        let service = link.serve("b", REPD, &options);
        let endpoint = Status::of(&service).0.replace("0.0.0.0", "10.77.0.2");
        let mut reader = link.connect("a", &endpoint);
        // Who is not let in finds the connection closed.
        let _ = reader.0.write_all(b"GET /healthz HTTP/1.0\r\n\r\n");
        let answer = String::from_utf8(reader.rest()).unwrap();
        assert_eq!(answer.starts_with("HTTP/1.1 200 "), is_let_in, "{option}: {answer:?}");
        // This machine itself is, in any case.
        let mut own = link.connect("b", &endpoint.replace("10.77.0.2", "127.0.0.1"));
        own.send(b"GET /healthz HTTP/1.0\r\n\r\n");
        assert!(own.rest().starts_with(b"HTTP/1.1 200 "), "{option}");
    }
}

#[test]
fn each_field_is_documented() {
    let _limit = time_limit(60);
    let (_service, status) = serve(&[]);
    let page = include_str!("../docs/monitoring.md").split("## status.json").nth(1).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let documented: BTreeSet<&str> =
        rows.flat_map(|row| row.trim_end_matches('`').split("`, `")).collect();
    let shown = status.json();
    let told: BTreeSet<&str> = shown.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(documented, told);
}

#[test]
fn the_status_endpoint_is_one_of_its_own() {
    let _limit = time_limit(60);
    let folder = Folder::new("status-endpoint");
    let path = folder.file("status");
    let ipc = format!("ipc://{path}");
    let refused = repd(&["serve", "--listen", &ipc, "--status", &ipc], b"");
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("of this service has it already"), "{said}");
    let mut service = Process::start(&["--status", &ipc]);
    assert_eq!(Status(ipc.clone()).get("/healthz").0, 200);
    let second = repd(&["serve", "--listen", "tcp://127.0.0.1:*", "--status", &ipc], b"");
    assert_eq!(second.status.code(), Some(2));
    service.signal(SIGTERM);
    assert!(service.wait().success());
    assert!(!std::path::Path::new(&path).exists(), "its file is removed");
}

#[test]
fn a_reply_that_its_client_does_not_take_yet_is_not_dropped_and_not_counted_so() {
    let _limit = time_limit(60);
    let (service, status) = serve(&[]);
    // Few may wait at the client and in libzmq, so that the replies pile up at the proxy.
    let client = Client::with(zmq::DEALER, &service.endpoint, |socket| {
        socket.set_rcvhwm(1).unwrap();
        socket.set_rcvbuf(64 << 10).unwrap();
    });
    (0..100).for_each(|_| client.send(&[&vec![b'a'; 256 << 10]]));
    let shown = status.until("all are answered", |shown| shown["replies"]["ok"] == 100);
    assert!(shown["replies"]["unsent_bytes"].as_u64().unwrap() > 1 << 20, "{shown}");
    assert_eq!(status.metrics()["repd_unread_replies_total"], 0.0);
    (0..100).for_each(|_| assert_eq!(client.receive().len(), 1));
    assert_eq!(status.metrics()["repd_unread_replies_total"], 0.0);
}
