//! What the tests share: a service in a process or a thread of its own, clients, and limits of time.
//! Every wait here is for a fact and has a limit, after which the test fails.
#![allow(dead_code)]

use std::fs::File;
use std::io::{BufRead, BufReader, PipeWriter, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::os::unix::thread::JoinHandleExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{JoinHandle, scope, sleep, spawn};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal::{self, SIGHUP, SIGINT, SIGTERM};
use nix::sys::signal::kill;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, getsockname, socket as new_socket,
};
use nix::unistd::{Pid, geteuid};
use repd::{Config, Error, Fault, Frame, Handler, Service};

pub mod raw;

use raw::Raw;

/// How long any single fact may be waited for, on a machine that has much else to do.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Ends the test run if the test that holds this takes ten times as long as it may on an idle machine.
pub struct TimeLimit(#[allow(unused)] std::sync::mpsc::Sender<()>);

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

/// Waits until `fact` holds.
pub fn until(what: &str, mut fact: impl FnMut() -> bool) {
    let start = Instant::now();
    while !fact() {
        assert!(start.elapsed() < LIMIT, "waited in vain until {what}");
        sleep(Duration::from_millis(1));
    }
}

/// The repd that cargo has built.
pub const REPD: &str = env!("CARGO_BIN_EXE_repd");

/// The example `sleepy`, whose requests say how long they take.
pub fn sleepy() -> PathBuf {
    let path = PathBuf::from(REPD).with_file_name("examples").join("sleepy");
    assert!(path.exists(), "build the examples first: cargo build --examples");
    path
}

/// A loopback address that no other process uses, so that nobody else takes a port of it that is free.
pub fn own_address() -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() | std::process::id() << 2 & 0xff_ffff)
}

/// An endpoint that refuses connections, as nobody listens there and nobody else can as long as the socket
/// is held.
pub fn refusing() -> (OwnedFd, String) {
    let socket =
        new_socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
    let address: SockaddrIn = getsockname(socket.as_raw_fd()).unwrap();
    (socket, format!("tcp://{address}"))
}

/// Says that the test is skipped, or a part of it, and why: past what keeps the output of a test that passes.
pub fn skipped(why: &str) {
    let test = std::thread::current();
    let _ = writeln!(std::io::stderr(), "skipped: {}: {why}", test.name().unwrap_or_default());
}

/// Whether this machine has IPv6. Without it a test is skipped, or what is about it, with a word.
pub fn has_ipv6() -> bool {
    let has = TcpListener::bind("[::1]:0").is_ok();
    if !has {
        skipped("there is no IPv6");
    }
    has
}

/// A folder of the test's own, removed when dropped.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("repd-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A Python that has pyzmq. Without one a test is skipped with a word; in CI it fails.
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

/// The processes that were started with this in their environment.
pub fn processes_with(variable: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let path = entry.ok()?.path();
        let environment = std::fs::read(path.join("environ")).ok()?;
        let has_it = environment.split(|byte| *byte == 0).any(|pair| pair == variable.as_bytes());
        has_it.then(|| std::fs::read_to_string(path.join("cmdline")).unwrap_or_default())
    });
    processes.collect()
}

/// Runs `repd` with these arguments and that input to its end.
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

/// A service in a process of its own, killed when dropped.
pub struct Process {
    child: Child,
    lines: Receiver<String>,
    pub log: Vec<String>,
    pub endpoint: String,
}

impl Process {
    /// `repd serve` on a free port of the loopback interface.
    pub fn start(options: &[&str]) -> Process {
        Process::run(
            Command::new(REPD).args(["serve", "--listen", "tcp://127.0.0.1:*"]).args(options),
        )
    }

    /// The example `sleepy` likewise.
    pub fn sleepy(options: &[&str]) -> Process {
        Process::run(
            Command::new(sleepy()).args(["serve", "--listen", "tcp://127.0.0.1:*"]).args(options),
        )
    }

    /// `repd serve` likewise, which may have that many files open.
    pub fn limited(files: u32, options: &[&str]) -> Process {
        let limited = format!("ulimit -n {files}; exec \"$0\" \"$@\"");
        let serve = [REPD, "serve", "--listen", "tcp://127.0.0.1:*"];
        Process::run(Command::new("sh").args(["-c", &limited]).args(serve).args(options))
    }

    pub fn run(command: &mut Command) -> Process {
        let mut child = command.stderr(Stdio::piped()).process_group(0).spawn().unwrap();
        let (send, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        let mut process = Process { child, lines, log: Vec::new(), endpoint: String::new() };
        let line = process.wait_for_line("listening on ");
        process.endpoint = line.split("listening on ").nth(1).unwrap().to_string();
        process
    }

    /// The first line of the log from here on that has `text` in it.
    pub fn wait_for_line(&mut self, text: &str) -> String {
        loop {
            match self.lines.recv_timeout(LIMIT) {
                Ok(line) => {
                    self.log.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(error) => panic!("no line with {text:?}: {error}; the log is {:#?}", self.log),
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).unwrap();
    }

    /// Stops all its threads where they are, until a SIGCONT.
    pub fn halt(&self) {
        self.signal(Signal::SIGSTOP);
        until("all its threads stand still", || {
            let mut tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
            tasks.all(|task| {
                let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
                stat.rsplit(") ").next().unwrap().starts_with('T')
            })
        });
    }

    /// Waits until the process has ended by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.log.extend(self.lines.try_iter());
                return status;
            }
            assert!(start.elapsed() < LIMIT, "the service did not end; its log is {:#?}", self.log);
            sleep(Duration::from_millis(1));
        }
    }

    /// Returns how the process has ended, if it has, and adds to the log what it has said so far.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.log.extend(self.lines.try_iter());
        self.child.try_wait().unwrap()
    }

    /// The whole log, once the process has ended.
    pub fn rest_of_log(&mut self) -> String {
        while let Ok(line) = self.lines.recv_timeout(LIMIT) {
            self.log.push(line);
        }
        self.log.join("\n")
    }

    /// Whether a SIGTERM or SIGINT that was sent to the process is yet to be taken, or is being handled: its
    /// handler holds it back alone, libzmq's threads hold back all.
    pub fn has_signals_to_take(&self) -> bool {
        let stops = mask(SIGTERM) | mask(SIGINT);
        let masks = |path: String, name: &str| -> Vec<u64> {
            let status = std::fs::read_to_string(path).unwrap_or_default();
            let masks = status.lines().filter_map(|line| line.strip_prefix(name));
            masks.map(|mask| u64::from_str_radix(mask.trim(), 16).unwrap()).collect()
        };
        let is_pending = masks(format!("/proc/{}/status", self.pid()), "ShdPnd:");
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let mut held = tasks.flat_map(|task| {
            masks(format!("{}/status", task.unwrap().path().display()), "SigBlk:")
        });
        is_pending.iter().any(|pending| pending & stops != 0)
            || held.any(|held| held & stops != 0 && held & mask(SIGHUP) == 0)
    }

    /// The connections that clients have to the service, as proc(5) has them in net/tcp: the state is field 3,
    /// 01 if established, and the timer field 5.
    pub fn connections(&self) -> Vec<Vec<String>> {
        const LISTENS: &str = "0A";
        let port: u16 = self.endpoint.rsplit(':').next().unwrap().parse().unwrap();
        let local = format!(":{port:04X}");
        let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", self.pid())).unwrap();
        let fields = |line: &str| line.split_whitespace().map(String::from).collect::<Vec<_>>();
        let connections = table.lines().map(fields);
        connections.filter(|f| f[1].ends_with(&local) && f[3] != LISTENS).collect()
    }

    /// Returns true if its one client has acknowledged all that was sent, and is probed when it stays silent: what
    /// `ss -o` shows as timer:(keepalive).
    pub fn is_probed(&self) -> bool {
        self.connections()[0][5].starts_with("02:")
    }

    /// How many descriptors the process has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// The processor time that all threads have used.
    pub fn processor_time(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let used = tasks.map(|task| {
            let text = std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
            text.split(' ').next().unwrap().parse::<u64>().unwrap()
        });
        Duration::from_nanos(used.sum())
    }
}

/// The bit of a signal in the masks of proc(5).
fn mask(signal: Signal) -> u64 {
    1 << (signal as i32 - 1)
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What a stop says counts what became of each request.
            let _ = kill(Pid::from_raw(self.child.id() as i32), SIGTERM);
            // It may go on, and talk for ever.
            let end = Instant::now() + Duration::from_secs(5);
            let left = || end.saturating_duration_since(Instant::now());
            while let Ok(line) = self.lines.recv_timeout(left()) {
                self.log.push(line);
            }
            eprintln!("the log of {}: {:#?}", self.endpoint, self.log);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A service in a thread of this process, with a handler of the test's; stopped when dropped.
pub struct Local {
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<Result<(), Error>>>,
    pub endpoint: String,
}

impl Local {
    pub fn start<F, H>(config: Config, new_handler: F) -> Local
    where
        F: Fn(usize) -> H + Clone + Send + 'static,
        H: Handler + 'static,
    {
        let (stopping, stop) = std::io::pipe().unwrap();
        let (send, endpoint) = channel();
        let thread = spawn(move || {
            let listen = vec!["tcp://127.0.0.1:*".parse().unwrap()];
            let service = Service::start(&Config { listen, ..config }, new_handler)?;
            send.send(service.endpoints()[0].clone()).unwrap();
            service.run(&stopping)
        });
        let endpoint = endpoint.recv_timeout(LIMIT).unwrap();
        Local { stop: Some(stop), thread: Some(thread), endpoint }
    }

    /// Sends a signal to the thread that the proxy, or the single server, is in.
    pub fn signal(&self, signal: Signal) {
        let thread = self.thread.as_ref().unwrap();
        nix::sys::pthread::pthread_kill(thread.as_pthread_t(), signal).unwrap();
    }

    /// How a service ended that was not told to.
    pub fn wait(mut self) -> Result<(), Error> {
        self.thread.take().unwrap().join().unwrap()
    }

    /// Stops the service and gives how it ended.
    pub fn stop(mut self) -> Result<(), Error> {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A client of one kind or another, which waits no longer than [`LIMIT`] for a reply.
pub struct Client {
    pub socket: zmq::Socket,
    _context: zmq::Context,
}

impl Client {
    pub fn new(kind: zmq::SocketType, endpoint: &str) -> Client {
        Client::with(kind, endpoint, |_| ())
    }

    pub fn req(endpoint: &str) -> Client {
        Client::new(zmq::REQ, endpoint)
    }

    /// A DEALER, which may send many requests before it reads a reply.
    pub fn dealer(endpoint: &str) -> Client {
        Client::new(zmq::DEALER, endpoint)
    }

    pub fn with(kind: zmq::SocketType, endpoint: &str, set: impl Fn(&zmq::Socket)) -> Client {
        Client::within(&zmq::Context::new(), kind, endpoint, set)
    }

    /// A client in a context that it shares with others, and so its one I/O thread.
    pub fn within(
        context: &zmq::Context,
        kind: zmq::SocketType,
        endpoint: &str,
        set: impl Fn(&zmq::Socket),
    ) -> Client {
        let socket = context.socket(kind).unwrap();
        socket.set_linger(0).unwrap();
        socket.set_rcvtimeo(LIMIT.as_millis() as i32).unwrap();
        socket.set_sndtimeo(LIMIT.as_millis() as i32).unwrap();
        socket.set_ipv6(endpoint.contains('[')).unwrap();
        set(&socket);
        socket.connect(endpoint).unwrap();
        Client { socket, _context: context.clone() }
    }

    /// The context that its socket is in.
    pub fn context(&self) -> &zmq::Context {
        &self._context
    }

    fn is_dealer(&self) -> bool {
        self.socket.get_socket_type().unwrap() == zmq::DEALER
    }

    pub fn send(&self, frames: &[&[u8]]) {
        let delimiter: &[&[u8]] = if self.is_dealer() { &[b""] } else { &[] };
        self.socket.send_multipart(delimiter.iter().chain(frames).copied(), 0).unwrap();
    }

    pub fn try_receive(&self) -> Option<Vec<Vec<u8>>> {
        let mut frames = self.socket.recv_multipart(0).ok()?;
        if self.is_dealer() {
            assert_eq!(frames.remove(0), b"", "no delimiter");
        }
        Some(frames)
    }

    pub fn receive(&self) -> Vec<Vec<u8>> {
        self.try_receive().expect("no reply")
    }

    pub fn ask(&self, frames: &[&[u8]]) -> Vec<Vec<u8>> {
        self.send(frames);
        self.receive()
    }

    /// The reply's only frame, as text.
    pub fn ask_text(&self, text: &str) -> String {
        let mut reply = self.ask(&[text.as_bytes()]);
        assert_eq!(reply.len(), 1, "{reply:?}");
        String::from_utf8(reply.remove(0)).unwrap()
    }

    /// The code of an error reply.
    pub fn receive_code(&self) -> u16 {
        let reply = self.receive();
        code(&reply).unwrap_or_else(|| panic!("no error reply: {reply:?}"))
    }
}

/// The code, if that is an error reply.
pub fn code(reply: &[Vec<u8>]) -> Option<u16> {
    let frames: Vec<Frame> = reply.iter().map(|frame| Frame::from(&frame[..])).collect();
    Fault::parse(&frames).map(|fault| fault.code())
}

/// Two network namespaces with a link between them, gone when dropped.
pub struct Link(String);

impl Link {
    /// None without what it takes, which CI must have.
    pub fn new(name: &str) -> Option<Link> {
        let link = Link(format!("repd-{name}-{}", std::process::id()));
        let has_iptables = || Command::new("iptables").arg("--version").output().is_ok();
        let add = |side| Command::new("ip").args(["netns", "add", &link.namespace(side)]).output();
        let added = |side| add(side).is_ok_and(|added| added.status.success());
        if !(geteuid().is_root() && has_iptables() && added("a") && added("b")) {
            assert!(std::env::var_os("CI").is_none(), "be root, and install iproute2 and iptables");
            skipped("it takes root, iproute2 and iptables, and network namespaces");
            return None;
        }
        let (a, b) = (link.namespace("a"), link.namespace("b"));
        link.ip(&format!("link add v netns {a} type veth peer name v netns {b}"));
        for (side, address) in [("a", "10.77.0.1/24"), ("b", "10.77.0.2/24")] {
            let namespace = link.namespace(side);
            link.ip(&format!("-n {namespace} address add {address} dev v"));
            link.ip(&format!("-n {namespace} link set lo up"));
            link.ip(&format!("-n {namespace} link set v up"));
        }
        Some(link)
    }

    fn namespace(&self, side: &str) -> String {
        format!("{}-{side}", self.0)
    }

    fn ip(&self, arguments: &str) {
        let run = Command::new("ip").args(arguments.split(' ')).output().unwrap();
        assert!(run.status.success(), "ip {arguments}: {run:?}");
    }

    pub fn set(&self, state: &str) {
        self.ip(&format!("-n {} link set v {state}", self.namespace("a")));
    }

    pub fn serve(&self, side: &str, program: &str, options: &str) -> Process {
        Process::run(self.command(side, program).arg("serve").args(options.split(' ')))
    }

    /// A client of the service that is near.
    pub fn client(&self, arguments: &str) -> Command {
        let mut command = self.command("a", REPD);
        command.args(arguments.split(' ')).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    pub fn command(&self, side: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(side), program]);
        command
    }

    /// A connection from that side.
    pub fn connect(&self, side: &str, endpoint: &str) -> Raw {
        let namespace = File::open(format!("/run/netns/{}", self.namespace(side))).unwrap();
        let connected = scope(|threads| {
            let there = || {
                // Of this thread alone.
                setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
                Raw::connect(endpoint)
            };
            threads.spawn(there).join()
        });
        connected.unwrap()
    }

    /// Of the packets that come over the link, one in a hundred is lost, either way.
    pub fn lose_packets(&self) {
        for side in ["a", "b"] {
            let rule = "-A INPUT -i v -m statistic --mode random --probability 0.01 -j DROP";
            let run = self.command(side, "iptables").args(rule.split(' ')).output().unwrap();
            assert!(run.status.success(), "{run:?}");
        }
    }

    pub fn lost_packets(&self) -> u64 {
        let list = |side| self.command(side, "iptables").args(["-L", "INPUT", "-vx"]).output();
        let lost = ["a", "b"].map(|side| {
            let list = String::from_utf8(list(side).unwrap().stdout).unwrap();
            let rule = list.lines().find(|line| line.contains("DROP")).unwrap().to_string();
            rule.split_whitespace().next().unwrap().parse::<u64>().unwrap()
        });
        lost.iter().sum()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for side in ["a", "b"] {
            let _ = Command::new("ip").args(["netns", "del", &self.namespace(side)]).output();
        }
    }
}
