//! A fuzzer of the service's ports: thousands of peers that speak ZMTP wrongly, and beside them a
//! few clients that do nothing wrong and get each of their replies.
//!
//!     REPD_FUZZ_CONNECTIONS=1000000 cargo test --test fuzz   # instead of 20,000, over all ports
//!     REPD_FUZZ_SEED=1 cargo test --test fuzz                # what failed with that seed, again

#[path = "../common/mod.rs"]
mod common;
mod player;
mod script;

use std::io::{Write, stderr};
use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{scope, sleep, spawn};
use std::time::{Duration, Instant};

use common::{Client, LIMIT, Process, time_limit, until};
use nix::sys::signal::Signal;
use player::Player;
use script::{Front, INNOCENT, script};

/// How many connections are played at a time.
const PLAYERS: u8 = 8;

/// How many connections there are, of all tests here together.
const CONNECTIONS: u64 = 20_000;
const TESTS: u64 = 3;

#[test]
fn a_service_with_workers_outlives_hostile_clients() {
    let service = Process::start(&["--handler", "echo", "--workers", "5"]);
    let port = service.endpoint.clone();
    fuzz(service, &port, Front::Client);
}

#[test]
fn a_single_threaded_service_outlives_hostile_clients() {
    let service = Process::start(&["--handler", "echo", "--workers", "0"]);
    let port = service.endpoint.clone();
    fuzz(service, &port, Front::Client);
}

#[test]
fn a_service_outlives_hostile_workers() {
    // They are given requests like any other, and most never answer.
    let mut service = Process::start(&["--backend", "tcp://127.0.0.1:*", "--timeout", "0.05"]);
    let line = service.log.iter().find(|line| line.contains("workers connect to ")).unwrap();
    let port = line.split("workers connect to ").nth(1).unwrap().to_string();
    for _ in 0..2 {
        start_worker(&port);
        service.wait_for_line(": connected");
    }
    fuzz(service, &port, Front::Worker);
}

/// Starts an honest worker, which answers each request with itself for as long as this process
/// runs.
fn start_worker(endpoint: &str) {
    let socket = zmq::Context::new().socket(zmq::REP).unwrap();
    socket.connect(endpoint).unwrap();
    spawn(move || while socket.recv_bytes(0).and_then(|body| socket.send(body, 0)).is_ok() {});
}

/// What the threads of one test have in common.
struct Run {
    seed: u64,
    connections: u64,
    front: Front,
    endpoint: String,
    /// How many connections were begun.
    begun: AtomicU64,
    /// How many requests the innocent clients sent.
    asked: AtomicU64,
    is_over: AtomicBool,
    /// What was wrong first.
    failure: Mutex<Option<String>>,
}

impl Run {
    fn new(endpoint: &str, front: Front) -> Run {
        Run {
            seed: number("REPD_FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..)),
            connections: number("REPD_FUZZ_CONNECTIONS").unwrap_or(CONNECTIONS) / TESTS,
            front,
            endpoint: endpoint.into(),
            begun: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            failure: Mutex::new(None),
        }
    }

    fn fail(&self, what: String) {
        self.failure.lock().unwrap().get_or_insert(what);
        self.is_over.store(true, Ordering::Relaxed);
    }

    fn has_failed(&self) -> bool {
        self.failure.lock().unwrap().is_some()
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

/// Fuzzes that port of the service, and sees that the service is as good as before.
fn fuzz(mut service: Process, port: &str, front: Front) {
    let run = Run::new(&service.endpoint, front);
    let _limit = time_limit(110 + run.connections / 100);
    // Past the harness, which keeps the output of a test that ends the process.
    let _ = writeln!(stderr(), "REPD_FUZZ_SEED={}: {} connections", run.seed, run.connections);
    serves(&run.endpoint);
    let before = descriptors(&service);
    play_all(&run, &mut service, port);
    if let Some(failure) = run.failure.lock().unwrap().take() {
        // Its last words.
        sleep(Duration::from_millis(500));
        let (begun, ended) = (run.begun.into_inner(), service.try_wait());
        let Process { log, .. } = &service;
        panic!("{failure}, after {begun} connections of seed {}; {ended:?}, {log:#?}", run.seed);
    }
    until("it has no descriptor more than before", || descriptors(&service) <= before);
    serves(&run.endpoint);
    service.signal(Signal::SIGTERM);
    assert_eq!(service.wait().code(), Some(0), "{:#?}", service.log);
    let log = service.rest_of_log();
    assert!(!log.contains("panicked"), "{log}");
    // Some of the players' requests are valid, and get as far as anybody's.
    let counted = log.split("requests: ").last().unwrap().split(',').next().unwrap();
    let asked = run.asked.into_inner();
    println!("{log}\nof these requests {asked} were the innocent clients'");
    assert!(
        front == Front::Worker || counted.parse::<u64>().unwrap() > asked + run.connections / 4
    );
}

/// Plays all scripts at `port`, while innocent clients ask the service.
fn play_all(run: &Run, service: &mut Process, port: &str) {
    // Connected before anybody else can take the name.
    let staying = [("unnamed", ""), ("named", INNOCENT)].map(|(name, routing_id)| {
        let client = connect(run, routing_id);
        ask(run, &client, name, 0).unwrap();
        (name, client)
    });
    let note = |asked: Asked| asked.unwrap_or_else(|what| run.fail(what));
    scope(|threads| {
        for (name, client) in staying {
            threads.spawn(move || note(stay(run, name, &client)));
        }
        threads.spawn(|| note(come_and_go(run)));
        let players = (1..=PLAYERS).map(|number| {
            let player = Player::new(port, Ipv4Addr::new(127, 0, 0, number));
            threads.spawn(move || play(run, player))
        });
        let players: Vec<_> = players.collect();
        while !run.is_over() {
            if players.iter().all(|player| player.is_finished()) {
                run.is_over.store(true, Ordering::Relaxed);
            }
            if let Some(status) = service.try_wait() {
                run.fail(format!("the service ended: {status}"));
            }
            // What it says of a million connections is not kept.
            let old = service.log.len().saturating_sub(20);
            service.log.drain(..old);
            sleep(Duration::from_millis(10));
        }
    });
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

/// Counts the open sockets, pipes and event counters. A file may be the log of a sanitizer.
fn descriptors(service: &Process) -> usize {
    let open = std::fs::read_dir(format!("/proc/{}/fd", service.pid())).unwrap();
    let targets = open.filter_map(|entry| entry.ok()?.path().read_link().ok());
    targets.filter(|target| target.is_relative()).count()
}

/// Waits until the service answers as it should, without fail.
fn serves(endpoint: &str) {
    let client = Client::req(endpoint);
    until("all requests are answered", || (0..50).all(|_| client.ask(&[b"ab"]) == [b"ab"]));
}

fn play(run: &Run, mut player: Player) {
    while !run.is_over() {
        let number = run.begun.fetch_add(1, Ordering::Relaxed);
        if number >= run.connections {
            return;
        }
        if let Err(what) = player.play(script(run.seed, number, run.front)) {
            run.fail(format!("connection {number}: {what}"));
        }
    }
}

/// What was wrong with a reply, if anything was.
type Asked = Result<(), String>;

/// Asks over one connection for as long as the test runs.
fn stay(run: &Run, name: &str, client: &Client) -> Asked {
    (1..).take_while(|_| !run.is_over()).try_for_each(|number| ask(run, client, name, number))
}

/// Asks over one connection after the other.
fn come_and_go(run: &Run) -> Asked {
    while !run.is_over() {
        let client = connect(run, "");
        (0..20).try_for_each(|number| ask(run, &client, "passing", number))?;
    }
    Ok(())
}

fn connect(run: &Run, routing_id: &str) -> Client {
    Client::with(zmq::REQ, &run.endpoint, |socket| {
        socket.set_rcvtimeo(500).unwrap();
        if !routing_id.is_empty() {
            socket.set_identity(routing_id.as_bytes()).unwrap();
        }
    })
}

/// Asks once, and verifies the reply. Where some workers lie, only what nobody but an honest one
/// says is known to be wrong: the reply to another request.
fn ask(run: &Run, client: &Client, name: &str, number: u64) -> Asked {
    let text = format!("{INNOCENT}, {name}, {number}");
    run.asked.fetch_add(1, Ordering::Relaxed);
    client.send(&[text.as_bytes()]);
    let start = Instant::now();
    loop {
        let Some(reply) = client.receive_in_time() else {
            if run.has_failed() {
                return Err("this client was given up, since something else is wrong".into());
            }
            if start.elapsed() > LIMIT {
                return Err(format!("no reply to {text:?}"));
            }
            continue;
        };
        let is_good = match run.front {
            _ if reply == [text.as_bytes()] => true,
            Front::Client => false,
            Front::Worker => !reply.concat().starts_with(INNOCENT.as_bytes()),
        };
        return is_good.then_some(()).ok_or_else(|| format!("the reply to {text:?} is {reply:?}"));
    }
}
