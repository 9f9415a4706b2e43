//! The handler of a worker that answers with a program. It starts a copy of the program, gives it
//! requests, ends it when it fails, and starts the next one.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};

use super::counts::{Counts, Reason};
use super::exchange::{exchange, is_transient};
use super::failure::Failure;
use super::framing::{Format, Framing, frame_lengths};
use super::process::{EXIT_DELAY, PIPE_CAPACITY, Process};
use super::reply::{REPLIES_ONLY, quoted};
use super::starts::Starts;
use super::stderr::Stderr;
use crate::error::plain;
use crate::fault::{Code, Fault};
use crate::frame::Frame;
use crate::handler::{Client, Handler};

mod once;

/// What makes a program flush its output.
const FLUSH: &str = "flush(), python3 -u, stdbuf -oL";

/// What the copies of all workers have in common.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(super) command: Vec<String>,
    pub(super) format: Format,
    pub(super) timeout: Duration,
    pub counts: Arc<Counts>,
}

/// The copies of a program that one worker has, one at a time.
pub(crate) struct Copies {
    worker: usize,
    settings: Arc<Settings>,
    /// The copy that waits for requests. `None` with [`Framing::Once`].
    running: Option<Process>,
    /// The copy that failed and is not yet ended.
    failed: Option<(Process, Failure)>,
    starts: Starts,
    /// True if any copy has replied.
    has_replied: bool,
    /// True once the worker ends: no copy is started any more.
    is_ending: bool,
    stderr: Option<Stderr>,
    /// Who has sent the request, if the program is to know.
    client: Option<Client>,
    /// When the request came.
    arrived: Instant,
    /// The encoded request.
    input: Vec<u8>,
    /// The buffer that output is read into.
    output: Vec<u8>,
}

impl Copies {
    pub fn new(worker: usize, settings: Arc<Settings>) -> Copies {
        let now = Instant::now();
        Copies {
            worker,
            settings,
            running: None,
            failed: None,
            starts: Starts::new(now),
            has_replied: false,
            is_ending: false,
            stderr: None,
            client: None,
            arrived: now,
            input: Vec::new(),
            output: vec![0; PIPE_CAPACITY],
        }
    }

    fn is_once(&self) -> bool {
        self.settings.format.framing == Framing::Once
    }

    fn name(&self) -> &str {
        &self.settings.command[0]
    }

    /// Starts a copy; with [`Framing::Once`] for `request`.
    fn start(&mut self, request: Option<&[Frame]>) -> io::Result<Process> {
        let stderr = match &mut self.stderr {
            Some(stderr) => stderr,
            none => none.insert(Stderr::start(self.worker)?),
        };
        let mut variables = vec![("REPD_WORKER", self.worker.to_string())];
        variables.extend(request.map(|request| ("REPD_FRAMES", frame_lengths(request))));
        if let (Some(client), true) = (&self.client, request.is_some()) {
            variables.push(("REPD_CLIENT", client.name().into()));
            variables.push(("REPD_PEER", client.address().into()));
        }
        let process = Process::start(&self.settings.command, &variables, stderr.writer()?)?;
        self.settings.counts.on_started(self.worker, process.id());
        Ok(process)
    }

    fn warn_of_start(&self, error: io::Error, next: &str) {
        self.settings.counts.on_failed(Reason::System);
        let (worker, name) = (self.worker, self.name());
        warn!(worker = worker; "worker {worker}: cannot start {name:?}: {}{next}", plain(error));
    }

    /// Ends the copy that failed, if there is one, and logs why.
    fn end_failed(&mut self) {
        let Some((process, failure)) = self.failed.take() else { return };
        self.count_end(failure.counted_as());
        if matches!(failure, Failure::Lost(_) | Failure::Unread) {
            // So that the log tells the copy's own exit status, and not that it was killed.
            let _ = process.wait_for(EXIT_DELAY);
        }
        let status = process.terminate();
        if self.is_once() {
            let (worker, name, reason) = (self.worker, self.name(), failure.reason());
            let status = describe(&status);
            warn!(worker = worker; "worker {worker}: the program {name:?} failed: {reason}{status}");
            return;
        }
        if matches!(failure, Failure::Timeout(_)) {
            self.starts.on_work();
        }
        self.record_end(&failure.reason(), failure.hint(), &status);
        if matches!(failure, Failure::Timeout(None)) && !self.has_replied {
            let (worker, name) = (self.worker, self.name());
            let other = match self.settings.format.framing {
                Framing::Packet => "does it read lines? --framing lines",
                _ => "does it read packets? --framing packet",
            };
            warn!(
                worker = worker;
                "worker {worker}: {name:?} has never replied; {other}; does it flush its output? {FLUSH}"
            );
        }
    }

    /// Takes account of the end of a copy, and logs it.
    fn record_end(
        &mut self,
        reason: &str,
        hint: Option<&str>,
        status: &io::Result<Option<ExitStatus>>,
    ) {
        let next = match self.starts.on_end(Instant::now()) {
            _ if self.is_ending => String::new(),
            Duration::ZERO => "; starting it again".into(),
            pause => format!("; starting it again in {} s", pause.as_secs_f64()),
        };
        let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
        let (worker, name, status) = (self.worker, self.name(), describe(status));
        warn!(
            worker = worker;
            "worker {worker}: lost the program {name:?}: {reason}{status}{hint}{next}"
        );
    }

    /// Counts a copy that has failed.
    fn count_end(&self, reason: Reason) {
        self.settings.counts.on_failed(reason);
        self.settings.counts.on_ended(self.worker);
    }

    /// Ends the copy that waits for requests if it has closed its output, or has written something:
    /// that would be taken for the reply to the next request.
    fn check_idle(&mut self) {
        let Some(mut process) = self.running.take() else { return };
        let (mut hint, mut counted_as) = (None, Reason::Ended);
        let reason = match process.stdout.read(&mut self.output) {
            Err(error) if is_transient(&error) => {
                self.running = Some(process);
                return;
            }
            Ok(0) if process.wait_for(EXIT_DELAY).unwrap_or(false) => "it ended".into(),
            Ok(0) => "it closed its standard output".into(),
            Ok(count) => {
                (hint, counted_as) = (Some(REPLIES_ONLY), Reason::Invalid);
                format!("it wrote {} without a request", quoted(&self.output[..count]))
            }
            Err(error) => error.to_string(),
        };
        let status = process.terminate();
        self.count_end(counted_as);
        self.record_end(&reason, hint, &status);
    }

    /// Exchanges the request in `input` for its reply.
    fn exchange(
        &mut self,
        process: &mut Process,
        deadline: Instant,
    ) -> Result<Vec<Frame>, Failure> {
        exchange(process, self.settings.format, &self.input, &mut self.output, deadline)
    }
}

/// Returns a copy's exit status for the log, in parentheses, or nothing if it was killed.
fn describe(status: &io::Result<Option<ExitStatus>>) -> String {
    match status {
        Ok(Some(status)) => format!(" ({status})"),
        Ok(None) => String::new(),
        Err(error) => format!(" (cannot end it: {error})"),
    }
}

impl Handler for Copies {
    fn handle_from(&mut self, client: &Client, request: Vec<Frame>) -> Result<Vec<Frame>, Fault> {
        self.client = Some(client.clone());
        self.handle(request)
    }

    fn handle(&mut self, request: Vec<Frame>) -> Result<Vec<Frame>, Fault> {
        // Not sooner, however little its client waits: others want the program too.
        let deadline = self.arrived + self.settings.timeout;
        if deadline <= Instant::now() {
            // It has waited too long: that is not the program's fault.
            return Err(Fault::timeout());
        }
        self.input.clear();
        self.input.shrink_to(PIPE_CAPACITY);
        let client = self.client.as_ref().map(Client::name);
        self.settings.format.encode(client, &request, &mut self.input)?;
        if self.is_once() {
            return self.run_once(&request, deadline);
        }
        loop {
            self.check_idle();
            if self.running.is_none() {
                self.maintain();
            }
            let Some(mut process) = self.running.take() else {
                return Err(Fault::new(Code::UNAVAILABLE, "the program is not running"));
            };
            match self.exchange(&mut process, deadline) {
                Ok(reply) => {
                    self.has_replied = true;
                    self.starts.on_work();
                    self.running = Some(process);
                    return Ok(reply);
                }
                Err(failure) => {
                    let fault = failure.to_fault();
                    let is_unread = matches!(failure, Failure::Unread);
                    self.failed = Some((process, failure));
                    if !is_unread {
                        return Err(fault);
                    }
                }
            }
        }
    }
}

impl Copies {
    /// Sets when the next request came.
    pub fn set_arrived(&mut self, arrived: Instant) {
        self.arrived = arrived;
    }

    /// Returns true if a copy waits for a request, or one can be started for it.
    pub fn is_ready(&self) -> bool {
        self.failed.is_none() && (self.is_once() || self.running.is_some())
    }

    /// Ends the copy that has failed and starts the next one; returns when to be called again, if
    /// none is running after that.
    pub fn maintain(&mut self) -> Option<Instant> {
        self.end_failed();
        self.check_idle();
        // A copy may have ended though its output is open: a child of its own may keep it so.
        let exited = self.running.take_if(|process| process.has_exited().unwrap_or(true));
        if let Some(process) = exited {
            let status = process.terminate();
            self.count_end(Reason::Ended);
            self.record_end("it ended", None, &status);
        }
        if self.is_ready() {
            return None;
        }
        let now = Instant::now();
        if now < self.starts.next() {
            return Some(self.starts.next());
        }
        self.starts.on_start(now);
        match self.start(None) {
            Ok(process) => {
                let (worker, id) = (self.worker, process.id());
                info!(worker = worker; "worker {worker}: the program is running, process {id}");
                self.running = Some(process);
                None
            }
            Err(error) => {
                let pause = self.starts.on_failed(now);
                let next = format!("; trying again in {} s", pause.as_secs_f64());
                self.warn_of_start(error, &next);
                Some(self.starts.next())
            }
        }
    }

    /// Returns what becomes readable when the copy ends, or writes without a request.
    pub fn watched(&self) -> Vec<BorrowedFd<'_>> {
        self.running
            .iter()
            .flat_map(|process| [process.exit_fd(), process.stdout.as_fd()])
            .collect()
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        self.is_ending = true;
        self.end_failed();
        let Some(process) = self.running.take() else { return };
        if !process.finish().unwrap_or(false) {
            let worker = self.worker;
            warn!(
                worker = worker;
                "worker {worker}: the program had to be killed: it did not end when its input was closed"
            );
        }
    }
}
