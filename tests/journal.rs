//! What systemd's journal gets of `--log journal`, from a journal of the test.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::thread::spawn;

use common::raw::Raw;
use common::{Client, Folder, Killed, LIMIT, time_limit, until, with_folder};
use nix::sys::signal::Signal::{self, SIGTERM};
use nix::sys::signal::kill;
use nix::unistd::Pid;

type Fields = BTreeMap<String, String>;

/// A folder that a service has as its /run, with a journal in it.
struct Run(Folder);

impl Run {
    fn new(name: &str) -> Run {
        let run = Run(Folder::new(&format!("journal-{name}")));
        fs::create_dir_all(run.0.0.join("systemd/journal")).unwrap();
        run
    }

    fn socket(&self) -> String {
        self.0.file("systemd/journal/socket")
    }

    /// Starts a journal, in the place of another that has ended.
    fn journal(&self) -> Journal {
        let _ = fs::remove_file(self.socket());
        let socket = UnixDatagram::bind(self.socket()).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        Journal(socket)
    }

    /// Returns the command of a service; none with a word where there can be none.
    fn serve(&self, options: &[&str]) -> Option<Command> {
        with_folder(&self.0, "/run", &[&["serve", "--log", "journal"], options].concat())
    }

    /// Starts it.
    fn start(&self, options: &[&str]) -> Option<Service> {
        let child = self.serve(options)?.stderr(Stdio::piped()).spawn().unwrap();
        Some(Service(Killed(child)))
    }
}

struct Service(Killed);

impl Service {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.0.id() as i32), signal).unwrap();
    }

    /// Stops it, and returns its standard error.
    fn stop(mut self) -> String {
        self.signal(SIGTERM);
        let mut stderr = self.0.0.stderr.take().unwrap();
        assert!(self.0.0.wait().unwrap().success());
        std::io::read_to_string(&mut stderr).unwrap()
    }
}

struct Journal(UnixDatagram);

impl Journal {
    /// Receives the fields of the next line, each of which has the length of its value.
    fn next(&self) -> Fields {
        let mut bytes = [0; 8192];
        let length = self.0.recv(&mut bytes).unwrap();
        let mut rest = &bytes[..length];
        let mut fields = Fields::new();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (name, value) = (&rest[..end], &rest[end + 9..]);
            let size = u64::from_le_bytes(rest[end + 1..end + 9].try_into().unwrap()) as usize;
            assert_eq!(value[size], b'\n');
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            fields.insert(text(name), text(&value[..size]));
            rest = &value[size + 1..];
        }
        assert!(rest.is_empty(), "{rest:?}");
        assert_eq!(fields["SYSLOG_IDENTIFIER"], "repd");
        fields
    }

    /// Receives lines until one whose text contains `text`.
    fn wait_for(&self, text: &str) -> Fields {
        loop {
            let fields = self.next();
            if fields["MESSAGE"].contains(text) {
                return fields;
            }
        }
    }
}

/// Returns the endpoint that the line `listening on` has.
fn endpoint(started: &Fields) -> String {
    started["MESSAGE"].split("listening on ").nth(1).unwrap().into()
}

#[test]
fn the_journal_gets_each_line_with_its_fields() {
    let _limit = time_limit(60);
    let run = Run::new("fields");
    let journal = run.journal();
    let options = ["--listen", "tcp://127.0.0.1:*", "--log-level", "debug", "--workers", "1"];
    let Some(service) = run.start(&options) else { return };
    let started = journal.wait_for("listening on ");
    assert_eq!((&started["PRIORITY"][..], &started["REPD_EVENT"][..]), ("6", "start"));
    assert_eq!(started["MESSAGE_ID"], "df012abbfc144d3cb187a112ff16e832");
    let endpoint = endpoint(&started);
    let client = Client::req(&endpoint);
    assert_eq!(client.ask_text("\n\u{1b}"), "\u{1b}\n");
    let received = journal.wait_for("request 1: from 127.0.0.1: \"\\n\\x1b\"");
    assert_eq!((&received["REPD_PEER"][..], &received["REPD_REQUEST"][..]), ("127.0.0.1", "1"));
    assert!(!received.contains_key("REPD_CLIENT") && !received.contains_key("MESSAGE_ID"));
    assert_eq!(journal.wait_for("worker 1: reply ")["REPD_WORKER"], "1");
    // No client.
    let mut stranger = Raw::connect(&endpoint);
    stranger.send(&[b'x'; 100]);
    stranger.rest();
    assert_eq!(client.ask_text("ab"), "ba");
    let refused = journal.wait_for("it does not speak ZMTP, but begins with xxxx");
    assert_eq!(refused["MESSAGE_ID"], "2a28c256b1774469a8f02e7b52812694");
    assert_eq!(refused["PRIORITY"], "4");
    assert_eq!(refused["REPD_PEER"], "127.0.0.1");
    // Another journal comes.
    drop(journal);
    let journal = run.journal();
    let said = service.stop();
    assert_eq!(journal.wait_for("stopping")["REPD_EVENT"], "stopping");
    assert_eq!(journal.wait_for("stopped: ")["MESSAGE_ID"], "c1b504c5180347918cbc94c578cbb8bb");
    assert_eq!(said, "");
}

#[test]
fn a_journal_that_takes_nothing_or_is_gone_does_not_stop_the_service() {
    let _limit = time_limit(60);
    let run = Run::new("unread");
    let journal = run.journal();
    let options = ["--listen", "tcp://127.0.0.1:*", "--verbose"];
    let Some(service) = run.start(&options) else { return };
    let client = Client::req(&endpoint(&journal.wait_for("listening on ")));
    // Many times what its queue takes.
    let ask = || (0..1000).for_each(|_| assert_eq!(client.ask_text("ab"), "ba"));
    ask();
    // What it has is read, and then there is room for the word about what it has not.
    journal.wait_for("request 1: answered");
    assert_eq!(client.ask_text("ab"), "ba");
    let lost = journal.wait_for("log lines lost");
    let number = lost["MESSAGE"].rsplit(' ').next().unwrap().parse::<usize>().unwrap();
    assert!(number > 1000 && lost["PRIORITY"] == "4", "{lost:?}");
    drop(journal);
    ask();
    fs::remove_file(run.socket()).unwrap();
    ask();
    let journal = run.journal();
    // Though nobody asks any more.
    journal.wait_for("log lines lost");
    service.stop();
    journal.wait_for("stopped: requests: 3001, replies: 3001");
}

#[test]
fn an_error_is_on_standard_error_too() {
    let _limit = time_limit(60);
    let run = Run::new("errors");
    let options = ["--listen", "ipc:///no/such/dir/x"];
    let Some(mut service) = run.serve(&options) else { return };
    let failed = service.output().unwrap();
    assert_eq!(failed.status.code(), Some(2));
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(
        said.contains("cannot reach the journal") && said.contains("use --log stderr"),
        "{said}"
    );
    let journal = run.journal();
    let failed = service.output().unwrap();
    assert_eq!(failed.status.code(), Some(2));
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    let error = journal.wait_for("cannot listen on ");
    assert!(error["PRIORITY"] == "3" && said.trim_end().ends_with(&error["MESSAGE"]), "{said}");
}

#[test]
fn without_a_worker_it_is_not_ready_until_one_has_come() {
    let _limit = time_limit(60);
    let run = Run::new("ready");
    let journal = run.journal();
    let options = ["--listen", "tcp://127.0.0.1:*", "--backend", "tcp://127.0.0.1:*"];
    let Some(service) = run.start(&options) else { return };
    let workers = journal.wait_for("workers connect to ");
    let workers = workers["MESSAGE"].split("connect to ").nth(1).unwrap().to_string();
    let client = Client::req(&endpoint(&journal.wait_for("listening on ")));
    assert_eq!(client.ask(&[b"a"])[1], b"503");
    let refusing = journal.wait_for("requests are refused");
    assert_eq!(refusing["MESSAGE_ID"], "8c7e65b1cc574012903736b3b3d86108");
    let worker = Client::new(zmq::REP, &workers);
    spawn(move || {
        loop {
            worker.receive();
            worker.send(&[b"b"]);
        }
    });
    until("the worker answers", || client.ask(&[b"a"]) == [b"b"]);
    let ready = journal.wait_for("requests are answered again");
    assert_eq!(ready["MESSAGE_ID"], "fe99dbb41f1d47b1bba55b63f8cc0a55");
    service.stop();
}
