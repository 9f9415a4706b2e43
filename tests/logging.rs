//! What is logged where.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Instant;

use common::keys::Keys;
use common::{Client, Folder, Killed, LIMIT, Process, REPD, time_limit, with_folder, without_time};
use nix::pty::openpty;
use nix::sys::signal::Signal::{SIGHUP, SIGTERM};
use nix::sys::signal::kill;
use nix::unistd::Pid;

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

/// Runs `repd serve` with that folder as its /dev; none with a word where that cannot be had.
fn with_dev(dev: &Folder, options: &[&str]) -> Option<Command> {
    with_folder(dev, "/dev", &[&["serve", "--log", "syslog"], options].concat())
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
fn a_syslog_that_takes_nothing_does_not_stop_the_service() {
    let _limit = time_limit(60);
    let dev = Folder::new("unread-dev");
    let syslog = UnixDatagram::bind(dev.file("log")).unwrap();
    let endpoint = format!("ipc://@repd-unread-syslog-{}", std::process::id());
    let Some(mut service) = with_dev(&dev, &["--verbose", "--listen", &endpoint]) else { return };
    let mut service = service.spawn().map(Killed).unwrap();
    let client = Client::req(&endpoint);
    (0..3000).for_each(|_| assert_eq!(client.ask_text("ab"), "ba"));
    syslog.set_read_timeout(Some(LIMIT)).unwrap();
    let mut bytes = [0; 8192];
    let mut is_told = || {
        let length = syslog.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).contains("log lines lost, since nobody read them")
    };
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(service.0.id() as i32), SIGTERM).unwrap();
    while !is_told() {}
    assert!(service.0.wait().unwrap().success());
}

#[test]
fn nobody_who_reads_the_log_does_not_stop_the_service() {
    let _limit = time_limit(60);
    for format in ["text", "json"] {
        nobody_reads(format);
    }
}

fn nobody_reads(format: &str) {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let endpoint = format!("ipc://@repd-unread-{format}-{}", std::process::id());
    let mut service = Command::new(REPD)
        .args(["serve", "--verbose", "--log-format", format, "--listen", &endpoint])
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
    assert!(rest.contains("log lines lost, since nobody read them: "), "{rest}");
    let last = rest.lines().last().unwrap();
    assert!(last.contains("stopped: requests: 3001, replies: 3001"), "{last}");
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
    let counted = lines.len() + more.sum::<usize>();
    assert_eq!(counted, REQUESTS, "{log}");
    assert!(lines.len() as u64 <= 12 + start.elapsed().as_secs(), "{log}");
}

#[test]
fn what_was_left_out_last_is_told_soon() {
    let _limit = time_limit(60);
    let keys = Keys::new("last-line");
    let mut service = keys.serve(&[]);
    let mut reload = |clients: &str, said: &str| {
        keys.write("clients", clients);
        service.signal(SIGHUP);
        service.wait_for_line(said)
    };
    let line = format!("pump-7 {}\n", keys.public("pump-7"));
    // As many as are logged at once; of more than that one a second.
    (0..10).for_each(|_| drop(reload(&line, "clients: 1 (+0 -0)")));
    reload("", "clients: 0 (+0 -1)");
    reload(&line, "clients: 1 (+1 -0)");
}

#[test]
fn lines_below_the_level_are_not_logged() {
    let _limit = time_limit(60);
    for (level, lines) in [("error", 0), ("warning", 1), ("info", 4)] {
        let endpoint = format!("ipc://@repd-level-{level}-{}", std::process::id());
        let options = ["--listen", &endpoint, "--listen", "tcp://0.0.0.0:*", "--log-level", level];
        let mut command = Command::new(REPD);
        command.arg("serve").args(options).env_remove("JOURNAL_STREAM").stderr(Stdio::piped());
        let service = command.spawn().unwrap();
        assert_eq!(Client::req(&endpoint).ask_text("ab"), "ba");
        let pid = nix::unistd::Pid::from_raw(service.id() as i32);
        nix::sys::signal::kill(pid, SIGTERM).unwrap();
        let ended = service.wait_with_output().unwrap();
        assert!(ended.status.success());
        let log = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(log.lines().count(), lines + usize::from(level == "info"), "{log}");
        assert_eq!(log.contains(" warning: whoever reaches "), lines > 0, "{log}");
    }
}

#[test]
fn with_json_each_line_is_an_object_whatever_a_program_or_a_client_writes() {
    let _limit = time_limit(60);
    let nasty = "\"\\\u{1b}\u{0}\r\t\u{202e}é👩";
    let folder = Folder::new("json");
    let program = folder.file("program");
    let long = "\"".repeat(10_000);
    let text = [nasty.as_bytes(), b"\xff\xfe\n", long.as_bytes(), b"\n"].concat();
    std::fs::write(folder.file("says"), text).unwrap();
    std::fs::write(&program, format!("cat {} >&2; cat", folder.file("says"))).unwrap();
    let options = ["--workers", "1", "--log-format", "json", "--verbose", "--framing", "once"];
    let mut command = Command::new(REPD);
    command.args(["serve", "--listen", "tcp://127.0.0.1:*"]).args(options);
    command.args(["--", "sh", &program]).env_remove("JOURNAL_STREAM").stderr(Stdio::piped());
    let mut service = command.spawn().map(Killed).unwrap();
    let mut lines = BufReader::new(service.0.stderr.take().unwrap()).lines().map(|line| {
        let line = line.unwrap();
        assert!(line.len() < 4096, "{line}");
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(object["time"].as_str().unwrap().ends_with('Z'), "{line}");
        object
    });
    let mut wait_for =
        |text: &str| lines.find(|line| line["message"].as_str().unwrap().contains(text)).unwrap();
    let started = wait_for("listening on ");
    assert_eq!((&started["level"], &started["event"]), (&"info".into(), &"start".into()));
    let endpoint = started["message"].as_str().unwrap().split("on ").nth(1).unwrap();
    assert_eq!(Client::req(endpoint).ask_text(nasty), nasty);
    let received = wait_for("request 1: from 127.0.0.1: ");
    assert_eq!((&received["request"], &received["level"]), (&1.into(), &"debug".into()));
    let said = wait_for("program says: ");
    let escaped = "says: \"\\\\u{1b}\\u{0}\\r\\t\\u{202e}é👩\\xff\\xfe";
    assert!(said["message"].as_str().unwrap().ends_with(escaped), "{said}");
    let long = wait_for("says: \"\"\"");
    assert!(long["worker"] == 1 && long["message"].as_str().unwrap().ends_with("\"..."), "{long}");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(service.0.id() as i32), SIGTERM).unwrap();
    wait_for("stopped: ");
    assert!(service.0.wait().unwrap().success());
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

#[test]
fn a_log_file_that_may_not_grow_ends_no_service() {
    let _limit = time_limit(60);
    let folder = Folder::new("log-file");
    let endpoint = format!("ipc://{}", folder.file("clients"));
    let serve = "ulimit -f 1; exec \"$0\" serve --listen \"$1\" --log-level debug 2>\"$2\"";
    let mut service = Command::new("env")
        .args(["--default-signal=XFSZ", "sh", "-c", serve, REPD, &endpoint, &folder.file("log")])
        .spawn()
        .unwrap();
    let client = Client::req(&endpoint);
    for _ in 0..100 {
        assert_eq!(client.ask_text("ab"), "ba");
    }
    assert!((1..=1024).contains(&fs::metadata(folder.file("log")).unwrap().len()));
    kill(Pid::from_raw(service.id() as i32), SIGTERM).unwrap();
    assert_eq!(service.wait().unwrap().code(), Some(0));
}
