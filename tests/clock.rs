//! A wall clock that is set: forward by years, as when a device without a battery hears of the time,
//! and back.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use common::keys::Keys;
use common::status::Status;
use common::{Client, Folder, LIMIT, Process, REPD, skipped, sleepy, time_limit, until};
use serde_json::Value;

/// The wall clock of the services that it starts.
struct Clock {
    folder: Folder,
    ahead: File,
}

impl Clock {
    /// Makes one that is right. If there is none to be had, reports that the test is skipped; in CI
    /// it fails.
    fn new(test: &str) -> Option<Clock> {
        let folder = Folder::new(&format!("clock-{test}"));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clock.c");
        let library = folder.file("clock.so");
        let built = Command::new("cc").args(["-shared", "-fPIC", "-o", &library, source]).output();
        if !built.is_ok_and(|built| built.status.success()) {
            assert!(std::env::var_os("CI").is_none(), "install a C compiler");
            skipped("there is no C compiler");
            return None;
        }
        fs::write(folder.file("ahead"), 0_i64.to_ne_bytes()).unwrap();
        let ahead = File::options().write(true).open(folder.file("ahead")).unwrap();
        Some(Clock { folder, ahead })
    }

    /// Returns what starts `program` as a service with that clock.
    fn command(&self, program: impl AsRef<Path>, options: &[&str]) -> Command {
        let mut command = Command::new(program.as_ref());
        command.args(["serve", "--listen=tcp://127.0.0.1:*", "--status=tcp://127.0.0.1:*"]);
        command.args(options);
        command.env("LD_PRELOAD", self.folder.file("clock.so"));
        command.env("REPD_TEST_CLOCK", self.folder.file("ahead"));
        command
    }

    /// Sets it to the begin of that day in UTC.
    fn set(&self, day: &str) {
        let time = |text: &str| humantime::parse_rfc3339(text).unwrap();
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
        let then = time(&format!("{day}T00:00:00Z")).duration_since(SystemTime::UNIX_EPOCH);
        let ahead = then.unwrap().as_secs() as i64 - now;
        self.ahead.write_all_at(&ahead.to_ne_bytes(), 0).unwrap();
    }

    /// Sets it right.
    fn set_right(&self) {
        self.ahead.write_all_at(&0_i64.to_ne_bytes(), 0).unwrap();
    }
}

fn is_in_flight(status: &Status, requests: usize) {
    status.until("they are in flight", |shown| shown["requests"]["in_flight"] == requests);
}

#[test]
fn a_clock_that_is_set_forward_ends_no_time_before_it_is_over() {
    let _limit = time_limit(60);
    let Some(clock) = Clock::new("forward") else { return };
    let service = Process::run(&mut clock.command(sleepy(), &["--workers=2", "--timeout=600"]));
    let status = Status::of(&service);
    let [slow, quick] = [(); 2].map(|()| Client::req(&service.endpoint));
    slow.send(&[b"never"]);
    is_in_flight(&status, 1);
    clock.set("2038-01-20");
    for _ in 0..100 {
        assert_eq!(quick.ask_text("0"), "0");
    }
    // What is shown may be of a moment ago.
    let is_set = |shown: &Value| shown["time"].as_str().unwrap().starts_with("2038-01-20T00:");
    let shown = status.until("it has the new time", is_set);
    assert!(shown["uptime_seconds"].as_f64().unwrap() < 1e6, "{shown}");
    assert_eq!((&shown["state"], &shown["requests"]["in_flight"]), (&"serving".into(), &1.into()));
    assert_eq!(status.get("/readyz").0, 200);
}

#[test]
fn a_clock_that_is_set_back_holds_up_no_deadline_no_rate_and_no_watchdog() {
    let _limit = time_limit(60);
    let Some(clock) = Clock::new("back") else { return };
    let notify = clock.folder.file("notify");
    let manager = UnixDatagram::bind(&notify).unwrap();
    manager.set_read_timeout(Some(LIMIT)).unwrap();
    let options = ["--workers=2", "--timeout=1", "--client-rate=1"];
    let mut command = clock.command(sleepy(), &options);
    let service = Process::run(command.env("NOTIFY_SOCKET", notify).env("WATCHDOG_USEC", "20000"));
    let [slow, quick] = [(); 2].map(|()| Client::req(&service.endpoint));
    until("it asks too often", || common::code(&quick.ask(&[b"0"])) == Some(429));
    slow.send(&[b"never"]);
    is_in_flight(&Status::of(&service), 1);
    clock.set("1971-01-01");
    assert_eq!(slow.receive_code(), 504);
    until("it may ask again", || quick.ask_text("0") == "0");
    let mut buffer = [0; 1024];
    // What was sent before is read too.
    manager.set_nonblocking(true).unwrap();
    while manager.recv(&mut buffer).is_ok() {}
    manager.set_nonblocking(false).unwrap();
    let mut heard = 0;
    while heard < 10 {
        let length = manager.recv(&mut buffer).expect("the watchdog hears nothing");
        heard += usize::from(buffer[..length] == *b"WATCHDOG=1");
    }
}

#[test]
fn a_key_is_valid_by_the_wall_clock_however_often_that_is_set() {
    let _limit = time_limit(60);
    let (keys, Some(clock)) = (Keys::new("clock"), Clock::new("keys")) else { return };
    let listed = [("until", "2037-12-31"), ("later", "2038-02-01"), ("ever", "9999-12-31")];
    let line = |(name, day)| format!("{} until={day}\n", keys.make(name).trim_end());
    let clients = keys.write("clients", &listed.map(line).concat());
    let key = keys.path("service.key_secret");
    let service = Process::run(&mut clock.command(REPD, &["--key", &key, "--clients", &clients]));
    let is_let_in = || {
        let call = |name| keys.call(&service.endpoint, name).status.success();
        ["until", "later", "ever"].map(call)
    };
    let connected = || {
        let (client, watch) = keys.watched(zmq::REQ, &service.endpoint, "until");
        assert_eq!(client.ask_text("ab"), "ba");
        (client, watch)
    };
    assert_eq!(is_let_in(), [true; 3]);
    // The first time the clock is right, the second time it was set back from there.
    for _ in 0..2 {
        let (_client, watch) = connected();
        clock.set("2038-01-20");
        assert_eq!(is_let_in(), [false, true, true]);
        watch.wait();
        clock.set("2038-02-03");
        assert_eq!(is_let_in(), [false, false, true]);
        clock.set_right();
        assert_eq!(is_let_in(), [true; 3]);
    }
}
