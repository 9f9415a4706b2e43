//! Programs as handlers: what they are given, what comes of what they say, and what the examples do.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use common::{Client, Folder, Process, code, repd, time_limit};

/// `repd serve` with these options and that program.
fn serve(options: &[&str], program: &[&str]) -> Process {
    Process::start(&[options, &["--"], program].concat())
}

/// The body of a request of that number, the same each time: up to 64 KiB, more of them small.
fn body(number: u64, letter: fn(&mut fastrand::Rng) -> u8) -> Vec<u8> {
    let mut dice = fastrand::Rng::with_seed(number);
    let most = 1_usize << dice.u32(0..=16);
    let length = dice.usize(0..=most);
    (0..length).map(|_| letter(&mut dice)).collect()
}

/// Asks 100,000 times, a hundred at a time, and compares each reply with what is expected of it.
fn hammer(
    service: &Process,
    letter: fn(&mut fastrand::Rng) -> u8,
    expected: fn(Vec<u8>) -> Vec<u8>,
) {
    const REQUESTS: u64 = 100_000;
    let client = Client::dealer(&service.endpoint);
    let send = |number: u64| {
        let message = [number.to_be_bytes().to_vec(), vec![], body(number, letter)];
        client.socket.send_multipart(message, 0).unwrap();
    };
    (0..100).for_each(send);
    let mut seen = vec![false; REQUESTS as usize];
    for next in 100..REQUESTS + 100 {
        let reply = client.socket.recv_multipart(0).expect("a reply");
        let number = u64::from_be_bytes(reply[0][..].try_into().unwrap());
        assert!(!std::mem::replace(&mut seen[number as usize], true), "{number} came twice");
        assert_eq!(reply.len(), 3, "{number}");
        assert!(reply[2] == expected(body(number, letter)), "{number} is another's or nobody's");
        if next < REQUESTS {
            send(next);
        }
    }
}

fn any_byte(dice: &mut fastrand::Rng) -> u8 {
    dice.u8(..)
}

fn a_letter(dice: &mut fastrand::Rng) -> u8 {
    dice.u8(b' '..=b'~')
}

fn backwards(mut body: Vec<u8>) -> Vec<u8> {
    body.reverse();
    body
}

const REVERSE_PACKETS: &str = r#"
import struct, sys
while head := sys.stdin.buffer.read(4):
    body = sys.stdin.buffer.read(*struct.unpack(">I", head))
    sys.stdout.buffer.write(head + body[::-1])
    sys.stdout.buffer.flush()
"#;

const REVERSE_LINES: &str = r#"
import sys
for line in sys.stdin.buffer:
    sys.stdout.buffer.write(line[-2::-1] + b"\n")
    sys.stdout.buffer.flush()
"#;

const REVERSE_IN_C: &str = r"
#include <arpa/inet.h>
#include <stdio.h>
int main(void) {
    static char body[1 << 20];
    unsigned head;
    while (fread(&head, 4, 1, stdin) == 1) {
        unsigned length = ntohl(head);
        if (fread(body, 1, length, stdin) != length) return 1;
        fwrite(&head, 4, 1, stdout);
        while (length > 0) putchar(body[--length]);
        fflush(stdout);
    }
}
";

fn compiled(folder: &Folder, name: &str, source: &str) -> String {
    let (text, binary) = (folder.file(&format!("{name}.c")), folder.file(name));
    fs::write(&text, source).unwrap();
    let cc = Command::new("cc").args(["-O2", "-o", &binary, &text]).output().unwrap();
    assert!(cc.status.success(), "{cc:?}");
    binary
}

#[test]
fn of_100_000_requests_to_a_python_program_each_gets_its_own_reply() {
    let _limit = time_limit(300);
    hammer(&serve(&[], &["python3", "-c", REVERSE_PACKETS]), any_byte, backwards);
}

#[test]
fn of_100_000_requests_to_a_c_program_each_gets_its_own_reply() {
    let _limit = time_limit(300);
    let folder = Folder::new("programs-c");
    hammer(&serve(&[], &[&compiled(&folder, "reverse", REVERSE_IN_C)]), any_byte, backwards);
}

#[test]
fn of_100_000_lines_to_a_program_each_gets_its_own_reply() {
    let _limit = time_limit(300);
    let service = serve(&["--framing", "lines"], &["python3", "-c", REVERSE_LINES]);
    hammer(&service, a_letter, backwards);
}

#[test]
fn requests_of_several_frames_go_to_programs_that_are_said_to_take_them() {
    let _limit = time_limit(60);
    // Gives back what it gets, and so the marks of its frames.
    let copy = ["python3", "-u", "-c", "import os\nwhile b := os.read(0, 65536): os.write(1, b)"];
    let service = serve(&["--multipart"], &copy);
    let client = Client::req(&service.endpoint);
    for request in [&[&b"one"[..]][..], &[b"one", b"", b"three"], &[b"", b""]] {
        assert_eq!(client.ask(request), request);
    }
    let service = serve(&[], &copy);
    let client = Client::req(&service.endpoint);
    assert_eq!(code(&client.ask(&[b"one", b"two"])), Some(400));
    assert_eq!(client.ask(&[b"one"]), [b"one"]);
    let service = serve(&["--framing", "lines"], &["cat"]);
    let client = Client::req(&service.endpoint);
    assert_eq!(code(&client.ask(&[b"one\ntwo"])), Some(400));
    assert_eq!(client.ask(&[b"one"]), [b"one"]);
}

#[test]
fn once_is_a_program_for_each_request() {
    let _limit = time_limit(60);
    let program = r#"text=$(cat; printf x); printf '%s %s %s' "$REPD_FRAMES" "$#" "${text%x}"
        case $text in wrong*) exit 3;; lost*) kill -9 $$;; esac"#;
    let service = serve(&["--framing", "once", "--multipart"], &["sh", "-c", program, "sh", "a b"]);
    let client = Client::req(&service.endpoint);
    assert_eq!(client.ask(&[b"one\n"]), [b"4 1 one\n"]);
    assert_eq!(client.ask(&[b"one", b"", b"three"]), [b"3 0 5 1 onethree"]);
    assert_eq!(client.ask(&[b""]), [b"0 1 "]);
    assert_eq!(code(&client.ask(&[b"wrong"])), Some(500));
    assert_eq!(code(&client.ask(&[b"lost"])), Some(500));
    let large = vec![b'x'; 1 << 20];
    let service = serve(&["--framing", "once"], &["cat"]);
    let client = Client::req(&service.endpoint);
    assert!(client.ask(&[&large]) == [&large[..]]);
    assert_eq!(code(&client.ask(&[b"one", b"two"])), Some(400));
    // It may close its output before it has read.
    let program = "exec >&-; cat >/dev/null";
    let service = serve(&["--framing", "once"], &["sh", "-c", program]);
    assert_eq!(Client::req(&service.endpoint).ask(&[&large]), [b""]);
    // It need not read what it is given.
    let service = serve(&["--framing", "once"], &["echo", "done"]);
    assert_eq!(Client::req(&service.endpoint).ask(&[&large]), [b"done\n"]);
}

#[test]
fn a_single_threaded_server_may_have_a_program_too() {
    let _limit = time_limit(60);
    let program = "import os\nfor n in range(3): os.write(1, os.read(0, 65536))";
    let mut service = serve(&["--workers", "0", "--framing", "lines"], &["python3", "-c", program]);
    let client = Client::req(&service.endpoint);
    for round in 0..9 {
        let text = format!("request {round}");
        common::until("the program is there again", || {
            let reply = client.ask(&[text.as_bytes()]);
            assert!(reply == [text.as_bytes()] || code(&reply).is_some(), "{reply:?}");
            code(&reply).is_none()
        });
    }
    service.wait_for_line("worker 0: lost the program: it ended");
    service.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(service.wait().code(), Some(0));
}

/// What came meanwhile waits for the next copy, and is not refused.
#[test]
fn of_what_is_sent_to_a_single_threaded_server_only_the_lost_request_is_lost() {
    let _limit = time_limit(60);
    let program = "while read -r line; do [ \"$line\" = die ] && exit 3; echo \"$line\"; done";
    let service = serve(&["--workers", "0", "--framing", "lines"], &["sh", "-c", program]);
    let client = Client::dealer(&service.endpoint);
    client.send(&[b"a"]);
    assert_eq!(client.receive(), [b"a"]);
    client.send(&[b"die"]);
    (0..20).for_each(|_| client.send(&[b"a"]));
    assert_eq!(client.receive_code(), 502);
    (0..20).for_each(|_| assert_eq!(client.receive(), [b"a"]));
}

/// A request that such a copy has not begun to read goes to the next one, and to no other worker.
#[test]
fn a_program_that_ends_after_each_reply_loses_no_request() {
    let _limit = time_limit(120);
    let program = "read -r line; echo \"$line\"";
    for workers in ["0", "1", "4"] {
        let options = ["--framing", "lines", "--workers", workers];
        let service = serve(&options, &["sh", "-c", program]);
        let client = Client::dealer(&service.endpoint);
        (0..10).for_each(|_| client.send(&[b"a"]));
        for number in 0..300 {
            assert_eq!(client.receive(), [b"a"], "{workers} workers, reply {number}");
            client.send(&[b"a"]);
        }
    }
}

/// What a program finds: its number, and of the descriptors of the service none.
#[test]
fn a_program_is_told_its_number_and_inherits_nothing_else() {
    let _limit = time_limit(60);
    let program = r#"
import os, sys
for line in sys.stdin:
    own = [fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]
    links = [os.readlink(f"/proc/self/fd/{fd}") for fd in own]
    group = os.getpgrp() == os.getpid()
    print(os.environ["REPD_WORKER"], "REPD_FRAMES" in os.environ, sorted(own), group,
          sum(link.startswith("pipe:") for link in links), flush=True)
"#;
    let service = serve(&["--framing", "lines", "--workers", "1"], &["python3", "-c", program]);
    let said = Client::req(&service.endpoint).ask_text("what?");
    assert_eq!(said, "1 False ['0', '1', '2'] True 3");
}

#[test]
fn what_a_program_says_on_standard_error_is_in_the_log_line_by_line() {
    let _limit = time_limit(60);
    let program = r#"
import os, sys
for line in sys.stdin:
    os.write(2, b"one\ntwo \x1b[2J\n" + b"x" * 10000 + b"\nlast")
    print("said", flush=True)
"#;
    let mut service = serve(&["--framing", "lines", "--workers", "1"], &["python3", "-c", program]);
    assert_eq!(Client::req(&service.endpoint).ask_text("speak"), "said");
    assert_eq!(service.wait_for_line("worker 1: "), "info: worker 1: one");
    assert_eq!(service.wait_for_line("worker 1: "), "info: worker 1: two \\u{1b}[2J");
    let long = service.wait_for_line("worker 1: ");
    assert!(long.ends_with("xxx...") && long.len() < 4096, "{}", long.len());
    service.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(service.wait_for_line("worker 1: "), "info: worker 1: last");
    assert_eq!(service.wait().code(), Some(0));
}

#[test]
fn a_program_that_cannot_be_run_is_refused_before_anything_starts() {
    let _limit = time_limit(60);
    let folder = Folder::new("programs-refused");
    let file = folder.file("not-executable");
    fs::write(&file, "#!/bin/sh\n").unwrap();
    let folder_path = folder.file("");
    let no_interpreter = folder.file("no-interpreter");
    fs::write(&no_interpreter, "#!/bin/no-such-shell\r\n").unwrap();
    fs::set_permissions(&no_interpreter, fs::Permissions::from_mode(0o755)).unwrap();
    for (arguments, says) in [
        (&["--", "no-such-program"][..], "cannot run \"no-such-program\": no such program; give"),
        (&["--", "/no/such/program"], "no such program"),
        (&["--", ""], "no such program"),
        (&["--", &file], "make it executable"),
        (&["--", &folder_path], "it is no file"),
        (&["--", &no_interpreter], "names \"/bin/no-such-shell\\r\", which is not there"),
        (&["--"], "there is no program behind --"),
        (&["cat"], "unrecognized argument: cat; if it is a program, put -- before it"),
        (&["--handler", "echo", "--", "cat"], "cannot use --handler beside a program"),
        (&["--framing", "lines"], "cannot use --framing without a program"),
        (&["--multipart"], "cannot use --multipart without a program"),
        (&["--framing", "lines", "--multipart", "--", "cat"], "cannot tell several frames apart"),
        (&["--framing", "what", "--", "cat"], "give packet, lines or once"),
    ] {
        for check in [&[][..], &["--check"]] {
            let listen = ["serve", "--listen", "tcp://127.0.0.1:*"];
            let run = repd(&[&listen[..], check, arguments].concat(), b"");
            let said = String::from_utf8(run.stderr).unwrap();
            assert_eq!(run.status.code(), Some(2), "{arguments:?}: {said}");
            assert!(said.contains(says) && said.lines().count() == 1, "{arguments:?}: {said}");
        }
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    let listen = ["serve", "--check", "--listen", "tcp://127.0.0.1:*", "--framing", "lines"];
    let run = repd(&[&listen[..], &["--", &file, "it's", "a b"]].concat(), b"");
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    let printed = String::from_utf8(run.stdout).unwrap();
    assert!(printed.ends_with(&format!("-- {file} 'it'\\''s' 'a b'\n")), "{printed}");
    assert!(printed.contains("--framing lines\n") && !printed.contains("--handler"), "{printed}");
}

/// The example of that name, or nothing if what it takes is not there; in CI it must be.
fn example(needs: &str, name: &str) -> Option<String> {
    let is_there = Command::new(needs).arg("--version").output().is_ok();
    assert!(is_there || needs == "node" || std::env::var_os("CI").is_none(), "install {needs}");
    if !is_there {
        eprintln!("skipped: there is no {needs}");
    }
    let path = format!("{}/examples/{name}", env!("CARGO_MANIFEST_DIR"));
    assert!(fs::read_to_string(&path).unwrap().lines().count() <= 20);
    is_there.then_some(path)
}

#[test]
fn the_examples_count_words() {
    let _limit = time_limit(120);
    let folder = Folder::new("programs-examples");
    let in_c = example("cc", "words.c")
        .map(|path| compiled(&folder, "words", &fs::read_to_string(path).unwrap()));
    let packet = [in_c, example("python3", "words.py"), example("node", "words.js")];
    let lines = example("sh", "words.sh").map(|path| (path, "lines"));
    let packet = packet.into_iter().flatten().map(|path| (path, "packet"));
    for (path, framing) in packet.chain(lines) {
        let mut service = serve(&["--framing", framing], &[&path]);
        let client = Client::req(&service.endpoint);
        for (text, words) in [("", "0"), ("one", "1"), ("  one two\tthree * ", "4"), ("é à", "2")]
        {
            assert_eq!(client.ask_text(text), words, "{path}: {text:?}");
        }
        service.signal(nix::sys::signal::Signal::SIGTERM);
        assert_eq!(service.wait().code(), Some(0));
        assert!(!service.rest_of_log().contains("killed"), "{path}");
    }
}
