//! What systemd is told by the service, and when: sd_notify(3) and the watchdog.

mod common;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use common::keys::Keys;
use common::{Client, Folder, LIMIT, Process, REPD, processes_with, sleepy, time_limit, until};
use nix::sys::signal::Signal::{SIGCONT, SIGHUP, SIGTERM};

/// A service manager that only listens.
struct Manager {
    socket: UnixDatagram,
    folder: Folder,
}

impl Manager {
    fn new(name: &str) -> Manager {
        let folder = Folder::new(name);
        let socket = UnixDatagram::bind(folder.file("notify")).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        Manager { socket, folder }
    }

    fn start(&self, command: &mut Command) -> Process {
        Process::run(command.env("NOTIFY_SOCKET", self.folder.file("notify")))
    }

    /// Returns the lines of the next message.
    fn next(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).expect("the service manager is told nothing");
        String::from_utf8(bytes[..length].to_vec()).unwrap().lines().map(String::from).collect()
    }

    /// Waits for the next message with a line that begins like that, and returns the line.
    fn wait_for(&self, start: &str) -> String {
        loop {
            if let Some(line) = self.next().into_iter().find(|line| line.starts_with(start)) {
                return line;
            }
        }
    }

    /// Drops what it was told so far.
    fn forget(&self) {
        self.rest();
    }

    /// Returns the lines that it was told so far.
    fn rest(&self) -> Vec<String> {
        let (mut lines, mut bytes) = (Vec::new(), [0; 4096]);
        self.socket.set_nonblocking(true).unwrap();
        while let Ok(length) = self.socket.recv(&mut bytes) {
            let text = str::from_utf8(&bytes[..length]).unwrap();
            lines.extend(text.lines().map(String::from));
        }
        self.socket.set_nonblocking(false).unwrap();
        lines
    }
}

fn serve(options: &[&str]) -> Command {
    let mut command = Command::new(REPD);
    command.args(["serve", "--listen", "tcp://127.0.0.1:*"]).args(options);
    command
}

fn sleeping(options: &[&str]) -> Command {
    let mut command = Command::new(sleepy());
    command.args(["serve", "--listen", "tcp://127.0.0.1:*"]).args(options);
    command
}

#[test]
fn systemd_is_told_what_the_service_does() {
    let _limit = time_limit(60);
    let manager = Manager::new("told");
    for workers in ["3", "0"] {
        let mut service = manager.start(&mut serve(&["--workers", workers]));
        let serving = format!("STATUS=serving at {}; workers: {workers}", service.endpoint);
        assert_eq!(manager.next(), ["READY=1".to_string(), serving]);
        service.signal(SIGTERM);
        assert_eq!(manager.next(), ["STOPPING=1", "STATUS=draining; requests in flight: 0"]);
        assert_eq!(service.wait().code(), Some(0));
        manager.forget();
    }
}

#[test]
fn systemd_is_told_that_there_is_nobody_to_answer() {
    let _limit = time_limit(60);
    let manager = Manager::new("nobody");
    let back = Process::start(&[]);
    let (_held, refusing) = common::refusing();
    let service = manager.start(&mut serve(&["--upstream", &refusing]));
    let why = "STATUS=not ready: no worker or upstream is connected; serving at ";
    manager.wait_for(why);
    drop(service);
    manager.forget();
    let _service = manager.start(&mut serve(&["--upstream", &back.endpoint]));
    manager.wait_for("STATUS=serving at ");
    drop(back);
    manager.wait_for(why);
}

#[test]
fn systemd_waits_for_a_reload_until_it_is_done() {
    let _limit = time_limit(60);
    let manager = Manager::new("reloading");
    let keys = Keys::new("reloading");
    keys.write("clients", &format!("pump-7 {}\n", keys.public("pump-7")));
    let [key, clients] = [keys.path("service.key_secret"), keys.path("clients")];
    let listed = ["--key", &key, "--clients", &clients].map(|it| it.to_string());
    let listed: Vec<&str> = listed.iter().map(String::as_str).collect();
    for workers in ["1", "0"] {
        for options in [&listed[..], &[]] {
            let service = manager.start(&mut serve(&[&["--workers", workers], options].concat()));
            manager.wait_for("READY=1");
            for _ in 0..3 {
                service.signal(SIGHUP);
                let told = manager.next();
                assert_eq!(told[0], "RELOADING=1");
                let time = told[1].strip_prefix("MONOTONIC_USEC=").unwrap();
                let uptime = fs::read_to_string("/proc/uptime").unwrap();
                let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
                assert!(time.parse::<f64>().unwrap() / 1e6 <= uptime + 1.0, "{told:?}");
                assert_eq!(manager.next(), ["READY=1"]);
            }
            drop(service);
            manager.forget();
        }
    }
}

#[test]
fn systemd_waits_for_what_is_in_flight_and_no_longer() {
    let _limit = time_limit(60);
    let manager = Manager::new("extended");
    for workers in ["1", "0"] {
        let options = ["--workers", workers, "--drain", "3600", "--verbose"];
        let mut service = manager.start(&mut sleeping(&options));
        let client = Client::dealer(&service.endpoint);
        client.send(&[b"2500"]);
        service.wait_for_line("request \"2500\"");
        service.signal(SIGTERM);
        assert_eq!(manager.wait_for("EXTEND_TIMEOUT_USEC="), "EXTEND_TIMEOUT_USEC=15000000");
        client.receive();
        assert_eq!(service.wait().code(), Some(0));
        manager.forget();
    }
    // With nothing in flight there is nothing to wait for.
    let mut service = manager.start(&mut serve(&[]));
    service.signal(SIGTERM);
    assert_eq!(service.wait().code(), Some(0));
    let told = manager.rest();
    assert_eq!(told.len(), 4, "{told:?}");
}

/// Sets what the service manager says of the watchdog.
fn watched<'a>(command: &'a mut Command, microseconds: &str) -> &'a mut Command {
    command.env("WATCHDOG_USEC", microseconds)
}

#[test]
fn the_watchdog_hears_of_a_loop_that_turns_and_of_no_other() {
    let _limit = time_limit(10);
    let manager = Manager::new("watchdog");
    let service = manager.start(watched(&mut serve(&[]), "20000"));
    // Nobody asks anything, and otherwise it would sleep.
    for _ in 0..100 {
        manager.wait_for("WATCHDOG=1");
    }
    service.halt();
    manager.forget();
    manager.socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let error = manager.socket.recv(&mut [0; 64]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    manager.socket.set_read_timeout(Some(LIMIT)).unwrap();
    service.signal(SIGCONT);
    manager.wait_for("WATCHDOG=1");
}

#[test]
fn a_watchdog_of_another_process_or_of_a_single_threaded_service_hears_nothing() {
    let _limit = time_limit(60);
    let manager = Manager::new("no-watchdog");
    let stop = |mut service: Process| {
        assert_eq!(Client::req(&service.endpoint).ask_text("ab"), "ba");
        service.signal(SIGTERM);
        assert_eq!(service.wait().code(), Some(0));
        manager.rest()
    };
    let told = stop(manager.start(watched(&mut serve(&[]), "2000").env("WATCHDOG_PID", "1")));
    assert!(!told.iter().any(|line| line.starts_with("WATCHDOG")), "{told:?}");
    // The unit asks for one, and a handler may take any time.
    let told = stop(manager.start(watched(&mut serve(&["--workers", "0"]), "2000")));
    assert!(told[0] == "WATCHDOG_USEC=0" && !told.contains(&"WATCHDOG=1".into()), "{told:?}");
    // As systemd sets it.
    let exec = ["-c", "WATCHDOG_PID=$$ exec \"$0\" \"$@\"", REPD];
    let mut command = Command::new("sh");
    command.args(exec).args(["serve", "--listen", "tcp://127.0.0.1:*"]);
    let _service = manager.start(watched(&mut command, "2000"));
    manager.wait_for("WATCHDOG=1");
}

#[test]
fn a_service_manager_that_does_not_read_holds_nobody_up_and_is_told_later() {
    let _limit = time_limit(60);
    let manager = Manager::new("unread");
    let filler = UnixDatagram::unbound().unwrap();
    filler.set_nonblocking(true).unwrap();
    while filler.send_to(b"X=1", manager.folder.file("notify")).is_ok() {}
    let service = manager.start(watched(&mut serve(&[]), "2000"));
    for _ in 0..100 {
        assert_eq!(Client::req(&service.endpoint).ask_text("ab"), "ba");
    }
    manager.wait_for("READY=1");
    manager.wait_for("WATCHDOG=1");
    drop(service);
    // One that is gone, and an address that is none.
    for address in ["@repd-no-such-manager", "", "relative", &"x".repeat(200)] {
        let mut service = Process::run(serve(&[]).env("NOTIFY_SOCKET", address));
        assert_eq!(Client::req(&service.endpoint).ask_text("ab"), "ba");
        service.signal(SIGTERM);
        assert_eq!(service.wait().code(), Some(0), "{address}");
    }
}

#[test]
fn programs_are_told_nothing_of_systemd() {
    let _limit = time_limit(60);
    let manager = Manager::new("programs");
    let own = format!("REPD_TEST_OF={}", std::process::id());
    let shown = "env; sed -n 's/^Pid:/LISTENS /p' /proc/self/status";
    let mut command = serve(&["--framing", "once", "--multipart", "--", "sh", "-c", shown]);
    let (name, value) = own.split_once('=').unwrap();
    command.env(name, value).env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "clients");
    command.env("LISTEN_PID", "1").env("WATCHDOG_PID", "1").env("JOURNAL_STREAM", "1:2");
    let service = manager.start(watched(&mut command, "30000000"));
    let said = Client::req(&service.endpoint).ask(&[b""]);
    let said: Vec<_> = said.iter().map(|frame| String::from_utf8_lossy(frame)).collect();
    let said = said.join("\n");
    assert!(said.contains(&own), "{said}");
    for name in ["NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_", "JOURNAL_STREAM"] {
        assert!(!said.contains(name), "{name}: {said}");
    }
    until("the program has ended", || processes_with(&own).len() == 1);
}
