//! What is logged where.

mod common;

use std::io::Read;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Instant;

use common::{Client, Folder, Killed, LIMIT, Process, REPD, time_limit, without_time};
use nix::pty::openpty;
use nix::sys::signal::Signal::SIGTERM;

/// Does the same, and says where the journal is that its standard error leads to: by device and
/// inode.
fn of_the_journal(command: Command) -> Command {
    let shell = "JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec \"$0\" \"$@\"";
    let mut journaled = Command::new("sh");
    journaled.args(["-c", shell]).arg(command.get_program()).args(command.get_args());
    journaled
}

/// Returns the log of a service that has answered one request.
fn log(options: &[&str], journal: bool) -> String {
    let mut command = Command::new(REPD);
    command.args(["serve", "--listen", "tcp://127.0.0.1:*"]).args(options);
    command.env_remove("JOURNAL_STREAM");
    let mut command = if journal { of_the_journal(command) } else { command };
    let mut service = Process::run(&mut command);
    assert_eq!(Client::req(&service.endpoint).ask_text("hello\n"), "\nolleh");
    service.signal(SIGTERM);
    assert_eq!(service.wait().code(), Some(0));
    service.rest_of_log()
}

#[test]
fn start_and_stop_are_told_and_requests_only_when_asked() {
    let _limit = time_limit(60);
    for workers in ["5", "0"] {
        let quiet = log(&["--workers", workers], false);
        let lines: Vec<&str> = quiet.lines().collect();
        assert_eq!(lines.len(), 3, "{quiet}");
        assert!(lines[0].starts_with("info: listening on tcp://127.0.0.1:"));
        assert!(lines[1].starts_with("info: stopping"));
        assert_eq!(lines[2], "info: stopped: requests: 1, replies: 1");
        let verbose = log(&["--workers", workers, "--verbose"], false);
        let number = if workers == "0" { "0" } else { "1" };
        for line in [
            format!("debug: worker {number}: request \"hello\\n\" (frames: 1, bytes: 6)"),
            format!("debug: worker {number}: reply \"\\nolleh\" (frames: 1, bytes: 6)"),
        ] {
            assert!(verbose.lines().any(|logged| logged == line), "{verbose}");
        }
    }
}

#[test]
fn a_line_has_its_time_where_nothing_else_adds_it() {
    let _limit = time_limit(60);
    let mut command = Command::new(REPD);
    command.args(["serve", "--listen", "ipc:///no/such/dir/x"]).env_remove("JOURNAL_STREAM");
    let failed = command.output().unwrap();
    let line = String::from_utf8(failed.stderr).unwrap();
    let (time, rest) = line.split_once(' ').unwrap();
    assert!(rest.starts_with("error: cannot listen on"), "{line}");
    // RFC 3339, with milliseconds, in UTC.
    let mut date = Command::new("date");
    date.args(["--utc", "--date", time, "+%Y-%m-%dT%H:%M:%S.%3NZ"]);
    let date = date.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&date.stdout).trim_end(), time);
}

#[test]
fn under_systemd_each_line_carries_its_priority() {
    let _limit = time_limit(60);
    let logged = log(&["--verbose"], true);
    assert!(logged.starts_with("<6>listening on "), "{logged}");
    assert!(logged.contains("\n<7>worker 1: request"), "{logged}");
    assert!(logged.lines().all(|line| line.starts_with("<6>") || line.starts_with("<7>")));
    let fails = || {
        let mut command = Command::new(REPD);
        command.args(["serve", "--listen", "ipc:///no/such/dir/x"]);
        command
    };
    let failed = of_the_journal(fails()).output().unwrap();
    assert!(failed.stderr.starts_with(b"<3>cannot listen on"), "{failed:?}");
    // A mistake in the options too, though no log was started.
    let mut mistaken = Command::new(REPD);
    mistaken.args(["serve", "--workers", "x"]);
    let mistaken = of_the_journal(mistaken).output().unwrap();
    assert!(mistaken.stderr.starts_with(b"<3>error parsing"), "{mistaken:?}");
    // Its standard error goes elsewhere than that of who started it.
    let elsewhere = fails().env("JOURNAL_STREAM", "8:12345").output().unwrap();
    let line = String::from_utf8(elsewhere.stderr).unwrap();
    assert!(without_time(&line).starts_with("error: cannot listen on"), "{line}");
}

/// Runs `repd serve` with that folder as its /dev, in a mount namespace of its own; none with a
/// word where that cannot be had.
fn with_dev(dev: &Folder, options: &[&str]) -> Option<Command> {
    let run_with = |program: &[&str]| {
        let mut command = Command::new("unshare");
        let shell = "mount --bind \"$0\" /dev && exec \"$@\"";
        command.args(["--map-root-user", "--mount", "sh", "-c", shell]).arg(&dev.0).args(program);
        command
    };
    let can = run_with(&["true"]).output().is_ok_and(|run| run.status.success());
    if !can {
        common::skipped("no namespace can be had with a syslog of its own");
        return None;
    }
    Some(run_with(&[&[REPD, "serve", "--log", "syslog"], options].concat()))
}

#[test]
fn syslog_gets_the_lines_with_facility_daemon() {
    let _limit = time_limit(60);
    let (dev, folder) = (Folder::new("dev"), Folder::new("syslog"));
    let Some(mut without) = with_dev(&dev, &["--listen", "tcp://127.0.0.1:*"]) else { return };
    let without = without.output().unwrap();
    let said = String::from_utf8_lossy(&without.stderr).into_owned();
    assert_eq!(without.status.code(), Some(2));
    assert!(said.contains("start one, or use --log stderr"), "{said}");
    let bind = || {
        let syslog = UnixDatagram::bind(dev.file("log")).unwrap();
        syslog.set_read_timeout(Some(LIMIT)).unwrap();
        syslog
    };
    let line = |socket: &UnixDatagram| {
        let mut bytes = [0; 1024];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    let syslog = bind();
    let endpoint = format!("ipc://{}", folder.file("s"));
    let mut service =
        with_dev(&dev, &["--listen", &endpoint]).unwrap().spawn().map(Killed).unwrap();
    // Facility daemon is 3: 3 * 8 + 6 for info (RFC 3164, section 4.1.1).
    let first = line(&syslog);
    assert!(first.starts_with("<30>") && first.contains("listening on ipc://"), "{first}");
    // The daemon is started again, with another socket.
    drop(syslog);
    std::fs::remove_file(dev.file("log")).unwrap();
    let syslog = bind();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(service.0.id() as i32), SIGTERM).unwrap();
    let second = line(&syslog);
    assert!(second.contains("stopping"), "{second}");
    service.0.wait().unwrap();
}

#[test]
fn nobody_who_reads_the_log_does_not_stop_the_service() {
    let _limit = time_limit(60);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let endpoint = format!("ipc://@repd-unread-{}", std::process::id());
    let mut service = Command::new(REPD)
        .args(["serve", "--verbose", "--listen", &endpoint])
        .stderr(writer)
        .spawn()
        .map(Killed)
        .unwrap();
    let client = Client::req(&endpoint);
    // Many times what a pipe holds.
    (0..3000).for_each(|_| assert_eq!(client.ask_text("ab"), "ba"));
    let mut some = [0; 60_000];
    reader.read_exact(&mut some).unwrap();
    assert_eq!(client.ask_text("ab"), "ba");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(service.0.id() as i32), SIGTERM).unwrap();
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert!(service.0.wait().unwrap().success());
    assert!(rest.contains("warning: log lines lost, since nobody read them: "), "{rest}");
    assert!(rest.trim_end().ends_with("stopped: requests: 3001, replies: 3001"), "{rest}");
}

#[test]
fn lines_that_come_again_and_again_are_summed_up() {
    const REQUESTS: usize = 40;
    let _limit = time_limit(60);
    let start = Instant::now();
    let mut service = Process::start(&["--framing", "once", "--", "false"]);
    let client = Client::req(&service.endpoint);
    (0..REQUESTS).for_each(|_| assert_eq!(client.ask(&[b"a"])[1], b"500"));
    service.signal(SIGTERM);
    assert_eq!(service.wait().code(), Some(0));
    let log = service.rest_of_log();
    let number = |text: &str| text.split(' ').next().unwrap().parse::<usize>().unwrap();
    let lines: Vec<&str> =
        log.lines().filter(|line| line.contains("the program \"false\" failed")).collect();
    let more = lines.iter().filter_map(|line| line.split("(and ").nth(1)).map(number);
    let left_out =
        log.lines().filter_map(|line| line.split("repeated log lines left out: ").nth(1));
    let counted = lines.len() + more.sum::<usize>() + left_out.map(number).sum::<usize>();
    assert_eq!(counted, REQUESTS, "{log}");
    assert!(lines.len() as u64 <= 11 + start.elapsed().as_secs(), "{log}");
}

/// As a terminal is whose output somebody has stopped, or whose window hangs.
#[test]
fn a_terminal_that_takes_nothing_does_not_stop_the_service() {
    let _limit = time_limit(60);
    let terminal = openpty(None, None).unwrap();
    let endpoint = format!("ipc://@repd-held-{}", std::process::id());
    let mut service = Command::new(REPD)
        .args(["serve", "--verbose", "--listen", &endpoint])
        .stderr(terminal.slave)
        .spawn()
        .map(Killed)
        .unwrap();
    let client = Client::req(&endpoint);
    // Many times what a terminal takes.
    (0..3000).for_each(|_| assert_eq!(client.ask_text("ab"), "ba"));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(service.0.id() as i32), SIGTERM).unwrap();
    assert!(service.0.wait().unwrap().success());
}

#[test]
fn a_worker_that_passes_its_deadline_is_told_of_and_so_is_a_pool_of_them() {
    let _limit = time_limit(60);
    let mut service = Process::sleepy(&["--workers", "2", "--timeout", "0.1"]);
    let client = Client::req(&service.endpoint);
    for (worker, all) in [(1, false), (2, true)] {
        client.send(&[b"never"]);
        assert_eq!(client.receive_code(), 504);
        let line = service.wait_for_line("warning: worker ");
        assert!(line.contains(&format!("worker {worker}: its request has passed")), "{line}");
        if all {
            service.wait_for_line("warning: every worker or upstream is stuck in requests that have passed their deadline: requests");
        }
    }
}
