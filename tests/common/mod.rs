//! Help for the integration tests: services, clients, time limits.
//!
//! Each wait is for a fact, and has a limit after which the test fails.
#![allow(dead_code)]

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, getsockname, socket as new_socket,
};
use nix::unistd::Pid;

mod client;
mod forwarder;
pub mod keys;
mod link;
mod local;
pub mod names;
mod process;
pub mod raw;
pub mod status;

// No test program uses all of them.
#[allow(unused_imports)]
pub use self::{
    client::{Client, ask_while, ask_while_replying, code},
    forwarder::Forwarder,
    link::Link,
    local::Local,
    process::{Process, handed_over, without_time},
};

/// Time after which a fact that a test waits for counts as missing, on a machine that is busy.
pub const LIMIT: Duration = Duration::from_secs(120);

/// A guard from [`time_limit`].
pub struct TimeLimit(#[allow(unused)] std::sync::mpsc::Sender<()>);

/// Returns a guard: the test run is aborted if it lives longer than ten times `idle_seconds`, the
/// time that the test takes at most on an idle machine.
pub fn time_limit(idle_seconds: u64) -> TimeLimit {
    let seconds = 10 * idle_seconds;
    let (alive, ended) = channel::<()>();
    let test = std::thread::current().name().unwrap_or("a test").to_string();
    spawn(move || {
        if ended.recv_timeout(Duration::from_secs(seconds)) == Err(RecvTimeoutError::Timeout) {
            eprintln!("{test} took longer than {seconds} s");
            std::process::abort();
        }
    });
    TimeLimit(alive)
}

/// Waits until `fact` returns true, and fails after [`LIMIT`].
pub fn until(what: &str, mut fact: impl FnMut() -> bool) {
    let start = Instant::now();
    while !fact() {
        assert!(start.elapsed() < LIMIT, "waited in vain until {what}");
        sleep(Duration::from_millis(1));
    }
}

/// The path of the `repd` that cargo has built.
pub const REPD: &str = env!("CARGO_BIN_EXE_repd");

/// Returns the path of the example `sleepy`, whose requests say how long they take.
pub fn sleepy() -> PathBuf {
    let path = PathBuf::from(REPD).with_file_name("examples").join("sleepy");
    assert!(path.exists(), "build the examples first: cargo build --examples");
    path
}

/// Starts a service in front of what connects to the endpoint that this gives too.
pub fn with_backend(options: &[&str]) -> (Process, String) {
    let options = [&["--backend", "tcp://127.0.0.1:*"], options].concat();
    let service = Process::start(&options);
    let backend = backend_of(&service);
    (service, backend)
}

/// Returns the endpoint that workers connect to.
pub fn backend_of(service: &Process) -> String {
    let line = service.log.iter().find(|line| line.contains("workers connect to ")).unwrap();
    line.split("workers connect to ").nth(1).unwrap().to_string()
}

/// Returns a loopback address that no other test process uses, so that a free port of it stays
/// free.
pub fn own_address() -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() | std::process::id() << 2 & 0xff_ffff)
}

/// Returns an endpoint that refuses connections, and the socket that keeps others from listening
/// there.
pub fn refusing() -> (OwnedFd, String) {
    let socket =
        new_socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
    let address: SockaddrIn = getsockname(socket.as_raw_fd()).unwrap();
    (socket, format!("tcp://{address}"))
}

/// Reports that the test, or a part of it, is skipped.
pub fn skipped(why: &str) {
    // Not `eprintln`: the test harness hides the output of a test that passes.
    let test = std::thread::current();
    let _ = writeln!(std::io::stderr(), "skipped: {}: {why}", test.name().unwrap_or_default());
}

/// Returns true if this machine has IPv6. Otherwise reports that the test is skipped.
pub fn has_ipv6() -> bool {
    let has = TcpListener::bind("[::1]:0").is_ok();
    if !has {
        skipped("there is no IPv6");
    }
    has
}

/// A temporary folder, removed when dropped.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("repd-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// Returns the path of a file in the folder.
    pub fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs repd with that folder at `place`, in a mount namespace of its own. If there is none to be had,
/// reports that the test is skipped.
pub fn with_folder(folder: &Folder, place: &str, arguments: &[&str]) -> Option<Command> {
    let run = |program: &[&str]| {
        let mut command = Command::new("unshare");
        let shell = "mount --bind \"$0\" \"$1\" && shift && exec \"$@\"";
        command.args(["--map-root-user", "--mount", "sh", "-c", shell]).arg(&folder.0).arg(place);
        command.args(program);
        command
    };
    if !run(&["true"]).output().is_ok_and(|run| run.status.success()) {
        skipped("no mount namespace can be had");
        return None;
    }
    Some(run(&[&[REPD], arguments].concat()))
}

/// Returns a Python that has pyzmq. If there is none, reports that the test is skipped; in CI it
/// fails.
pub fn python_with_pyzmq() -> Option<&'static str> {
    let has_pyzmq = |python: &&str| {
        let import = Command::new(python).args(["-c", "import zmq"]).output();
        import.is_ok_and(|output| output.status.success())
    };
    let python = ["python3", "/usr/bin/python3"].into_iter().find(has_pyzmq);
    if python.is_none() {
        assert!(std::env::var_os("CI").is_none(), "install pyzmq");
        skipped("there is no python3 with pyzmq");
    }
    python
}

/// Returns the command lines of the processes with `variable` (`NAME=value`) in their environment.
pub fn processes_with(variable: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let path = entry.ok()?.path();
        let environment = std::fs::read(path.join("environ")).ok()?;
        let has_it = environment.split(|byte| *byte == 0).any(|pair| pair == variable.as_bytes());
        has_it.then(|| std::fs::read_to_string(path.join("cmdline")).unwrap_or_default())
    });
    processes.collect()
}

/// Runs `repd` with these arguments and standard input, and returns its output when it has ended.
pub fn repd(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(REPD)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let (done, output) = channel();
    let id = child.id();
    spawn(move || done.send(child.wait_with_output()));
    output.recv_timeout(LIMIT).map(Result::unwrap).unwrap_or_else(|_| {
        kill(Pid::from_raw(id as i32), Signal::SIGKILL).unwrap();
        panic!("repd {arguments:?} did not end");
    })
}

/// A process, killed when dropped.
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
