//! The servers that are compared, each a process. What is Rust is this program, started again.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use repd::{Backend, Config, Frame, reverse, serve};

use crate::{Case, Failure};

pub const REPD: &str = env!("CARGO_BIN_EXE_repd");

/// Start of a request that takes [`SLOW_TIME`], where a server looks for slow requests.
pub const SLOW: &[u8] = b"slow ";
const SLOW_TIME: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `repd serve`.
    Repd,
    /// `repd serve --workers 0`.
    Single,
    /// The classic multithreaded server around `zmq_proxy`, in C, with the system's libzmq.
    ZmqProxy,
    /// One REP socket in a loop, in C, with the system's libzmq.
    Rep,
    /// The classic multithreaded server in Go.
    Go,
    /// nats-server, with responders in a queue group.
    Nats,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Repd => "repd",
            Kind::Single => "repd --workers 0",
            Kind::ZmqProxy => "zmq_proxy",
            Kind::Rep => "bare REP",
            Kind::Go => "Go",
            Kind::Nats => "NATS",
        }
    }

    /// Returns the number of workers as an argument: 0 for a server without workers.
    fn workers(self, workers: usize) -> String {
        if matches!(self, Kind::Single | Kind::Rep) { 0 } else { workers }.to_string()
    }

    /// Checks that what this server needs is installed. The error says what is missing.
    pub fn check_installed(self) -> Result<(), String> {
        match self {
            Kind::ZmqProxy | Kind::Rep => classic().clone().map(|_| ()),
            Kind::Go => go().clone().map(|_| ()),
            Kind::Nats => Command::new("nats-server")
                .arg("--version")
                .output()
                .map(|_| ())
                .map_err(|_| "nats-server is not installed".into()),
            Kind::Repd | Kind::Single => Ok(()),
        }
    }
}

/// Returns the path of the servers in C, which the first call builds, or why they cannot be built.
fn classic() -> &'static Result<PathBuf, String> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BUILT.get_or_init(|| build("classic.c", Command::new("cc").arg("-O2"), &["-lzmq", "-lpthread"]))
}

/// Returns the path of the server in Go, which the first call builds, or why it cannot be built.
fn go() -> &'static Result<PathBuf, String> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BUILT.get_or_init(|| {
        let path = std::env::var("GOPATH").unwrap_or_else(|_| "/usr/share/gocode".into());
        if !Path::new(&path).join("src/github.com/pebbe/zmq4").exists() {
            return Err(format!("no go with github.com/pebbe/zmq4 in GOPATH={path}"));
        }
        let mut compiler = Command::new("go");
        compiler.arg("build").env("GO111MODULE", "off").env("GOPATH", path);
        build("classic.go", &mut compiler, &[])
    })
}

/// Builds that source of this folder with `compiler`. Returns the path of the program, or why it
/// cannot be built.
fn build(source: &str, compiler: &mut Command, libraries: &[&str]) -> Result<PathBuf, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/compare").join(source);
    let binary = Path::new(env!("CARGO_TARGET_TMPDIR")).join(source.replace('.', "-"));
    compiler.arg("-o").args([&binary, &path]).args(libraries);
    let built = compiler
        .output()
        .map_err(|_| format!("{} is not installed", compiler.get_program().display()))?;
    if built.status.success() {
        return Ok(binary);
    }
    Err(format!("it cannot be built: {}", String::from_utf8_lossy(&built.stderr).trim()))
}

/// A server that listens. Dropping it kills its process.
pub struct Server {
    child: Child,
    pub endpoint: String,
    started: Instant,
    /// The responders of nats-server.
    _responders: Option<Box<Server>>,
}

impl Server {
    /// Starts `repd serve` of `binary`. Where the load is to have a program, or requests may be slow,
    /// its handler is a program that looks for those, the same for every build of repd.
    pub fn start_repd(binary: &Path, kind: Kind, case: &Case) -> Result<Server, Failure> {
        let mut command = Command::new(binary);
        command.args(["serve", "--listen", "tcp://127.0.0.1:*"]);
        if let Some(keys) = &case.keys {
            command.arg("--key").arg(&keys.service).arg("--clients").arg(&keys.clients);
        }
        command.args(["--workers", &kind.workers(case.workers)]);
        if case.has_program || case.slow_one_in.is_some() {
            command.args(["--framing", "packet", "--"]).arg(std::env::current_exe()?);
            command.args(["serve", "packet", ""]);
        }
        Server::run(&mut command)
    }

    /// Starts a server for that load.
    pub fn start(kind: Kind, case: &Case) -> Result<Server, Failure> {
        let program = std::env::current_exe()?;
        let serve = |what: &str| {
            let mut command = Command::new(&program);
            command.args(["serve", what, &kind.workers(case.workers)]);
            command
        };
        match kind {
            // The program as users have it: its own handlers do.
            Kind::Repd | Kind::Single if case.slow_one_in.is_none() => {
                Server::start_repd(Path::new(REPD), kind, case)
            }
            Kind::Repd | Kind::Single => Server::run(&mut serve("repd")),
            Kind::ZmqProxy | Kind::Rep => {
                let mut command = Command::new(classic().as_ref().map_err(|why| why.as_str())?);
                command.arg(kind.workers(case.workers));
                if let Some(keys) = &case.keys {
                    command.arg(keys.secret()?);
                }
                Server::run(&mut command)
            }
            Kind::Go => {
                let binary = go().as_ref().map_err(|why| why.as_str())?;
                Server::run(Command::new(binary).arg(case.workers.to_string()))
            }
            Kind::Nats => {
                let mut server =
                    Server::run(Command::new("nats-server").args(["-a", "127.0.0.1", "-p", "-1"]))?;
                let mut responders = serve("nats");
                let responders = Server::run(responders.arg(&server.endpoint))?;
                server._responders = Some(Box::new(responders));
                Ok(server)
            }
        }
    }

    /// Starts `command` and waits until it says on standard error where it listens.
    fn run(command: &mut Command) -> Result<Server, Failure> {
        let started = Instant::now();
        let program = command.get_program().display().to_string();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child =
            command.spawn().map_err(|error| format!("cannot run {program}: {error}"))?;
        let mut log = BufReader::new(child.stderr.take().ok_or("no standard error")?);
        let (mut endpoint, mut said) = (None, String::new());
        while endpoint.is_none() {
            let mut line = String::new();
            if log.read_line(&mut line)? == 0 {
                let said = said.trim();
                return Err(format!("{program} ended before it listened; it said {said:?}").into());
            }
            endpoint = ["listening on ", "client connections on "]
                .iter()
                .find_map(|words| Some(line.split_once(words)?.1.trim().to_string()));
            said = line;
        }
        spawn(move || log.read_to_end(&mut Vec::new()));
        Ok(Server { child, endpoint: endpoint.unwrap_or_default(), started, _responders: None })
    }

    /// Sends a first request. Returns the time from the start of the process to the reply.
    pub fn first_reply(&self) -> Result<Duration, Failure> {
        let socket = zmq::Context::new().socket(zmq::REQ)?;
        socket.set_rcvtimeo(10_000)?;
        socket.connect(&self.endpoint)?;
        socket.send("hello", 0)?;
        socket.recv_bytes(0)?;
        Ok(self.started.elapsed())
    }

    /// Returns the processor time that its threads have taken (sched(7): schedstat).
    pub fn processor_time(&self) -> Result<Duration, Failure> {
        let mut nanoseconds = 0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
            nanoseconds += text.split_whitespace().next().ok_or("no figure")?.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Returns the resident memory in MiB (proc_pid_status(5)).
    pub fn resident_mebibytes(&self) -> Result<f64, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
        let kibibytes: f64 = line.split_whitespace().nth(1).ok_or("no figure")?.parse()?;
        Ok(kibibytes / 1024.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a server if the command line is one of [`Server::start`]. Returns false if it is not.
pub fn serve_if_asked() -> Result<bool, Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", "repd", workers] => repd(workers.parse()?)?,
        ["serve", "packet", _] => packet()?,
        ["serve", "nats", workers, address] => crate::nats::respond(address, workers.parse()?)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// Runs repd with a handler that looks for slow requests.
fn repd(workers: usize) -> Result<(), Failure> {
    repd::logging::start(repd::logging::Target::Stderr, repd::logging::LevelFilter::Info)?;
    let handler = |_| {
        |request: Vec<Frame>| {
            if request[0].starts_with(SLOW) {
                sleep(SLOW_TIME);
            }
            reverse(request)
        }
    };
    let config = Config::new(Backend::workers(workers, handler));
    Ok(serve(&config.listen(["tcp://127.0.0.1:*".parse()?]))?)
}

/// Runs a program for `--framing packet` that looks for slow requests.
fn packet() -> Result<(), Failure> {
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut length = [0; 4];
    while input.read_exact(&mut length).is_ok() {
        let mut text = vec![0; u32::from_be_bytes(length) as usize];
        input.read_exact(&mut text)?;
        if text.starts_with(SLOW) {
            sleep(SLOW_TIME);
        }
        text.reverse();
        output.write_all(&[&length, &text[..]].concat())?;
        output.flush()?;
    }
    Ok(())
}
