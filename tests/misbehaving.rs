//! Programs that misbehave: what the client gets, what other clients do not notice, and that
//! nothing is left.

mod common;

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::scope;

use common::{Client, Folder, Process, REPD, code, processes_with, time_limit, until};
use nix::sys::signal::Signal::{SIGKILL, SIGTERM};

/// Echoes, but for requests that ask for something else.
const PROGRAM: &str = r#"
import os, signal, struct, sys, time
source, sink = sys.stdin.buffer, sys.stdout.buffer
def packet(body):
    return struct.pack(">I", len(body)) + body
def write(output):
    sink.write(output)
    sink.flush()
def stall():
    while True: time.sleep(3600)
os.write(2, b"ready\n")
while head := source.read(4):
    request = source.read(*struct.unpack(">I", head))
    match request:
        case b"exit": os._exit(3)
        case b"killed": os.kill(os.getpid(), signal.SIGKILL)
        case b"garbage": write(b"\xff" * 100)
        case b"half":
            write(packet(b"half a reply")[:8])
            stall()
        case b"half and exit":
            write(packet(b"half a reply")[:8])
            os._exit(0)
        case b"twice": write(packet(b"one") + packet(b"two"))
        case b"too long": write(packet(b"x" * 1048577))
        case b"closes":
            os.close(1)
            stall()
        case b"flood":
            for _ in range(100): os.write(2, (b"x" * 1023 + b"\n") * 1024)
            write(packet(b"flooded"))
        case b"fork":
            if os.fork() == 0: stall()
            os._exit(0)
        case b"fork and reply":
            if os.fork() == 0: stall()
            write(packet(b"forked"))
            os._exit(0)
        case b"stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            stall()
        case b"escape":
            os.setpgid(0, os.getpgid(os.getppid()))
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            stall()
        case gate if gate.startswith(b"wait for "):
            while not os.path.exists(gate[9:]): time.sleep(0.001)
            write(packet(request))
        case b"deaf":
            write(packet(b"deaf"))
            stall()
        case b"late":
            write(packet(b"in time"))
            write(packet(b"unasked"))
        case _: write(packet(request))
"#;

/// A service with a program, whose processes are known by a mark in their environment.
struct Marked {
    service: Process,
    mark: String,
}

impl Marked {
    fn start(name: &str, options: &[&str], program: &[&str]) -> Marked {
        Marked::start_by(Command::new(REPD), name, options, program)
    }

    /// Starts it by a command that ends with the path of repd.
    fn start_by(mut command: Command, name: &str, options: &[&str], program: &[&str]) -> Marked {
        let mark = format!("REPD_TEST={name}-{}", std::process::id());
        let (variable, value) = mark.split_once('=').unwrap();
        command.args(["serve", "--listen", "tcp://127.0.0.1:*"]).args(options);
        command.arg("--").args(program).env(variable, value);
        Marked { service: Process::run(&mut command), mark }
    }

    /// Waits until that many copies have said on standard error that they are ready.
    fn await_ready(&mut self, copies: usize) {
        let is_ready = |line: &&String| line.ends_with(": ready");
        while self.service.log.iter().filter(is_ready).count() < copies {
            self.service.wait_for_line(": ready");
        }
    }

    /// Stops the service, and sees that nothing of it is left. Gives its log.
    fn stop(mut self) -> String {
        self.service.signal(SIGTERM);
        let status = self.service.wait();
        let log = self.service.rest_of_log();
        assert_eq!(status.code(), Some(0), "{log}");
        // The last ones were killed, which takes the system a moment.
        until("nothing is left", || processes_with(&self.mark).is_empty());
        log
    }
}

/// Asks for misbehaviour while other clients ask for echoes, which all must come. Gives what came.
fn ask_beside_others(endpoint: &str, requests: &[&[u8]]) -> Vec<Vec<Vec<u8>>> {
    let (done, echoes) = (AtomicBool::new(false), AtomicUsize::new(0));
    scope(|threads| {
        for other in 0..2 {
            let (done, echoes) = (&done, &echoes);
            threads.spawn(move || {
                let client = Client::req(endpoint);
                for number in 0.. {
                    let text = format!("client {other}, request {number}");
                    assert_eq!(client.ask(&[text.as_bytes()]), [text.as_bytes()]);
                    echoes.fetch_add(1, Ordering::Relaxed);
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
        }
        until("the others are at work", || echoes.load(Ordering::Relaxed) > 20);
        let client = Client::req(endpoint);
        let replies = requests.iter().map(|request| client.ask(&[request])).collect();
        let before = echoes.load(Ordering::Relaxed);
        until("the others go on", || echoes.load(Ordering::Relaxed) > before + 20);
        done.store(true, Ordering::Relaxed);
        replies
    })
}

/// Has a program misbehave at `request`, beside others, and sees that the reply and the log are as
/// expected.
fn misbehave(timeout: &str, request: &[u8], expected: Result<&str, u16>, says: &str) {
    let name = String::from_utf8_lossy(request).replace(' ', "-");
    let options = ["--workers", "4", "--timeout", timeout];
    let mut marked = Marked::start(&name, &options, &["python3", "-c", PROGRAM]);
    marked.await_ready(4);
    let replies = ask_beside_others(&marked.service.endpoint, &[request, b"after"]);
    match expected {
        Ok(text) => assert_eq!(replies[0], [text.as_bytes()], "{name}"),
        Err(expected) => assert_eq!(code(&replies[0]), Some(expected), "{name}: {replies:?}"),
    }
    assert_eq!(replies[1], [b"after"], "{name}");
    let log = marked.stop();
    assert!(log.contains(says), "{name}: {log}");
}

#[test]
fn whatever_a_program_does_its_client_is_told_and_no_other_client_notices() {
    let _limit = time_limit(300);
    for (request, expected, says) in [
        (&b"exit"[..], Err(502), "it ended before it replied (exit status: 3)"),
        (b"killed", Err(502), "it ended before it replied (signal: 9"),
        (b"garbage", Err(500), "its reply is longer than 1048576 bytes"),
        (b"half and exit", Err(502), "it ended before it replied"),
        (b"twice", Err(500), "after its reply; is the length before that right? it must write one"),
        (b"too long", Err(500), "its reply is longer than 1048576 bytes"),
        (b"closes", Err(502), "it ended before it replied"),
        (b"flood", Ok("flooded"), ": xxx"),
        (b"fork", Err(502), "it ended before it replied (exit status: 0)"),
        (b"fork and reply", Ok("forked"), "it ended (exit status: 0)"),
    ] {
        misbehave("3600", request, expected, says);
    }
}

#[test]
fn a_program_that_stalls_is_late_and_no_other_client_notices() {
    let _limit = time_limit(60);
    scope(|threads| {
        for (request, says) in [
            (&b"half"[..], "the deadline passed before it replied"),
            (b"escape", "the deadline passed before it replied; starting"),
            (b"stubborn", "the deadline passed before it replied; starting"),
        ] {
            // Only who stalls is to be late, also on a machine that has other things to do.
            threads.spawn(|| misbehave("8", request, Err(504), says));
        }
    });
}

/// A pipe holds 64 KiB: the second request cannot be written.
#[test]
fn a_program_that_does_not_read_its_input_is_a_504() {
    let _limit = time_limit(60);
    let options = ["--workers", "1", "--timeout", "4"];
    let marked = Marked::start("deaf", &options, &["python3", "-c", PROGRAM]);
    let client = Client::req(&marked.service.endpoint);
    for _ in 0..2 {
        until("the program is there", || client.ask(&[b"deaf"]) == [b"deaf"]);
        assert_eq!(code(&client.ask(&[&vec![b'x'; 1 << 20]])), Some(504));
    }
    marked.stop();
}

#[test]
fn what_a_program_says_unasked_is_no_reply_to_the_next_request() {
    let _limit = time_limit(60);
    let mut marked = Marked::start("late", &["--workers", "1"], &["python3", "-c", PROGRAM]);
    let client = Client::req(&marked.service.endpoint);
    for _ in 0..3 {
        // What comes together with the reply breaks it; what comes after it ends the program.
        let reply = client.ask(&[b"late"]);
        assert!(reply == [b"in time"] || code(&reply) == Some(500), "{reply:?}");
        marked.service.wait_for_line("starting it again");
        until("it is there again", || {
            let reply = client.ask(&[b"a"]);
            assert!(reply == [b"a"] || code(&reply) == Some(503), "{reply:?}");
            reply == [b"a"]
        });
    }
    marked.stop();
}

#[test]
fn a_program_that_exits_after_each_tenth_request_serves_all_others() {
    let _limit = time_limit(120);
    let program = PROGRAM.replace("while head", "count = 0\nwhile head").replace(
        "    match request:",
        "    count += 1\n    if count == 10: write(packet(request)); os._exit(0)\n    match request:",
    );
    for (retries, lost) in [("0", &[502, 503][..]), ("5", &[503])] {
        let options = ["--workers", "3", "--retries", retries];
        let marked = Marked::start("tenth", &options, &["python3", "-c", &program]);
        let client = Client::req(&marked.service.endpoint);
        let mut served = 0;
        for number in 0..300 {
            let text = format!("request {number}");
            let reply = client.ask(&[text.as_bytes()]);
            match code(&reply) {
                None => {
                    assert_eq!(reply, [text.as_bytes()]);
                    served += 1;
                }
                Some(code) => assert!(lost.contains(&code), "{reply:?}"),
            }
        }
        assert!(served >= 250, "{served}");
        let log = marked.stop();
        assert!(log.contains("it ended (exit status: 0); starting it again\n"), "{log}");
    }
}

#[test]
fn a_program_that_keeps_dying_is_started_less_and_less_and_requests_hear_so_at_once() {
    let _limit = time_limit(60);
    let mut marked =
        Marked::start("dying", &["--workers", "2", "--timeout", "20"], &["sh", "-c", "exit 3"]);
    let lost = "worker 1: lost the program \"sh\": it ended (exit status: 3); starting it again";
    marked.service.wait_for_line(&format!("{lost} in 0.8 s"));
    let log = marked.service.log.join("\n");
    let pauses: Vec<&str> = log.lines().filter_map(|line| line.split(lost).nth(1)).collect();
    assert_eq!(pauses, ["", " in 0.1 s", " in 0.2 s", " in 0.4 s", " in 0.8 s"]);
    let client = Client::req(&marked.service.endpoint);
    until("both are down", || code(&client.ask(&[b"a"])) == Some(503));
    assert_eq!(code(&client.ask(&[b"a"])), Some(503));
    marked.stop();
}

#[test]
fn a_program_that_vanishes_is_missed_and_found_again_when_it_is_back() {
    let _limit = time_limit(120);
    let folder = Folder::new("vanishing");
    let (path, away) = in_a_file(&folder);
    for trap in ["", "trap '' CHLD; "] {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{trap}exec \"$@\""), "sh", REPD]);
        let mut marked = Marked::start_by(shell, "vanishing", &["--workers", "2"], &[&path]);
        let client = Client::req(&marked.service.endpoint);
        assert_eq!(client.ask_text("a"), "a");
        fs::rename(&path, &away).unwrap();
        until("both are lost", || code(&client.ask(&[b"exit"])) == Some(503));
        marked.service.wait_for_line(": No such file or directory; trying");
        fs::rename(&away, &path).unwrap();
        until("it is back", || client.ask(&[b"b"]) == [b"b"]);
        marked.stop();
    }
}

/// Dies of a request as often as it is told, and notes each time.
fn mortal(folder: &Folder, times: usize) -> String {
    let notes = folder.file("notes");
    let _ = fs::remove_file(&notes);
    PROGRAM.replace(
        "    match request:",
        &format!(
            "    if request == b'die':\n        n = open({notes:?}, 'a+'); n.write('x'); n.flush(); \
             n.seek(0)\n        if len(n.read()) <= {times}: os._exit(1)\n    match request:"
        ),
    )
}

#[test]
fn a_lost_request_is_given_to_another_as_often_as_is_allowed_and_no_oftener() {
    let _limit = time_limit(60);
    let folder = Folder::new("retries");
    for (retries, deaths, expected) in
        [("0", 1, Some(502)), ("1", 1, None), ("1", 2, Some(502)), ("3", 3, None)]
    {
        let program = mortal(&folder, deaths);
        let options = ["--workers", "5", "--retries", retries];
        let marked = Marked::start("retries", &options, &["python3", "-c", &program]);
        let client = Client::req(&marked.service.endpoint);
        let reply = client.ask(&[b"die"]);
        assert_eq!(code(&reply), expected, "{retries}, {deaths}: {reply:?}");
        let tries = fs::read_to_string(folder.file("notes")).unwrap().len();
        let allowed = retries.parse::<usize>().unwrap() + 1;
        assert_eq!(tries, allowed.min(deaths + 1), "{retries}, {deaths}");
        assert_eq!(client.ask_text("a"), "a");
        let log = marked.stop();
        let told = log.split("retried: ").nth(1).and_then(|rest| rest.split_whitespace().next());
        let expected = (tries > 1).then(|| (tries - 1).to_string());
        assert_eq!(told, expected.as_deref(), "{log}");
    }
}

/// Puts a program into a file, which can be away.
fn in_a_file(folder: &Folder) -> (String, String) {
    let (path, away) = (folder.file("program.py"), folder.file("away"));
    // By its own path: there is not everywhere an env that has one.
    let python = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
    let python = String::from_utf8(python.unwrap().stdout).unwrap();
    fs::write(&path, format!("#!{python}{PROGRAM}")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    (path, away)
}

/// Of requests behind one another at the same worker, only the one that the program was at is lost.
/// Its worker cannot answer the others: the program cannot be started again.
#[test]
fn what_waits_behind_a_request_that_is_lost_is_given_to_others() {
    let _limit = time_limit(60);
    let folder = Folder::new("behind");
    let (path, away) = in_a_file(&folder);
    for _ in 0..5 {
        let marked = Marked::start("behind", &["--workers", "2", "--timeout", "20"], &[&path]);
        let client = Client::dealer(&marked.service.endpoint);
        let ask_quick = |n: usize| (0..n).for_each(|_| client.send(&[b"quick"]));
        // So many that each worker is trusted with some at a time.
        ask_quick(1000);
        (0..1000).for_each(|_| assert_eq!(client.receive(), [b"quick"]));
        fs::rename(&path, &away).unwrap();
        ask_quick(100);
        client.send(&[b"exit"]);
        ask_quick(100);
        let replies: Vec<_> = (0..201).map(|_| client.receive()).collect();
        let lost = replies.iter().filter(|reply| code(reply) == Some(502)).count();
        let echoes = replies.iter().filter(|reply| **reply == [b"quick"]).count();
        assert_eq!((lost, echoes), (1, 200));
        fs::rename(&away, &path).unwrap();
        marked.stop();
    }
}

/// The same where there is only one, and nobody is free to take it at once.
#[test]
fn what_waits_alone_behind_a_request_that_is_lost_is_given_to_others() {
    let _limit = time_limit(120);
    let folder = Folder::new("alone");
    let (path, away) = in_a_file(&folder);
    for round in 0..5 {
        let options = ["--workers", "2", "--timeout", "20", "--verbose"];
        let mut marked = Marked::start("alone", &options, &[&path]);
        let (client, other) =
            (Client::dealer(&marked.service.endpoint), Client::req(&marked.service.endpoint));
        // So many that both workers are trusted with more than one at a time.
        for _ in 0..10 {
            (0..100).for_each(|_| client.send(&[b"quick"]));
            (0..100).for_each(|_| assert_eq!(client.receive(), [b"quick"]));
        }
        fs::rename(&path, &away).unwrap();
        let gate = folder.file(&format!("gate-{round}"));
        let wait = format!("wait for {gate}");
        other.send(&[wait.as_bytes()]);
        marked.service.wait_for_line("request \"wait for ");
        client.send(&[b"exit"]);
        client.send(&[b"quick"]);
        assert_eq!(client.receive_code(), 502);
        fs::write(&gate, "").unwrap();
        assert_eq!(other.receive(), [wait.as_bytes()]);
        assert_eq!(client.receive(), [b"quick"]);
        fs::rename(&away, &path).unwrap();
        marked.stop();
    }
}

#[test]
fn a_killed_service_leaves_no_program_whether_it_looks_at_its_input_or_not() {
    let _limit = time_limit(60);
    for program in [&["python3", "-c", PROGRAM][..], &["sleep", "3600"]] {
        let mut marked = Marked::start("killed-service", &["--workers", "3"], program);
        until("all are there", || processes_with(&marked.mark).len() == 4);
        marked.service.signal(SIGKILL);
        marked.service.wait();
        until("none is there", || processes_with(&marked.mark).is_empty());
    }
}

#[test]
fn a_stop_ends_programs_that_do_not_look_at_their_input_and_those_past_its_limit() {
    let _limit = time_limit(60);
    let stubborn = "trap '' TERM; echo ready >&2; sleep 3600; sleep 3600";
    let mut marked = Marked::start("stop", &["--workers", "2"], &["sh", "-c", stubborn]);
    marked.await_ready(2);
    assert!(marked.stop().contains("had to be killed"));
    // In a request that takes longer than the stop may.
    let options = ["--workers", "2", "--drain", "0.2", "--verbose"];
    let mut marked = Marked::start("stop-limit", &options, &["python3", "-c", PROGRAM]);
    let client = Client::req(&marked.service.endpoint);
    client.send(&[b"stubborn"]);
    marked.service.wait_for_line("request \"stubborn\"");
    marked.service.signal(SIGTERM);
    assert_eq!(client.receive_code(), 503);
    assert_eq!(marked.service.wait().code(), Some(1));
    until("none is there", || processes_with(&marked.mark).is_empty());
    // The second signal ends the service at once.
    let options = ["--workers", "2", "--verbose"];
    let mut marked = Marked::start("stop-twice", &options, &["python3", "-c", PROGRAM]);
    let client = Client::req(&marked.service.endpoint);
    client.send(&[b"stubborn"]);
    marked.service.wait_for_line("request \"stubborn\"");
    marked.service.signal(SIGTERM);
    marked.service.wait_for_line("stopping");
    marked.service.signal(SIGTERM);
    assert_eq!(marked.service.wait().code(), Some(143));
    until("none is there", || processes_with(&marked.mark).is_empty());
}

/// However little time the stop has: what takes time then is not blamed on clients.
#[test]
fn programs_that_have_to_be_killed_do_not_make_a_stop_fail() {
    let _limit = time_limit(120);
    let stubborn = "trap '' TERM; while read -r line; do echo \"$line\"; done; sleep 3600";
    for workers in ["2", "0"] {
        for drain in ["0", "1", "5"] {
            let options = ["--framing", "lines", "--workers", workers, "--drain", drain];
            let marked = Marked::start("killed-at-stop", &options, &["sh", "-c", stubborn]);
            assert_eq!(Client::req(&marked.service.endpoint).ask_text("a"), "a");
            marked.stop();
        }
    }
}

/// A copy that is killed at the stop's limit is not followed by another.
#[test]
fn nothing_is_started_while_the_service_stops() {
    let _limit = time_limit(60);
    let options = ["--workers", "2", "--drain", "0.5", "--verbose"];
    // The shell is its leader, so that what it starts is not killed by the system.
    let shell = "python3 -c \"$0\"; true";
    let mut marked = Marked::start("stop-restart", &options, &["sh", "-c", shell, PROGRAM]);
    let client = Client::req(&marked.service.endpoint);
    assert_eq!(client.ask_text("a"), "a");
    client.send(&[b"stubborn"]);
    marked.service.wait_for_line("request \"stubborn\"");
    marked.service.signal(SIGTERM);
    assert_eq!(client.receive_code(), 503);
    assert_eq!(marked.service.wait().code(), Some(1));
    let log = marked.service.rest_of_log();
    let (_, after) = log.split_once("stopping").unwrap();
    assert!(!after.contains("the program is running"), "{log}");
    until("none is there", || processes_with(&marked.mark).is_empty());
}

/// What it writes in the end is written.
#[test]
fn a_program_has_a_moment_to_end_however_short_the_stop() {
    let _limit = time_limit(60);
    let folder = Folder::new("moment");
    let file = folder.file("ended");
    let program = "while read -r line; do echo \"$line\"; done; sleep 0.1; echo > \"$0\"";
    for workers in ["1", "0"] {
        let options = ["--framing", "lines", "--workers", workers, "--drain", "0"];
        let marked = Marked::start("moment", &options, &["sh", "-c", program, &file]);
        assert_eq!(Client::req(&marked.service.endpoint).ask_text("a"), "a");
        assert!(!marked.stop().contains("had to be killed"));
        fs::remove_file(&file).unwrap();
    }
}

/// With a log that nobody reads, and programs that say much, of which two lines are more than what
/// a pipe that has room has room for: none of their threads may wait for it.
#[test]
fn a_log_that_nobody_reads_does_not_stop_chatty_programs_nor_the_service() {
    let _limit = time_limit(60);
    let program = "import os\nwhile line := os.read(0, 4096):\n    \
                   os.write(2, (b'x' * 3800 + b'\\n') * 20)\n    os.write(1, line)";
    let endpoint = format!("ipc://@repd-chatty-{}", std::process::id());
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut child = common::Killed(
        Command::new(REPD)
            .args(["serve", "--listen", &endpoint, "--workers", "8", "--framing", "lines"])
            .args(["--", "python3", "-c", program])
            .stderr(writer)
            .spawn()
            .unwrap(),
    );
    let client = Client::dealer(&endpoint);
    // What a thread is in, by the system's number: proc_pid_syscall(5).
    let writes = format!("{} ", nix::libc::SYS_write);
    let waits_for_reader = || {
        let threads = fs::read_dir(format!("/proc/{}/task", child.0.id())).unwrap();
        let in_call = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("syscall"));
        threads.flatten().any(|thread| in_call(thread).is_ok_and(|call| call.starts_with(&writes)))
    };
    // Each time the pipe fills up, it may be two that want the last of its room.
    for _ in 0..60 {
        (0..16).for_each(|_| client.send(&[b"a"]));
        (0..16).for_each(|_| assert_eq!(client.receive(), [b"a"]));
        until("no thread waits for the reader", || !waits_for_reader());
        reader.read_exact(&mut [0; 40_000]).unwrap();
    }
    (0..16).for_each(|_| client.send(&[b"a"]));
    (0..16).for_each(|_| assert_eq!(client.receive(), [b"a"]));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.0.id() as i32), SIGTERM).unwrap();
    let mut status = None;
    until("it ends", || {
        status = child.0.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(0));
    drop(reader);
}
