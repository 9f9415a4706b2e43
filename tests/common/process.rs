//! A service in a process of its own.

use std::env;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal::{self, SIGHUP, SIGINT, SIGTERM};
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::{LIMIT, REPD, sleepy, until};

/// Returns a line of the log without the time in front of it, if it has one.
pub fn without_time(line: &str) -> &str {
    match line.split_once("Z ") {
        Some((time, rest)) if time.len() == 23 && time.as_bytes()[10] == b'T' => rest,
        _ => line,
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
    /// Starts `repd serve` on a free port of the loopback interface.
    pub fn start(options: &[&str]) -> Process {
        Process::of(REPD, options)
    }

    fn of(program: impl AsRef<OsStr>, options: &[&str]) -> Process {
        let mut command = Command::new(program);
        command.args(["serve", "--listen", "tcp://127.0.0.1:*"]);
        // So that the tests can be run with another number of them.
        if let (Ok(count), false) =
            (env::var("REPD_TEST_IO_THREADS"), options.contains(&"--io-threads"))
        {
            command.args(["--io-threads", &count]);
        }
        command.args(options);
        Process::run(&mut command)
    }

    /// Starts the example `sleepy` on a free port of the loopback interface.
    pub fn sleepy(options: &[&str]) -> Process {
        Process::of(sleepy(), options)
    }

    /// Sets its soft limit of open files, which may be below what it has open.
    pub fn limit_files(&self, files: u32) {
        let (pid, limit) = (self.pid().to_string(), format!("--nofile={files}:"));
        assert!(Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap().success());
    }

    /// Starts `repd serve` as [`Process::start`] does, with that limit of open files.
    pub fn limited(files: u32, options: &[&str]) -> Process {
        let limited = format!("ulimit -n {files}; exec \"$0\" \"$@\"");
        let serve = [REPD, "serve", "--listen", "tcp://127.0.0.1:*"];
        Process::run(Command::new("sh").args(["-c", &limited]).args(serve).args(options))
    }

    /// Starts the command and waits until it listens.
    pub fn run(command: &mut Command) -> Process {
        let mut child = command.stderr(Stdio::piped()).process_group(0).spawn().unwrap();
        let (send, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        spawn(move || {
            let mut lines = stderr.lines().map_while(Result::ok);
            lines.try_for_each(|line| send.send(without_time(&line).into()))
        });
        let mut process = Process { child, lines, log: Vec::new(), endpoint: String::new() };
        let line = process.wait_for_line("listening on ");
        process.endpoint = line.split("listening on ").nth(1).unwrap().to_string();
        process
    }

    /// Waits for the next line of the log that contains `text`, and returns it.
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

    /// Stops all its threads until a SIGCONT, and waits until they have stopped.
    pub fn halt(&self) {
        self.signal(Signal::SIGSTOP);
        until("all its threads are stopped", || {
            let mut tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
            tasks.all(|task| {
                let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
                stat.rsplit(") ").next().unwrap().starts_with('T')
            })
        });
    }

    /// Waits until the process has ended, and returns its status. Its log is read to the end.
    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.try_wait() {
                return status;
            }
            assert!(start.elapsed() < LIMIT, "the service did not end; its log is {:#?}", self.log);
            sleep(Duration::from_millis(1));
        }
    }

    /// Adds to the log what the process has written so far, or all of it if it has ended. Returns
    /// its status, or `None` if it is running.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        self.log.extend(self.lines.try_iter());
        let status = self.child.try_wait().unwrap()?;
        // The thread that reads them may be behind.
        self.rest_of_log();
        Some(status)
    }

    /// Waits until the log ends, and returns all of it.
    pub fn rest_of_log(&mut self) -> String {
        while let Ok(line) = self.lines.recv_timeout(LIMIT) {
            self.log.push(line);
        }
        self.log.join("\n")
    }

    /// Returns true if a SIGTERM or SIGINT is pending or being handled. A thread that handles one
    /// blocks it, but not SIGHUP; libzmq's threads block all signals.
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

    /// Returns the fields of each connection to the service in `/proc/PID/net/tcp` (proc(5)): 3 is
    /// the state, 01 if established, and 5 the timer.
    pub fn connections(&self) -> Vec<Vec<String>> {
        const LISTENS: &str = "0A";
        let port: u16 = self.endpoint.rsplit(':').next().unwrap().parse().unwrap();
        let local = format!(":{port:04X}");
        let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", self.pid())).unwrap();
        let fields = |line: &str| line.split_whitespace().map(String::from).collect::<Vec<_>>();
        let connections = table.lines().map(fields);
        connections.filter(|f| f[1].ends_with(&local) && f[3] != LISTENS).collect()
    }

    /// Returns true if its one client has acknowledged all that was sent, and is probed if it stays
    /// silent, which `ss -o` shows as timer:(keepalive).
    pub fn is_probed(&self) -> bool {
        self.connections()[0][5].starts_with("02:")
    }

    /// Returns the number of open descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Returns the resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Returns the processor time that all threads have used.
    pub fn processor_time(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let used = tasks.map(|task| {
            let text = std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
            text.split(' ').next().unwrap().parse::<u64>().unwrap()
        });
        Duration::from_nanos(used.sum())
    }
}

/// Returns a command that runs `repd serve` as systemd does, with these sockets under these names.
pub fn handed_over(sockets: [Option<OwnedFd>; 2], names: &str, options: &[&str]) -> Command {
    let count = sockets.iter().flatten().count().to_string();
    // Descriptors reach a child at these numbers only.
    let [first, second] = sockets.map(|socket| socket.map_or(Stdio::null(), Stdio::from));
    let run = "exec 3<&0 4<&1 </dev/null >/dev/null; export LISTEN_PID=$$; exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", run, REPD, "serve"]).args(options).stdin(first).stdout(second);
    command.env("LISTEN_FDS", count).env("LISTEN_FDNAMES", names);
    command
}

/// Returns the bit of a signal in the masks of proc(5).
fn mask(signal: Signal) -> u64 {
    1 << (signal as i32 - 1)
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The log's last line then tells what happened to the requests.
            let _ = kill(Pid::from_raw(self.child.id() as i32), SIGTERM);
            // The service may not end, and write for ever.
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
