//! How many system calls a request takes when nothing else is going on.

mod common;

use std::env;
use std::fs;
use std::process::Command;

use common::{Client, Folder, Process, REPD, skipped, time_limit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Returns how many system calls a service with these options makes in its life, in which it answers
/// so many requests of a lone client.
fn system_calls(options: &[&str], requests: usize) -> usize {
    let folder = Folder::new("system-calls");
    let counts = folder.file("counts");
    let strace = ["--follow-forks", "--summary-only", "--quiet=all", "--output", &counts];
    let serve = [REPD, "serve", "--listen", "tcp://127.0.0.1:*"];
    let mut service = Process::run(Command::new("strace").args(strace).args(serve).args(options));
    let client = Client::req(&service.endpoint);
    (0..requests).for_each(|_| assert_eq!(client.ask_text("abc"), "cba"));
    drop(client);
    // strace's own signals are not passed on.
    let pid = service.pid();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let child: i32 = children.trim().parse().unwrap();
    kill(Pid::from_raw(child), Signal::SIGTERM).unwrap();
    assert_eq!(service.wait().code(), Some(0));
    // The last line: percent, seconds, microseconds a call, calls, perhaps errors, "total".
    let counts = fs::read_to_string(counts).unwrap();
    let total = counts.lines().rfind(|line| line.ends_with("total")).unwrap();
    total.split_whitespace().nth(3).unwrap().parse().unwrap()
}

#[test]
fn a_request_takes_few_system_calls() {
    let _limit = time_limit(120);
    const REQUESTS: usize = 2000;
    if !Command::new("strace").arg("true").output().is_ok_and(|run| run.status.success()) {
        assert!(env::var_os("CI").is_none(), "install strace, and allow ptrace(2)");
        skipped("there is no strace, or it may not trace");
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
