//! The workers of `examples/workers`, one in each language: they count words, and end without loss.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Child, Command};

use common::{
    Client, Folder, Killed, LIMIT, Process, ask_while_replying, skipped, time_limit, until,
    with_backend,
};
use nix::sys::signal::Signal::{self, SIGCONT, SIGSTOP, SIGTERM};
use nix::sys::signal::kill;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// Debian's JeroMQ.
const JEROMQ: &str = "/usr/share/java/jeromq.jar";

fn example(name: &str) -> String {
    let path = format!("{}/examples/workers/{name}", env!("CARGO_MANIFEST_DIR"));
    assert!(fs::read_to_string(&path).unwrap().lines().count() <= 45, "{path} is long");
    path
}

fn started(worker: &[&str], backend: &str) -> Killed {
    let child = Command::new(worker[0]).args(&worker[1..]).arg(backend).spawn();
    Killed(child.unwrap())
}

fn connected(worker: &[&str], service: &mut Process, backend: &str) -> Killed {
    let worker = started(worker, backend);
    service.wait_for_line(": connected");
    worker
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id() as i32)
}

fn signal(child: &Child, signal: Signal) {
    kill(pid(child), signal).unwrap();
}

fn assert_ends(worker: Killed) {
    signal(&worker.0, SIGTERM);
    assert_has_ended(worker);
}

/// A second signal might come when the language's own end has begun.
fn assert_has_ended(mut worker: Killed) {
    assert_eq!(worker.0.wait().unwrap().code(), Some(0));
}

/// Returns how many bytes wait unread in the connections to that port.
fn unread_bytes(port: &str) -> usize {
    let port = format!(":{:04X}", port.parse::<u16>().unwrap());
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    let lines = tables.iter().flatten().flat_map(|table| table.lines().skip(1));
    let unread = lines.filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, unread) = fields[4].split_once(':')?;
        fields[2].ends_with(&port).then(|| usize::from_str_radix(unread, 16).unwrap())
    });
    unread.sum()
}

/// Holds a worker to what each of them does.
fn hold(worker: &[&str]) {
    counts_words(worker);
    answers_what_it_was_sent_before_it_ends(worker);
    loses_nothing_under_load_with_retries(worker);
}

fn counts_words(worker: &[&str]) {
    let (mut service, backend) = with_backend(&[]);
    let worker = connected(worker, &mut service, &backend);
    for client in [Client::req(&service.endpoint), Client::dealer(&service.endpoint)] {
        for (frames, words) in [(&["one two three"][..], "3"), (&[""], "0"), (&["a  b", "c"], "3")]
        {
            let frames: Vec<&[u8]> = frames.iter().map(|frame| frame.as_bytes()).collect();
            assert_eq!(client.ask(&frames), [words.as_bytes()], "{frames:?}");
        }
    }
    assert_ends(worker);
    service.wait_for_line("has gone");
}

/// As many as repd has a quick one have at once. It finds them and the signal together.
fn answers_what_it_was_sent_before_it_ends(worker: &[&str]) {
    const REQUESTS: usize = 8;
    let service = zmq::Context::new().socket(zmq::DEALER).unwrap();
    service.set_rcvtimeo(LIMIT.as_millis() as i32).unwrap();
    service.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = service.get_last_endpoint().unwrap().unwrap();
    let worker = started(worker, &endpoint);
    let ask = |count| (0..count).for_each(|_| service.send_multipart(["", "a b"], 0).unwrap());
    let answer = || assert_eq!(service.recv_multipart(0).unwrap(), [&b""[..], b"2"]);
    ask(1);
    answer();
    signal(&worker.0, SIGSTOP);
    waitpid(pid(&worker.0), Some(WaitPidFlag::WUNTRACED)).unwrap();
    ask(REQUESTS);
    // Each has two frames, each with two bytes before it.
    let bytes = REQUESTS * (2 + 2 + "a b".len());
    until("they are there", || unread_bytes(endpoint.rsplit(':').next().unwrap()) == bytes);
    signal(&worker.0, SIGTERM);
    signal(&worker.0, SIGCONT);
    (0..REQUESTS).for_each(|_| answer());
    assert_has_ended(worker);
}

fn loses_nothing_under_load_with_retries(worker: &[&str]) {
    let (mut service, backend) = with_backend(&["--timeout", "600", "--retries", "1"]);
    let mut workers: Vec<_> = (0..3).map(|_| connected(worker, &mut service, &backend)).collect();
    let words = |text: &str| text.split_whitespace().count().to_string();
    let endpoint = service.endpoint.clone();
    ask_while_replying(&endpoint, 20, &[], words, |go_on| {
        for _ in 0..6 {
            assert_ends(workers.remove(0));
            service.wait_for_line("has gone");
            go_on("the others answer");
            workers.push(connected(worker, &mut service, &backend));
        }
    });
}

#[test]
fn the_worker_in_python_counts_words_and_ends_without_loss() {
    let _limit = time_limit(60);
    let Some(python) = common::python_with_pyzmq() else { return };
    hold(&[python, &example("worker.py")]);
}

#[test]
fn the_worker_in_c_counts_words_and_ends_without_loss() {
    let _limit = time_limit(60);
    let folder = Folder::new("workers-c");
    let (binary, source) = (folder.file("worker"), example("worker.c"));
    let built = Command::new("cc").args(["-O2", "-o", &binary, &source, "-lzmq"]).output();
    if !built.is_ok_and(|built| built.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "install a C compiler and libzmq3-dev");
        skipped("there is no C compiler, or no libzmq");
        return;
    }
    hold(&[&binary]);
}

#[test]
fn the_worker_in_javascript_counts_words_and_ends_without_loss() {
    let _limit = time_limit(60);
    let has_it = Command::new("node").args(["-e", "require('zeromq')"]).output();
    if !has_it.is_ok_and(|run| run.status.success()) {
        skipped(
            "there is no node with zeromq: npm install zeromq@6, NODE_PATH=FOLDER/node_modules",
        );
        return;
    }
    hold(&["node", &example("worker.js")]);
}

#[test]
fn the_worker_in_java_counts_words_and_ends_without_loss() {
    let _limit = time_limit(120);
    let version = Command::new("javac").arg("-version").output();
    let has_java = version.is_ok_and(|version| version.status.success());
    if !has_java || !Path::new(JEROMQ).exists() {
        skipped("there is no Java compiler, or no libjeromq-java");
        return;
    }
    hold(&["java", "-cp", JEROMQ, &example("Worker.java")]);
}

/// Built in a folder of its own, so that another time it is there.
#[test]
fn the_worker_in_rust_counts_words_and_ends_without_loss() {
    let _limit = time_limit(300);
    let target = Path::new(common::REPD).parent().unwrap().join("workers");
    example("rust/src/main.rs");
    let manifest = example("rust/Cargo.toml");
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--quiet", "--offline", "--manifest-path", &manifest, "--target-dir"]);
    if !cargo.arg(&target).output().is_ok_and(|built| built.status.success()) {
        skipped(
            "its crates are not there: cargo fetch --manifest-path examples/workers/rust/Cargo.toml",
        );
        return;
    }
    hold(&[target.join("debug/worker").to_str().unwrap()]);
}
