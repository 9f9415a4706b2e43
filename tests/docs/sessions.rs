//! Runs the blocks that show a terminal, those of a section together, and compares what comes.

use std::fs::write;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::common::{
    Folder, Killed, Process, REPD, own_address, python_with_pyzmq, skipped, without_time,
};
use crate::pages::{Section, root};

/// Time that a command may take to print what the page says: a worker has to connect first.
const SETTLING: Duration = Duration::from_secs(60);

/// Time until a command that has printed something else is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// What the log may say besides where a worker or an upstream takes its time to connect.
const TRANSIENT: [&str; 2] = ["requests are refused", "requests are answered again"];

/// The line that stands for any others.
const ELISION: &str = "...";
/// The line that stands for the keys that stop a service.
const INTERRUPT: &str = "^C";

/// A command, and the lines after it.
struct Step {
    command: String,
    shown: Vec<String>,
}

impl Step {
    /// Returns true if the command is a service, which runs until the section ends.
    fn is_service(&self) -> bool {
        let ends = ["--check", "--help"].iter().any(|option| self.command.contains(option));
        self.command.starts_with("repd serve") && !ends
    }

    /// Returns a line that it prints as it is compared: of a load, no matter the figures.
    fn comparable(&self, line: &str) -> String {
        if self.command.starts_with("repd bench") { figureless(line) } else { normal(line) }
    }
}

/// Runs the blocks of a section, in a folder of their own.
pub fn run(page: &str, section: &Section) {
    let place = format!("{page}, {}", section.heading);
    let blocks = section.blocks.iter().filter(|block| block.kind == "console");
    let mut steps: Vec<Step> = blocks.flat_map(|block| steps(&block.lines, &place)).collect();
    let runs = |name: &str| steps.iter().any(|step| step.command.contains(name));
    let missing = ["mawk", "python3"].into_iter().find(|it| runs(it) && !is_installed(it));
    if let Some(missing) = missing {
        skipped(&format!("{place}: {missing} is not installed"));
    }
    let python = if runs("worker.py") { python_with_pyzmq() } else { Some("python3") };
    let (None, Some(python), false) = (missing, python, steps.is_empty()) else { return };
    let mut stage = Stage::new(section, place, python);
    if !steps.iter().any(Step::is_service) {
        steps.insert(0, Step { command: "repd serve".into(), shown: Vec::new() });
    }
    // Commands between two services are of one shell.
    while !steps.is_empty() {
        let is_left = |step: &Step| step.is_service() || step.command.ends_with(" &");
        let asked = steps.iter().position(is_left).unwrap_or(steps.len());
        let rest = steps.split_off(asked);
        stage.ask(&steps);
        steps = rest;
        if !steps.is_empty() {
            stage.start(steps.remove(0));
        }
    }
    stage.end();
}

/// What runs while a section is tried.
struct Stage {
    folder: Folder,
    place: String,
    python: &'static str,
    /// The services, each with its endpoint.
    services: Vec<(String, Service)>,
    others: Vec<Killed>,
}

impl Stage {
    /// Makes the folder, with the files of the section, the examples and `repd`.
    fn new(section: &Section, place: String, python: &'static str) -> Stage {
        let folder = Folder::new("docs");
        symlink(root().join("examples"), folder.file("examples")).unwrap();
        symlink(REPD, folder.file("repd")).unwrap();
        for block in &section.blocks {
            block.file.iter().for_each(|name| write(folder.file(name), block.text()).unwrap());
        }
        Stage { folder, place, python, services: Vec::new(), others: Vec::new() }
    }

    /// Returns a shell that runs `script` in the folder.
    fn shell(&self, script: &str) -> Command {
        let path = format!("{}:{}", self.folder.0.display(), std::env::var("PATH").unwrap());
        let python = format!("{} examples/", self.python);
        let mut shell = Command::new("sh");
        shell.args(["-c", &script.replace("python3 examples/", &python)]);
        shell.current_dir(&self.folder.0).env("PATH", path).env_remove("PYTHONUNBUFFERED");
        shell
    }

    /// Starts a service, in place of one at the same endpoint, or another command that goes on.
    fn start(&mut self, step: Step) {
        let command = format!("exec {}", located(step.command.trim_end_matches(" &")));
        if !step.is_service() {
            let mut shell = self.shell(&command);
            let other = shell.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            self.others.push(Killed(other.unwrap()));
            return;
        }
        let listens = command.split("--listen ").nth(1).unwrap().split(' ').next().unwrap();
        if let Some(before) = self.services.iter().position(|(at, _)| at == listens) {
            self.services.remove(before).1.end(&self.place);
        }
        let process = Process::run(&mut self.shell(&command));
        self.services.push((listens.into(), Service { process, shown: step.shown, read: 0 }));
    }

    /// Runs these steps one after the other in one shell, and compares what each prints.
    fn ask(&self, steps: &[Step]) {
        const END: &str = "--- the end of a step ---\n";
        let script = steps.iter().map(|step| {
            // `$?` in the next step is that of this one.
            format!("{}\nstatus=$?; printf '%s' '{END}'; (exit $status)\n", located(&step.command))
        });
        let script = format!("exec 2>&1\n{}", script.collect::<String>());
        let lines = |step: &Step, lines: &mut dyn Iterator<Item = &str>| {
            lines.map(|line| step.comparable(line)).collect::<Vec<_>>()
        };
        let shown = steps.iter().map(|it| lines(it, &mut it.shown.iter().map(String::as_str)));
        let shown: Vec<Vec<String>> = shown.collect();
        let start = Instant::now();
        loop {
            let run = self.shell(&script).stdin(Stdio::null()).output().unwrap();
            let text = String::from_utf8_lossy(&run.stdout).into_owned();
            let parts = text.split(END).zip(steps);
            let printed: Vec<_> = parts.map(|(part, it)| lines(it, &mut part.lines())).collect();
            if printed == shown {
                return;
            }
            let commands: Vec<&String> = steps.iter().map(|step| &step.command).collect();
            let in_time = start.elapsed() < SETTLING;
            assert!(in_time, "{}: {commands:#?}: {printed:#?}, not {shown:#?}", self.place);
            sleep(RETRY_INTERVAL);
        }
    }

    /// Ends what runs: a service that forwards to others before them.
    fn end(mut self) {
        self.others.clear();
        while let Some((_, service)) = self.services.pop() {
            service.end(&self.place);
        }
    }
}

/// A service of the page, and what its log is to say.
struct Service {
    process: Process,
    shown: Vec<String>,
    /// Number of lines of the log that are compared already.
    read: usize,
}

impl Service {
    /// Waits until the log has said what the page shows, stops the service, and waits for its end.
    fn end(mut self, place: &str) {
        let shown = std::mem::take(&mut self.shown);
        let (before, after) = match shown.iter().position(|line| line == INTERRUPT) {
            Some(stop) => (&shown[..stop], &shown[stop + 1..]),
            None => (&shown[..], &[][..]),
        };
        self.expect(before, place);
        self.process.signal(Signal::SIGINT);
        self.expect(after, place);
        assert_eq!(self.process.wait().code(), Some(0), "{place}: {:#?}", self.process.log);
    }

    /// Compares the next lines of the log with those that the page shows.
    fn expect(&mut self, shown: &[String], place: &str) {
        let mut may_skip = false;
        for expected in shown {
            if expected == ELISION {
                may_skip = true;
                continue;
            }
            loop {
                if self.read == self.process.log.len() {
                    self.process.wait_for_line("");
                }
                let line = normal(&self.process.log[self.read]);
                self.read += 1;
                if line == normal(expected) {
                    break;
                }
                let may_skip = may_skip || TRANSIENT.iter().any(|end| line.ends_with(end));
                assert!(may_skip, "{place}: the log has {line:?}, not {expected:?}");
            }
            may_skip = false;
        }
    }
}

/// Returns the steps of a block.
fn steps(lines: &[String], place: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in lines {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step { command: command.into(), shown: Vec::new() });
        } else if !line.ends_with("is served; see --key") {
            // The test listens at an address that only this machine reaches.
            let step = steps.last_mut().unwrap_or_else(|| panic!("{place}: who prints {line:?}?"));
            step.shown.push(line.clone());
        }
    }
    steps
}

/// Returns the command with endpoints that no other test uses, and with a short load.
fn located(command: &str) -> String {
    let mut command = command.to_string();
    if command.starts_with("repd serve") && !command.contains("--listen") {
        command = command.replacen("repd serve", "repd serve --listen tcp://*:5555", 1);
    }
    for host in ["tcp://localhost:", "tcp://127.0.0.1:", "tcp://*:"] {
        command = command.replace(host, &format!("tcp://{}:", own_address()));
    }
    if command.starts_with("repd bench") && !command.contains("--duration") {
        command += " --warmup 0 --duration 0.5";
    }
    command
}

/// Returns a line as it is compared: no matter when, on which host, or in which process.
fn normal(line: &str) -> String {
    let own = format!("tcp://{}:", own_address());
    let mut line = without_time(line).to_string();
    for host in ["tcp://localhost:", "tcp://127.0.0.1:", "tcp://0.0.0.0:", "tcp://*:", &own] {
        line = line.replace(host, "tcp://HOST:");
    }
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((before, _)) = line.rsplit_once(", process ").filter(|(_, id)| is_number(id)) {
        return format!("{before}, process ID");
    }
    let worker = line.strip_suffix(": connected").and_then(|line| line.rsplit_once(':'));
    match worker.filter(|(before, port)| before.contains(": worker ") && is_number(port)) {
        Some((before, _)) => format!("{before}:PORT: connected"),
        None => line,
    }
}

/// Returns a line of a report without its figures.
fn figureless(line: &str) -> String {
    let line = normal(line);
    let words = line.split_whitespace().filter(|word| !word.starts_with('█'));
    let figureless = words.map(|word| match word.trim_end_matches(',') {
        "ns" | "µs" | "ms" | "s" => "TIME",
        number if number.starts_with(|c: char| c.is_ascii_digit()) => "NUMBER",
        _ => word,
    });
    figureless.collect::<Vec<_>>().join(" ")
}

fn is_installed(name: &str) -> bool {
    let found = Command::new("sh").args(["-c", "command -v \"$0\"", name]).output();
    found.is_ok_and(|found| found.status.success())
}
