//! System calls: how many a request takes when nothing else is going on, and which come first.

mod common;

use std::env;
use std::fs;
use std::process::Command;

use common::{Client, Folder, Process, REPD, skipped, time_limit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Returns true if strace may trace; tells of it if not.
fn can_trace() -> bool {
    let can = Command::new("strace").arg("true").output().is_ok_and(|run| run.status.success());
    if !can {
        assert!(env::var_os("CI").is_none(), "install strace, and allow ptrace(2)");
        skipped("there is no strace, or it may not trace");
    }
    can
}

/// Starts a service with these options under strace, which writes to that file.
fn serve_traced(strace: &[&str], file: &str, options: &[&str]) -> Process {
    let mut command = Command::new("strace");
    command.args(["--follow-forks", "--quiet=all", "--output", file]).args(strace);
    command.args([REPD, "serve", "--listen", "tcp://127.0.0.1:*"]).args(options);
    Process::run(&mut command)
}

/// Stops a service that is traced, and strace with it.
fn stop_traced(mut service: Process) {
    // strace's own signals are not passed on.
    let pid = service.pid();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let child: i32 = children.trim().parse().unwrap();
    kill(Pid::from_raw(child), Signal::SIGTERM).unwrap();
    assert_eq!(service.wait().code(), Some(0));
}

/// Returns how many system calls a service with these options makes in its life, in which it answers
/// so many requests of a lone client.
fn system_calls(options: &[&str], requests: usize) -> usize {
    let folder = Folder::new("system-calls");
    let counts = folder.file("counts");
    let service = serve_traced(&["--summary-only"], &counts, options);
    let client = Client::req(&service.endpoint);
    (0..requests).for_each(|_| assert_eq!(client.ask_text("abc"), "cba"));
    drop(client);
    stop_traced(service);
    // The last line: percent, seconds, microseconds a call, calls, perhaps errors, "total".
    let counts = fs::read_to_string(counts).unwrap();
    let total = counts.lines().rfind(|line| line.ends_with("total")).unwrap();
    total.split_whitespace().nth(3).unwrap().parse().unwrap()
}

#[test]
fn a_request_takes_few_system_calls() {
    let _limit = time_limit(120);
    const REQUESTS: usize = 2000;
    if !can_trace() {
        return;
    }
    let threads: [&[&str]; 3] = [&["--io-threads", "1"], &["--io-threads", "0"], &[]];
    for (options, most) in threads.into_iter().zip([16.5, 11.5, 11.5]) {
        let more = system_calls(options, 100 + REQUESTS) - system_calls(options, 100);
        let each = more as f64 / REQUESTS as f64;
        println!("{options:?}: {each:.1} system calls a request");
        assert!(each < most, "{options:?}: {each}");
    }
}

#[test]
fn it_listens_once_its_programs_run() {
    let _limit = time_limit(60);
    if !can_trace() {
        return;
    }
    let folder = Folder::new("listens-last");
    let file = folder.file("calls");
    // A path is executed once, and a name once for each folder of PATH.
    let options = ["--workers", "3", "--framing", "lines", "--", "/bin/sh", "-c", "exec cat"];
    stop_traced(serve_traced(&["--trace=execve,listen"], &file, &options));
    let calls = fs::read_to_string(file).unwrap();
    let (before, _) = calls.split_once(" listen(").expect(&calls);
    // Not that of repd, which has its arguments too.
    assert_eq!(before.matches("[\"/bin/sh\", ").count(), 3, "{calls}");
}
