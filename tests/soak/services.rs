//! What is started: a service for each way to answer requests.

use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};

use nix::sys::signal::Signal::SIGTERM;

use super::account::Account;
use super::common::keys::Keys;
use super::common::status::Status;
use super::common::{Process, REPD, handed_over, own_address, until};
use super::counters::Counters;
use super::figures::{MIB, Sample};
use super::run::Run;
use super::workers::Workers;

/// Answers packets, and does what the first byte of a request says.
const PROGRAM: &str = r#"
import os, struct, sys, time
while head := sys.stdin.buffer.read(4):
    body = sys.stdin.buffer.read(*struct.unpack(">I", head))
    if body[:1] == b"d": os._exit(3)
    if body[:1] == b"h": time.sleep(3600)
    if body[:1] == b"s": time.sleep(0.05)
    if body[:1] == b"b": head = b"\xff\xff\xff\xff"
    sys.stdout.buffer.write(head + body)
    sys.stdout.buffer.flush()
"#;

/// A service that lives as long as the soak.
pub struct Service {
    pub name: &'static str,
    pub endpoint: String,
    pub status: Status,
    pub account: Account,
    /// Others than the clients of the account ask it as well.
    pub has_strangers: bool,
    /// What it has open before any client has come.
    descriptors: u64,
    samples: Mutex<Vec<Sample>>,
    process: Mutex<Process>,
}

impl Service {
    /// Takes up a service that is ready.
    fn new(name: &'static str, process: Process) -> Service {
        let status = Status::of(&process);
        until("nobody is connected", || process.connections().is_empty());
        Service {
            name,
            endpoint: process.endpoint.clone(),
            descriptors: descriptors(&status),
            status,
            account: Account::default(),
            has_strangers: false,
            samples: Mutex::default(),
            process: Mutex::new(process),
        }
    }

    pub fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap()
    }

    /// Takes a sample, and fails if the service has ended.
    pub fn look(&self, run: &Run) {
        let mut process = self.process();
        if let Some(status) = process.try_wait() {
            panic!("the service ended: {status}; its log is {:?}", process.log);
        }
        // What it says in an hour is not kept.
        let old = process.log.len().saturating_sub(50);
        process.log.drain(..old);
        let (memory, descriptors) = (process.memory(), descriptors(&self.status));
        self.samples.lock().unwrap().push(Sample { at: run.elapsed(), memory, descriptors });
    }

    /// Returns its name and the memory of the last sample, in MiB.
    pub fn memory(&self) -> String {
        let last = self.samples.lock().unwrap().last().map_or(0, |sample| sample.memory);
        format!("{} {:.1}", self.name, last as f64 / MIB)
    }

    pub fn samples(&self) -> Vec<Sample> {
        self.samples.lock().unwrap().clone()
    }

    /// Ends the service, whose clients have left, and returns what it says that it has done.
    pub fn end(&self) -> Counters {
        let mut process = self.process();
        until("it has no descriptor more than before", || {
            descriptors(&self.status) <= self.descriptors
        });
        stop(&mut process)
    }
}

/// Returns how many descriptors a service has open, as it says itself: of one with keys, the system
/// tells no ordinary user.
fn descriptors(status: &Status) -> u64 {
    status.json()["limits"]["open_files"].as_u64().expect("a number")
}

/// Stops a service, which must succeed, and returns what it says that it has done.
fn stop(process: &mut Process) -> Counters {
    process.signal(SIGTERM);
    let status = process.wait();
    assert_eq!(status.code(), Some(0), "{:?}", process.log);
    let last = process.log.last().and_then(|line| Counters::of_line(line));
    last.unwrap_or_else(|| panic!("the last line is another: {:?}", process.log))
}

fn start(name: &'static str, options: &[&str]) -> Service {
    Service::new(name, Process::start(&[&["--status", "tcp://127.0.0.1:*"], options].concat()))
}

/// A service whose clients have keys, in lists that change.
pub fn with_keys(keys: &Keys) -> Service {
    let options = ["--status", "tcp://127.0.0.1:*", "--handler", "echo"];
    Service::new("keys", keys.serve(&options))
}

/// A service that anybody may ask.
pub fn open() -> Service {
    Service { has_strangers: true, ..start("open", &["--handler", "echo"]) }
}

/// A service with a program, of which there are three copies. One that hangs is ended after ten
/// seconds.
pub fn with_program() -> Service {
    start("program", &["--workers", "3", "--timeout", "10", "--", "python3", "-c", PROGRAM])
}

/// A service with external workers, two of which stay.
pub fn with_backend() -> (Service, Arc<Workers>) {
    let options = ["--status", "tcp://127.0.0.1:*", "--backend", "tcp://127.0.0.1:*"];
    let mut process = Process::start(&options);
    let line = process.log.iter().find_map(|line| line.split("workers connect to ").nth(1));
    let workers = Arc::new(Workers::new(line.expect("a line of the log").into()));
    for _ in 0..2 {
        workers.start();
        process.wait_for_line(": connected");
    }
    (Service::new("backend", process), workers)
}

/// A service in front of others.
pub fn with_upstreams() -> (Service, Upstreams) {
    let address = own_address();
    let endpoints = [5601, 5602, 5603].map(|port| format!("tcp://{address}:{port}"));
    let upstreams = Upstreams { processes: endpoints.each_ref().map(|it| upstream(it)), endpoints };
    let upstream = upstreams.endpoints.iter().flat_map(|it| ["--upstream", it]);
    let options = ["--retries", "1", "--hedge", "--status", "tcp://127.0.0.1:*"];
    let mut process = Process::start(&options.into_iter().chain(upstream).collect::<Vec<_>>());
    (0..3).for_each(|_| drop(process.wait_for_line(": connected")));
    (Service::new("front", process), upstreams)
}

/// Services that another one forwards to.
pub struct Upstreams {
    pub processes: [Process; 3],
    pub endpoints: [String; 3],
}

impl Upstreams {
    /// Starts that one again, at its endpoint.
    pub fn start(&mut self, host: usize) {
        self.processes[host] = upstream(&self.endpoints[host]);
    }
}

fn upstream(endpoint: &str) -> Process {
    Process::run(Command::new(REPD).args(["serve", "--handler", "echo", "--listen", endpoint]))
}

/// A service that is started again and again, at a socket that stays.
pub struct Restarted {
    pub endpoint: String,
    pub account: Account,
    listener: TcpListener,
    process: Mutex<Process>,
    /// What those that have ended say that they have done.
    counters: Mutex<Counters>,
}

impl Restarted {
    pub fn start() -> Restarted {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let process = Mutex::new(serve_at(&listener));
        let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
        let (account, counters) = Default::default();
        Restarted { endpoint, account, listener, process, counters }
    }

    /// Ends the service and starts it again.
    pub fn restart(&self) {
        self.end();
        *self.process.lock().unwrap() = serve_at(&self.listener);
    }

    /// Ends the service, and returns what it says that it has done since the beginning.
    pub fn end(&self) -> Counters {
        let mut counters = self.counters.lock().unwrap();
        counters.add(&stop(&mut self.process.lock().unwrap()));
        counters.clone()
    }
}

fn serve_at(listener: &TcpListener) -> Process {
    let socket = listener.try_clone().unwrap().into();
    let options = ["--listen", "fd://clients", "--handler", "echo"];
    Process::run(&mut handed_over([Some(socket), None], "clients", &options))
}
