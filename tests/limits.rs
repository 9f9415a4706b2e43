//! What repd says where the system gives it too little: one line, and no core.

mod common;

use std::fs::{self, File, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use common::{Folder, Process, REPD, time_limit, without_time};
use nix::unistd::{dup, geteuid};

/// Holds a copy of repd that any user may run, and a user who has no other process.
struct Limited {
    folder: Folder,
    repd: PathBuf,
    user: u32,
}

impl Limited {
    /// Makes the copy, for a test with this number. Limits of processes count those of a user, so
    /// no two tests may share one.
    fn new(test: u32) -> Limited {
        let folder = Folder::new(&format!("limits-{test}"));
        fs::set_permissions(&folder.0, Permissions::from_mode(0o777)).unwrap();
        let repd = folder.0.join("repd");
        fs::copy(REPD, &repd).unwrap();
        Limited { folder, repd, user: 10_000_000 * test + std::process::id() }
    }

    /// Runs a command within a limit of prlimit(1), and returns whether it could do its work. If
    /// it could not, it must have said so.
    fn runs(&self, limit: &str, arguments: &[&str]) -> bool {
        let mut command = Command::new("prlimit");
        if geteuid().is_root() {
            // Limits of processes do not bind root.
            command.uid(self.user).gid(65534);
        }
        let run =
            command.arg(limit).arg(&self.repd).args(arguments).current_dir("/").output().unwrap();
        let said = String::from_utf8(run.stderr).unwrap();
        let (info, error): (Vec<_>, Vec<_>) =
            said.lines().map(without_time).partition(|line| line.starts_with("info: "));
        match run.status.code() {
            Some(0) => true,
            Some(2) if error.len() == 1 && error[0].starts_with("error: ") => false,
            _ => panic!("{limit} {arguments:?}: {}: {info:?} {error:?}", run.status),
        }
    }
}

#[test]
fn with_too_few_threads_or_files_it_says_so_and_exits() {
    let _limit = time_limit(300);
    let limited = Limited::new(1);
    let service = Process::start(&[]);
    let endpoint = service.endpoint.as_str();
    let check = ["serve", "--check", "--listen", "tcp://127.0.0.1:*"];
    let commands = [
        check.to_vec(),
        [&check[..], &["--workers", "0"]].concat(),
        [&check[..], &["--backend", "tcp://127.0.0.1:*", "--io-threads", "3"]].concat(),
        [&check[..], &["--upstream", endpoint]].concat(),
        vec!["call", endpoint, "ab"],
        vec!["bench", endpoint, "--clients", "1", "--requests", "10", "--warmup", "0"],
        vec!["bench", endpoint, "--clients", "2", "--requests", "10", "--warmup", "0"],
    ];
    for command in &commands {
        // Who has other processes, as an ordinary user who runs this has, may have none at all.
        let few: Vec<bool> =
            (1..=10).map(|n| limited.runs(&format!("--nproc={n}"), command)).collect();
        assert!(!few[0] && (few[9] || !geteuid().is_root()), "{command:?}: {few:?}");
        let few: Vec<bool> = [4, 5, 6, 7, 8, 9, 10, 11, 90]
            .map(|n| limited.runs(&format!("--nofile={n}"), command))
            .to_vec();
        assert!(!few[0] && few[8], "{command:?}: {few:?}");
        // What it was started with counts too.
        let nothing = File::open("/dev/null").unwrap();
        let mut inherited: Vec<OwnedFd> = Vec::new();
        while inherited.len() < 80 && limited.runs("--nofile=90", command) {
            inherited.push(dup(&nothing).unwrap());
        }
        let more = |n: usize| {
            inherited.extend((0..n).map(|_| dup(&nothing).unwrap()));
            limited.runs("--nofile=90", command)
        };
        let few = [1; 10].map(more);
        // Of two clients, one may use the files that the other has done with.
        let always_needs_as_many = !command.contains(&"2");
        assert!(!always_needs_as_many || few.iter().all(|runs| !runs), "{command:?}: {few:?}");
    }
}

#[test]
fn a_bench_that_cannot_start_its_last_thread_ends_the_others() {
    let _limit = time_limit(60);
    if !geteuid().is_root() {
        common::skipped("it takes root to be a user who has no other process");
        return;
    }
    let limited = Limited::new(3);
    let service = Process::start(&[]);
    let load = ["bench", &service.endpoint, "--clients", "2", "--warmup", "0"];
    let runs = |n: usize, end: [&str; 2]| {
        limited.runs(&format!("--nproc={n}"), &[&load[..], &end].concat())
    };
    let enough = (1..=10).find(|n| runs(*n, ["--requests", "10"])).unwrap();
    assert!(!runs(enough - 1, ["--duration", "600"]));
}

#[test]
fn with_too_few_threads_no_program_is_started() {
    let _limit = time_limit(60);
    if !geteuid().is_root() {
        common::skipped("it takes root to be a user who has no other process");
        return;
    }
    let limited = Limited::new(2);
    let started = limited.folder.file("started");
    let program = format!("touch {started}; exec cat");
    let listen = ["serve", "--workers", "1", "--listen", "tcp://127.0.0.1:*"];
    let command = [&listen[..], &["--framing", "lines", "--", "sh", "-c", &program]].concat();
    // It takes itself, a thread of libzmq's for clients, one for the workers, and one for each
    // worker.
    (1..=3).for_each(|n| assert!(!limited.runs(&format!("--nproc={n}"), &command)));
    assert!(!PathBuf::from(started).exists());
}
