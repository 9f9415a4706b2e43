//! The copies of a program that one worker has, one at a time: each is spoken to, ended when it fails,
//! and followed by a fresh one.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};

use super::exchange::{exchange, is_passing};
use super::failure::Failure;
use super::framing::{Format, Framing, lengths, quoted};
use super::process::Process;
use super::stderr::Stderr;
use crate::error::plain;
use crate::fault::{Code, Fault};
use crate::frame::Frame;
use crate::handler::Handler;

/// How long nothing is started after a copy has ended that never replied; twice as long after each
/// further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What has a program flush what it writes.
const FLUSH: &str = "flush(), python3 -u, stdbuf -oL";

/// As much as a pipe holds: pipe(7).
const BUFFER: usize = 64 << 10;

/// As much of a variable as execve(2) takes, with some to spare.
const LONGEST_VARIABLE: usize = 100 << 10;

/// What the copies of all workers have in common.
pub(super) struct Settings {
    pub command: Vec<String>,
    pub format: Format,
    pub timeout: Duration,
}

/// The copies of a program that one worker has had, has and will have, one at a time.
pub struct Copies {
    worker: usize,
    settings: Arc<Settings>,
    /// The one that waits for requests; with [`Framing::Once`] there is none.
    running: Option<Process>,
    /// One that is to be ended, and why.
    failed: Option<(Process, Failure)>,
    started: Instant,
    /// Whether this copy has replied, and whether one of this worker's ever has.
    replied: bool,
    has_replied: bool,
    /// How many that never replied have ended in a row.
    failures: u32,
    next_start: Instant,
    /// None is started any more.
    is_ending: bool,
    stderr: Option<Stderr>,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Copies {
    pub(super) fn new(worker: usize, settings: Arc<Settings>) -> Copies {
        let now = Instant::now();
        Copies {
            worker,
            settings,
            running: None,
            failed: None,
            started: now,
            replied: false,
            has_replied: false,
            failures: 0,
            next_start: now,
            is_ending: false,
            stderr: None,
            input: Vec::new(),
            output: vec![0; BUFFER],
        }
    }

    fn is_once(&self) -> bool {
        self.settings.format.framing == Framing::Once
    }

    fn start(&mut self, request: Option<&[Frame]>) -> io::Result<Process> {
        let stderr = match &mut self.stderr {
            Some(stderr) => stderr,
            none => none.insert(Stderr::start(self.worker)?),
        };
        let mut variables = vec![("REPD_WORKER", self.worker.to_string())];
        variables.extend(request.map(|request| ("REPD_FRAMES", lengths(request))));
        Process::start(&self.settings.command, &variables, stderr.writer()?)
    }

    fn complain_of_start(&self, error: io::Error, next: &str) {
        warn!("worker {}: cannot start {:?}: {}{next}", self.worker, self.name(), plain(error));
    }

    /// Ends what has failed, and says so.
    fn clean_up(&mut self) {
        let Some((process, failure)) = self.failed.take() else { return };
        if matches!(failure, Failure::Lost(_) | Failure::Untouched) {
            // So that its own end is told, and not that it was killed.
            process.is_ending();
        }
        let status = process.kill();
        let is_late = matches!(failure, Failure::Late(_));
        if self.is_once() {
            let (worker, name, why) = (self.worker, self.name(), failure.why());
            warn!("worker {worker}: the program {name:?} failed: {why}{}", how(&status));
            return;
        }
        // One that is late could be started.
        self.replied |= is_late;
        self.has_ended(&failure.why(), failure.hint(), &status);
        if matches!(failure, Failure::Late(None)) && !self.has_replied {
            let (worker, name) = (self.worker, self.name());
            let other = match self.settings.format.framing {
                Framing::Packet => "does it read lines? --framing lines",
                _ => "does it read packets? --framing packet",
            };
            warn!(
                "worker {worker}: {name:?} has never replied; {other}; does it flush its output? {FLUSH}"
            );
        }
    }

    /// Takes account of a copy's end.
    fn has_ended(
        &mut self,
        why: &str,
        hint: Option<&str>,
        status: &io::Result<Option<ExitStatus>>,
    ) {
        let now = Instant::now();
        if self.replied || now - self.started > LONGEST_PAUSE {
            self.failures = 0;
        }
        let pause = if self.replied { Duration::ZERO } else { self.pause() };
        self.next_start = now + pause;
        let next = match pause {
            _ if self.is_ending => String::new(),
            Duration::ZERO => "; starting it again".into(),
            pause => format!("; starting it again in {} s", pause.as_secs_f64()),
        };
        let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
        let (worker, name) = (self.worker, self.name());
        warn!("worker {worker}: lost the program {name:?}: {why}{}{hint}{next}", how(status));
    }

    /// The program's.
    fn name(&self) -> &str {
        &self.settings.command[0]
    }

    /// How long to wait after one more copy that came to nothing; not at all after the first in a row.
    fn pause(&mut self) -> Duration {
        let before = self.failures;
        self.failures = before.saturating_add(1);
        let doubled = before.checked_sub(1).map(|times| 2_u32.saturating_pow(times));
        doubled.map_or(Duration::ZERO, |n| FIRST_PAUSE.saturating_mul(n).min(LONGEST_PAUSE))
    }

    /// Looks whether the copy that waits for requests still does, and ends it if not: if it has said
    /// something, that would be taken for the reply to the next request.
    fn look_after(&mut self) {
        let Some(mut process) = self.running.take() else { return };
        let mut hint = None;
        let why = match process.stdout.read(&mut self.output) {
            Err(error) if is_passing(&error) => {
                self.running = Some(process);
                return;
            }
            Ok(0) if process.is_ending() => "it ended".into(),
            Ok(0) => "it closed its standard output".into(),
            Ok(read) => {
                hint = Some("it is to write replies alone");
                format!("it wrote {}, which nobody had asked for", quoted(&self.output[..read]))
            }
            Err(error) => error.to_string(),
        };
        let status = process.kill();
        self.has_ended(&why, hint, &status);
    }

    /// Has the program answer the request that is encoded.
    fn exchange(
        &mut self,
        process: &mut Process,
        deadline: Instant,
    ) -> Result<Vec<Frame>, Failure> {
        exchange(process, self.settings.format, &self.input, &mut self.output, deadline)
    }

    /// Starts the program for this request alone.
    fn run_once(&mut self, request: &[Frame], deadline: Instant) -> Result<Vec<Frame>, Fault> {
        if lengths(request).len() > LONGEST_VARIABLE {
            return Err(Fault::new(Code::TooLarge, "the request has too many frames"));
        }
        let mut process = self.start(Some(request)).map_err(|error| {
            self.complain_of_start(error, "");
            Fault::new(Code::Failed, "the program cannot be started")
        })?;
        match self.exchange(&mut process, deadline) {
            Ok(reply) => {
                // It has ended: this only takes notice of how.
                let status = process.kill();
                if matches!(status, Ok(Some(status)) if status.success()) {
                    return Ok(reply);
                }
                let how = how(&status);
                warn!("worker {}: the program {:?} failed{how}", self.worker, self.name());
                Err(Fault::new(Code::Failed, format!("the program failed{how}")))
            }
            Err(failure) => {
                let fault = failure.fault();
                self.failed = Some((process, failure));
                Err(fault)
            }
        }
    }
}

fn how(ended: &io::Result<Option<ExitStatus>>) -> String {
    match ended {
        Ok(Some(status)) => format!(" ({status})"),
        Ok(None) => String::new(),
        Err(error) => format!(" (cannot end it: {error})"),
    }
}

impl Handler for Copies {
    fn handle(&mut self, request: Vec<Frame>) -> Result<Vec<Frame>, Fault> {
        self.input.clear();
        self.input.shrink_to(BUFFER);
        self.settings.format.encode(&request, &mut self.input)?;
        let deadline = Instant::now() + self.settings.timeout;
        if self.is_once() {
            return self.run_once(&request, deadline);
        }
        loop {
            self.look_after();
            if self.running.is_none() {
                self.tend();
            }
            let Some(mut process) = self.running.take() else {
                return Err(Fault::new(Code::Unavailable, "the program is not running"));
            };
            match self.exchange(&mut process, deadline) {
                Ok(reply) => {
                    (self.replied, self.has_replied) = (true, true);
                    self.running = Some(process);
                    return Ok(reply);
                }
                Err(failure) => {
                    let fault = failure.fault();
                    let is_untouched = matches!(failure, Failure::Untouched);
                    self.failed = Some((process, failure));
                    if !is_untouched {
                        return Err(fault);
                    }
                }
            }
        }
    }

    fn is_ready(&self) -> bool {
        self.failed.is_none() && (self.is_once() || self.running.is_some())
    }

    fn tend(&mut self) -> Option<Instant> {
        self.clean_up();
        self.look_after();
        // Its output may be kept open by a child of its own.
        let exited = self.running.take_if(|process| process.wait(Instant::now()).unwrap_or(true));
        if let Some(process) = exited {
            let status = process.kill();
            self.has_ended("it ended", None, &status);
        }
        if self.is_ready() {
            return None;
        }
        let now = Instant::now();
        if now < self.next_start {
            return Some(self.next_start);
        }
        self.started = now;
        self.replied = false;
        match self.start(None) {
            Ok(process) => {
                info!("worker {}: the program is running, process {}", self.worker, process.id());
                self.running = Some(process);
                None
            }
            Err(error) => {
                let pause = self.pause().max(FIRST_PAUSE);
                self.next_start = now + pause;
                self.complain_of_start(
                    error,
                    &format!("; trying again in {} s", pause.as_secs_f64()),
                );
                Some(self.next_start)
            }
        }
    }

    fn ends_at_deadline(&self) -> bool {
        true
    }

    fn watched(&self) -> Vec<BorrowedFd<'_>> {
        self.running.iter().flat_map(|process| [process.exit(), process.stdout.as_fd()]).collect()
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        self.is_ending = true;
        self.clean_up();
        let Some(process) = self.running.take() else { return };
        if !process.finish().unwrap_or(false) {
            warn!(
                "worker {}: the program had to be killed: it does not end at the end of its input",
                self.worker
            );
        }
    }
}
