//! With keys and a handler of its own, `repd serve` gives up what it does not need.

mod common;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::symlink;
use std::process::Command;

use common::keys::Keys;
use common::{Client, Killed, Process, REPD, repd, skipped, time_limit};
use nix::pty::openpty;
use nix::sys::signal::Signal::{SIGHUP, SIGTERM};

/// Returns true if the service, which is run with `--verbose`, has said that it is confined.
/// Otherwise reports that the test is skipped.
fn is_confined(service: &Process) -> bool {
    let says = |text: &str| service.log.iter().any(|line| line.contains(text));
    assert!(says("Landlock: only what is needed") || says("no Landlock"), "{:?}", service.log);
    if says("no Landlock") {
        skipped("this system has no Landlock");
    }
    !says("no Landlock")
}

/// Has `path` lead to that file, and the service read its lists again; returns what it says.
fn lead_to(service: &mut Process, path: &str, file: &str) -> String {
    fs::remove_file(path).unwrap();
    symlink(file, path).unwrap();
    service.signal(SIGHUP);
    service.wait_for_line("the lists")
}

#[test]
fn it_reads_its_lists_where_they_are_and_nothing_elsewhere() {
    let _limit = time_limit(60);
    let (keys, elsewhere) = (Keys::new("confined"), Keys::new("elsewhere"));
    let backend = ["--backend", "tcp://127.0.0.1:*", "--backend-clients", &keys.path("workers")];
    let (beside, key) = (keys.path("beside"), keys.path("service.key_secret"));
    let (clients, other) = (keys.path("clients"), elsewhere.path("clients"));
    for options in [&["--workers", "1"][..], &["--workers", "0", "--handler", "echo"], &backend] {
        let list = format!("pump-7 {}\n", keys.public("pump-7"));
        let _ = fs::remove_file(&clients);
        for name in ["clients", "workers", "beside"] {
            keys.write(name, &list);
        }
        let mut service = keys.serve(&[options, &["--verbose"]].concat());
        if !is_confined(&service) {
            return;
        }
        let said = lead_to(&mut service, &clients, &other);
        assert!(said.contains("Permission denied") && said.contains("as they were"), "{said}");
        assert!(said.contains("start repd again"), "{said}");
        assert!(lead_to(&mut service, &clients, &beside).contains("read the lists again: clients"));
        service.signal(SIGTERM);
        assert_eq!(service.wait().code(), Some(0));
    }
    // What a program or a handler of somebody else's needs is not known.
    let files = ["--key", &key, "--clients", &clients];
    let program = ["--framing", "lines", "--", "cat"];
    let mut with_program = keys.serve(&program);
    assert!(lead_to(&mut with_program, &clients, &other).contains("read the lists again"));
    assert!(lead_to(&mut with_program, &clients, &beside).contains("read the lists again"));
    let mut with_handler = Process::sleepy(&files);
    assert!(lead_to(&mut with_handler, &clients, &other).contains("read the lists again"));
}

#[test]
fn its_sockets_are_made_and_removed() {
    let _limit = time_limit(60);
    let keys = Keys::new("confined-ipc");
    let [listen, backend] = ["listen", "backend"].map(|name| keys.path(name));
    let endpoints = [&listen, &backend].map(|path| format!("ipc://{path}"));
    let options = ["--listen", &endpoints[0], "--backend", &endpoints[1], "--verbose"];
    let mut first = keys.serve(&options);
    is_confined(&first);
    // What the first has left behind is replaced.
    first.signal(nix::sys::signal::Signal::SIGKILL);
    first.wait();
    let mut service = keys.serve(&options);
    let worker = Client::new(zmq::REP, &endpoints[1]);
    let client = Client::req(&endpoints[0]);
    client.send(&[b"abc"]);
    assert_eq!(worker.receive(), [b"abc"]);
    service.signal(SIGTERM);
    drop(worker);
    service.wait();
    assert!(!fs::exists(&listen).unwrap() && !fs::exists(&backend).unwrap());
}

#[test]
fn it_finds_its_upstreams_by_name() {
    let _limit = time_limit(60);
    let keys = Keys::new("confined-name");
    let hosts = keys.write("hosts", "127.0.0.1 repd.example\n");
    let back = keys.serve(&["--verbose"]);
    is_confined(&back);
    let upstream = back.endpoint.replace("127.0.0.1", "repd.example");
    let servers = keys.write("servers", &format!("{upstream} {}\n", keys.public("service")));
    let with_hosts = |program: &[&str]| {
        let mut command = Command::new("unshare");
        let shell = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
        command.args(["--map-root-user", "--mount", "sh", "-c", shell, &hosts]).args(program);
        command
    };
    if !with_hosts(&["true"]).output().is_ok_and(|run| run.status.success()) {
        skipped("no namespace can be had with hosts of its own");
        return;
    }
    let (key, clients) = (keys.path("pump-7.key_secret"), keys.path("clients"));
    let mut front = Process::run(
        with_hosts(&[REPD, "serve", "--listen", "tcp://127.0.0.1:*", "--key", &key, "--verbose"])
            .args(["--clients", &clients, "--servers", &servers, "--upstream", &upstream]),
    );
    is_confined(&front);
    front.wait_for_line("connected");
    let call = ["call", &front.endpoint, "--server-key", &keys.public("pump-7"), "--key", &key];
    assert_eq!(repd(&[&call[..], &["hello"]].concat(), b"").stdout, b"olleh\n");
}

#[test]
fn it_writes_its_log_to_a_terminal() {
    let _limit = time_limit(60);
    let keys = Keys::new("confined-terminal");
    let terminal = openpty(None, None).unwrap();
    let mut service = Command::new(REPD)
        .args(["serve", "--listen", "tcp://127.0.0.1:*", "--verbose"])
        .args(["--key", &keys.path("service.key_secret"), "--clients", &keys.path("clients")])
        .stderr(terminal.slave)
        .spawn()
        .map(Killed)
        .unwrap();
    let (mut terminal, mut log) = (File::from(terminal.master), Vec::new());
    while !String::from_utf8_lossy(&log).contains("listening on tcp://127.0.0.1:") {
        let mut part = [0; 1024];
        let length = terminal.read(&mut part).unwrap();
        log.extend(&part[..length]);
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(service.0.id() as i32), SIGTERM).unwrap();
    assert!(service.0.wait().unwrap().success());
}
