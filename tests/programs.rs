//! Programs as handlers: what they are given, what comes of what they say, and what the examples
//! do.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use common::{Client, Folder, Process, code, repd, time_limit};
use nix::sys::signal::Signal;

/// Starts `repd serve` with these options and that program.
fn serve(options: &[&str], program: &[&str]) -> Process {
    Process::start(&[options, &["--"], program].concat())
}

/// Maximum size of a request.
const MOST: usize = 1 << 16;

/// Returns what the bodies of requests are pieces of, the same each time.
fn noise(letter: fn(&mut fastrand::Rng) -> u8) -> Vec<u8> {
    let mut dice = fastrand::Rng::with_seed(0);
    (0..2 * MOST).map(|_| letter(&mut dice)).collect()
}

/// Returns the body of a request of that number, the same each time: up to 64 KiB, more of them
/// small.
fn body(number: u64, noise: &[u8]) -> Vec<u8> {
    let mut dice = fastrand::Rng::with_seed(number);
    let most = 1_usize << dice.u32(0..=MOST.ilog2());
    let (start, length) = (dice.usize(..MOST), dice.usize(0..=most));
    noise[start..start + length].to_vec()
}

/// Asks 100,000 times, a hundred at a time, and compares each reply with what is expected of it.
fn hammer(
    service: &Process,
    letter: fn(&mut fastrand::Rng) -> u8,
    expected: fn(Vec<u8>) -> Vec<u8>,
) {
    const REQUESTS: u64 = 100_000;
    let client = Client::dealer(&service.endpoint);
    let noise = noise(letter);
    let send = |number: u64| {
        let message = [number.to_be_bytes().to_vec(), vec![], body(number, &noise)];
        client.socket.send_multipart(message, 0).unwrap();
    };
    (0..100).for_each(send);
    let mut seen = vec![false; REQUESTS as usize];
    for next in 100..REQUESTS + 100 {
        let reply = client.socket.recv_multipart(0).expect("a reply");
        let number = u64::from_be_bytes(reply[0][..].try_into().unwrap());
        assert!(!std::mem::replace(&mut seen[number as usize], true), "{number} came twice");
        assert_eq!(reply.len(), 3, "{number}");
        assert!(reply[2] == expected(body(number, &noise)), "{number} is another's or nobody's");
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
    service.wait_for_line("lost the program \"python3\": it ended");
    service.signal(Signal::SIGTERM);
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
    let line = ["sh", "-c", "read -r line; echo \"$line\""];
    // A packet of one byte.
    let packet = ["head", "-c", "5"];
    for (workers, framing, program) in [
        ("0", "lines", &line[..]),
        ("1", "lines", &line),
        ("4", "lines", &line),
        ("0", "packet", &packet),
        ("4", "packet", &packet),
    ] {
        let service = serve(&["--framing", framing, "--workers", workers], program);
        let client = Client::dealer(&service.endpoint);
        (0..10).for_each(|_| client.send(&[b"a"]));
        for number in 0..300 {
            assert_eq!(client.receive(), [b"a"], "{workers}, {framing}, reply {number}");
            client.send(&[b"a"]);
        }
    }
}

/// Whether the proxy or the program's worker meets a deadline first is a matter of chance.
#[test]
fn the_last_line_counts_what_each_request_was_answered_with() {
    let _limit = time_limit(120);
    let program = r#"while read -r line; do test "$line" = never && sleep 999; echo "$line"; done"#;
    for workers in ["2", "0"] {
        let options = ["--workers", workers, "--framing", "lines", "--timeout", "0.2"];
        let mut service =
            serve(&[&options[..], &["--max-frames", "1"]].concat(), &["sh", "-c", program]);
        let client = Client::req(&service.endpoint);
        let mut answers = BTreeMap::new();
        for request in [&[&b"a"[..]][..], &[b"never"], &[b"a\nb"], &[b"a", b"b"]].repeat(10) {
            let reply = client.ask(request);
            if code(&reply) == Some(504) {
                assert_eq!(reply[2], b"the deadline passed before the reply");
            }
            *answers.entry(code(&reply)).or_insert(0) += 1;
        }
        assert!(answers[&Some(504)] >= 10 && answers[&Some(413)] == 10, "{answers:?}");
        service.signal(Signal::SIGTERM);
        let replies = answers.remove(&None).unwrap_or(0);
        let codes = answers.iter().map(|(code, count)| format!(", {}: {count}", code.unwrap()));
        let counted = codes.collect::<String>();
        service.wait_for_line(&format!("stopped: requests: 40, replies: {replies}{counted}"));
    }
}

/// Asks, and waits for the reply so many milliseconds, as the request says.
fn ask_within(milliseconds: u32, client: &Client, text: &str) -> Vec<Vec<u8>> {
    let patience = format!("REPD-DEADLINE:{milliseconds}");
    client.socket.send_multipart([patience.as_bytes(), b"", text.as_bytes()], 0).unwrap();
    let reply = client.socket.recv_multipart(0).expect("a reply");
    assert_eq!(reply[..2], [patience.as_bytes(), b""]);
    reply[2..].to_vec()
}

/// Others want it too, and what it has loaded.
#[test]
fn a_program_is_not_ended_since_one_client_waits_little() {
    let _limit = time_limit(60);
    let folder = Folder::new("programs-impatient");
    let may_end = folder.file("may-end");
    let program = r#"while read -r line; do
        until test "$line" != hold || test -e "$0"; do sleep 0.01; done
        echo $$
    done"#;
    let options = ["--framing", "lines", "--workers", "1"];
    let service = serve(&options, &["sh", "-c", program, &may_end]);
    let client = Client::dealer(&service.endpoint);
    let process = client.ask(&[b"who"]);
    assert_eq!(code(&ask_within(100, &client, "hold")), Some(504));
    fs::write(&may_end, "").unwrap();
    assert_eq!(client.ask(&[b"who"]), process);
}

/// One that begins when half of its time is over is ended while there is time for the next.
#[test]
fn a_programs_time_counts_from_when_its_request_came() {
    let _limit = time_limit(60);
    let folder = Folder::new("programs-deadline");
    let may_end = folder.file("may-end");
    let program = r#"while read -r line; do
        case $line in hold) until test -e "$0"; do sleep 0.01; done;; hang) sleep 999;; esac
        echo "$line"
    done"#;
    let options = ["--framing", "lines", "--workers", "1", "--timeout", "8", "--verbose"];
    let mut service = serve(&options, &["sh", "-c", program, &may_end]);
    let (client, other) = (Client::dealer(&service.endpoint), Client::dealer(&service.endpoint));
    client.send(&[b"hold"]);
    client.send(&[b"hang"]);
    service.wait_for_line(r#"request 2: from 127.0.0.1: "hang""#);
    assert_eq!(code(&ask_within(4000, &other, "wait")), Some(504));
    fs::write(&may_end, "").unwrap();
    assert_eq!(client.receive(), [b"hold"]);
    assert_eq!(ask_within(7000, &other, "next"), [b"next"]);
    assert_eq!(client.receive_code(), 504);
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

/// Starts `repd serve` as a shell starts it that has said these words before, with these signals
/// ignored: env(1), since a shell may keep SIGCHLD for itself.
fn serve_after(words: &str, ignored: &str, options: &[&str]) -> Process {
    let start = format!("exec env --ignore-signal={ignored} \"$0\" serve");
    let shell = format!("{words}; {start} --listen 'tcp://127.0.0.1:*' \"$@\"");
    Process::run(Command::new("sh").args(["-c", &shell, common::REPD]).args(options))
}

#[test]
fn what_repd_was_started_with_does_not_reach_programs() {
    let _limit = time_limit(60);
    let program = r#"
import os, resource, signal, sys
ours = ["NOTIFY_SOCKET", "JOURNAL_STREAM", "LISTEN_FDS", "WATCHDOG_USEC"]
for line in sys.stdin:
    print([name for name in ours if name in os.environ], resource.getrlimit(resource.RLIMIT_NOFILE)[0],
          [int(signal.getsignal(number)) for number in (signal.SIGCHLD, signal.SIGUSR1, signal.SIGHUP)],
          os.environ["CREDENTIALS_DIRECTORY"], flush=True)
"#;
    let words = "ulimit -S -n 99; export NOTIFY_SOCKET=/no/such JOURNAL_STREAM=1:2 \
                 LISTEN_FDS=1 WATCHDOG_USEC=1 CREDENTIALS_DIRECTORY=/c";
    let options = ["--framing", "lines", "--workers", "1", "--", "python3", "-c", program];
    let service = serve_after(words, "CHLD,USR1,HUP", &options);
    assert_eq!(Client::req(&service.endpoint).ask_text("what?"), "[] 99 [0, 0, 0] /c");
}

#[test]
fn a_program_has_no_capability_that_repd_was_given_for_its_port() {
    let _limit = time_limit(60);
    let program = "while read -r line; do grep -c '^Cap[AEP].*:.*[1-9a-f]' /proc/self/status; done";
    let caps = ["--inh-caps", "+net_bind_service", "--ambient-caps", "+net_bind_service"];
    let folder = Folder::new("capable");
    let copy = folder.file("repd");
    fs::copy(common::REPD, &copy).unwrap();
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o755)).unwrap();
    let nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let can = Command::new("setpriv").args(nobody).args(caps).arg("true").output();
    if !can.is_ok_and(|run| run.status.success()) {
        common::skipped("it takes root, and setpriv, to give a capability");
        return;
    }
    let serve = ["serve", "--listen", "tcp://127.0.0.1:*", "--framing", "lines", "--", "sh", "-c"];
    let mut command = Command::new("setpriv");
    let command = command.args(nobody).args(caps).arg(&copy).args(serve).arg(program);
    let service = Process::run(command.current_dir("/"));
    assert_eq!(Client::req(&service.endpoint).ask_text("how many?"), "0");
}

#[test]
fn who_is_started_with_sigchld_ignored_learns_how_programs_end() {
    let _limit = time_limit(60);
    let options = ["--framing", "once", "--", "sh", "-c", "read -r line; exit \"$line\""];
    let mut service = serve_after("true", "CHLD", &options);
    let client = Client::req(&service.endpoint);
    assert_eq!(client.ask_text("0\n"), "");
    assert_eq!(code(&client.ask(&[b"3\n"])), Some(500));
    service.wait_for_line("(exit status: 3)");
}

/// Makes a command for which one system call fails with that error: seccomp(2).
fn without(call: u32, errno: u32) -> Command {
    let forbid = r#"
import ctypes, os, struct, sys
call, errno = int(sys.argv[1]), int(sys.argv[2])
code = (0x20, 0, 0, 0), (0x15, 0, 1, call), (6, 0, 0, 0x50000 | errno), (6, 0, 0, 0x7fff0000)
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
class Program(ctypes.Structure): _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]
program = Program(4, ctypes.cast(code, ctypes.c_void_p))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(program)) == 0
os.execvp(sys.argv[3], sys.argv[3:])
"#;
    let mut command = Command::new("python3");
    command.args(["-c", forbid, &call.to_string(), &errno.to_string()]);
    command
}

/// The numbers of close_range(2) and pidfd_open(2), the same on each architecture.
const CLOSE_RANGE: u32 = 436;
const PIDFD_OPEN: u32 = 434;

#[test]
fn where_programs_cannot_be_watched_none_is_started() {
    let _limit = time_limit(60);
    let folder = Folder::new("unwatched");
    let started = folder.file("started");
    for check in [&["--check"][..], &[]] {
        let mut command = without(PIDFD_OPEN, nix::errno::Errno::EPERM as u32);
        command.args([common::REPD, "serve", "--listen", "tcp://127.0.0.1:*"]).args(check);
        let run = command.args(["--", "touch", &started]).output().unwrap();
        let said = String::from_utf8(run.stderr).unwrap();
        assert_eq!(run.status.code(), Some(2), "{said}");
        assert!(said.contains("error: cannot watch over programs: pidfd_open: "), "{said}");
        assert!(!fs::exists(&started).unwrap());
    }
}

#[test]
fn a_program_inherits_nothing_on_an_old_kernel_either() {
    let _limit = time_limit(60);
    // Not by a pipe, which would be the shell's own for a moment.
    let program = "while read -r line; do find /proc/$$/fd -type l -printf x; echo; done";
    let mut command = without(CLOSE_RANGE, nix::errno::Errno::ENOSYS as u32);
    let shell = "exec 9</dev/null; exec \"$0\" \"$@\"";
    command.args(["sh", "-c", shell, common::REPD, "serve", "--listen", "tcp://127.0.0.1:*"]);
    let service = Process::run(command.args(["--framing", "lines", "--", "sh", "-c", program]));
    assert_eq!(Client::req(&service.endpoint).ask_text("how many?"), "xxx");
}

#[test]
fn the_first_process_of_a_container_takes_notice_of_orphans() {
    let _limit = time_limit(60);
    let contain = |program: &[&str]| {
        let mut command = Command::new("unshare");
        command
            .args(["--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(program);
        command
    };
    if !contain(&["true"]).output().is_ok_and(|run| run.status.success()) {
        common::skipped("no namespace of processes can be had");
        return;
    }
    let options = ["--framing", "once", "--", "sh", "-c", "sleep 99 >/dev/null 2>&1 & cat"];
    let serve = [common::REPD, "serve", "--listen", "tcp://127.0.0.1:*"];
    let service = Process::run(&mut contain(&[&serve[..], &options].concat()));
    let client = Client::req(&service.endpoint);
    (0..50).for_each(|_| assert_eq!(client.ask_text("a"), "a"));
    let children = |pid: u32| {
        let ids = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        ids.split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<u32>>()
    };
    let repd = children(service.pid())[0];
    let threads = fs::read_dir(format!("/proc/{repd}/task"))
        .unwrap()
        .map(|task| task.unwrap().file_name().into_string().unwrap());
    let threads: Vec<String> = threads.collect();
    let of_thread = |thread: &String| {
        fs::read_to_string(format!("/proc/{repd}/task/{thread}/children")).unwrap_or_default()
    };
    common::until("no zombie is left", || {
        threads.iter().all(|thread| of_thread(thread).is_empty())
    });
}

#[test]
fn a_deadline_is_no_failed_start_and_a_program_that_never_replied_may_not_flush() {
    let _limit = time_limit(60);
    let program = "read -r line; sleep 99";
    let options = ["--framing", "lines", "--workers", "1", "--timeout", "0.2"];
    let mut service = serve(&options, &["sh", "-c", program]);
    let client = Client::req(&service.endpoint);
    for _ in 0..4 {
        common::until("it is there", || code(&client.ask(&[b"a"])) == Some(504));
        let line = service.wait_for_line("lost the program \"sh\"");
        assert!(
            line.ends_with("the deadline passed before it replied; starting it again"),
            "{line}"
        );
        let never =
            "\"sh\" has never replied; does it read packets? --framing packet; does it flush";
        service.wait_for_line(never);
    }
    // The commonest reason, with what is the default.
    let mut service = serve(&["--workers", "1", "--timeout", "0.2"], &["rev"]);
    assert_eq!(Client::req(&service.endpoint).ask(&[b"a"]).first().unwrap(), b"REPD-ERROR");
    let never = "\"rev\" has never replied; does it read lines? --framing lines; does it flush";
    service.wait_for_line(never);
}

#[test]
fn what_a_program_wrote_wrongly_is_quoted() {
    let _limit = time_limit(60);
    let start = |framing: &str, program: &str| {
        serve(&["--framing", framing, "--workers", "1"], &["sh", "-c", program])
    };
    let unasked = "it wrote \"ready\\n\" without a request";
    start("lines", "echo ready; cat").wait_for_line(unasked);
    let text = "it wrote \"hello\\u{1b}\\n\" where a length should be; does it write lines? \
                --framing lines";
    for (framing, program, says) in [
        ("packet", "head -c 5 >/dev/null; printf 'hello\\033\\n'; sleep 99", text),
        (
            "lines",
            "read -r line; printf 'one\\ntwo\\n'; sleep 99",
            "it wrote \"two\\n\" after its reply; it must write one reply per request",
        ),
    ] {
        let mut service = start(framing, program);
        let reply = Client::req(&service.endpoint).ask(&[b"a"]);
        // That is for the log alone.
        let told = ["REPD-ERROR", "500", "the program failed: its output is not a valid reply"];
        assert_eq!(reply, told.map(|frame| frame.as_bytes().to_vec()));
        service.wait_for_line(says);
    }
    // Also what it began, and neither goes on with nor ends.
    let no_length = "it wrote \"ok\\n\" where a length should be";
    for (framing, program, code_, says) in [
        ("packet", "head -c 5 >/dev/null; echo ok; sleep 99", 504, no_length),
        ("packet", "head -c 5 >/dev/null; echo ok", 502, no_length),
        (
            "packet",
            "head -c 5 >/dev/null; printf '\\000\\000\\000\\002x'; sleep 99",
            504,
            "it wrote \"\\u{0}\\u{0}\\u{0}\\u{2}x\", an incomplete reply",
        ),
        (
            "lines",
            "read -r line; printf one; sleep 99",
            504,
            "the deadline passed before it replied: it wrote \"one\" without an end of line; a reply ends with \\n",
        ),
        (
            "lines",
            "read -r line; printf one",
            502,
            "it ended before it replied: it wrote \"one\" without an end of line (exit status: 0); a reply ends with \\n",
        ),
    ] {
        let options = ["--framing", framing, "--workers", "1", "--timeout", "0.3"];
        let mut service = serve(&options, &["sh", "-c", program]);
        let reply = Client::req(&service.endpoint).ask(&[b"a"]);
        assert_eq!(code(&reply), Some(code_), "{reply:?}");
        let line = service.wait_for_line("lost the program \"sh\": ");
        assert!(line.contains(says), "{line}");
    }
}

#[test]
fn what_a_program_says_on_standard_error_is_in_the_log_line_by_line() {
    let _limit = time_limit(60);
    let program = r#"
import os, sys
for line in sys.stdin:
    os.write(2, b"one\ntwo \x1b[2J\nx" + "\u00e4".encode() * 5000 + b"\nlast")
    print("said", flush=True)
"#;
    let mut service = serve(&["--framing", "lines", "--workers", "1"], &["python3", "-c", program]);
    assert_eq!(Client::req(&service.endpoint).ask_text("speak"), "said");
    let says = "info: worker 1's program says: ";
    assert_eq!(service.wait_for_line(says), format!("{says}one"));
    assert_eq!(service.wait_for_line(says), format!("{says}two \\u{{1b}}[2J"));
    let long = service.wait_for_line(says);
    assert!(long.ends_with("\u{e4}\u{e4}...") && long.len() < 4096, "{}", long.len());
    service.signal(Signal::SIGTERM);
    assert_eq!(service.wait_for_line(says), format!("{says}last"));
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
        (&["--", &folder_path], "it is not a file"),
        (&["--", &no_interpreter], "names \"/bin/no-such-shell\\r\", which does not exist"),
        (&["--"], "there is no program after --"),
        (&["cat"], "unrecognized argument: cat; if it is a program, put -- before it"),
        (&["--handler", "echo", "--", "cat"], "cannot use --handler with a program"),
        (&["--framing", "lines"], "cannot use --framing without a program"),
        (&["--multipart"], "cannot use --multipart without a program"),
        (
            &["--framing", "lines", "--multipart", "--", "cat"],
            "cannot use --multipart with --framing lines",
        ),
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

/// Returns the example of that name, or nothing if what it takes is not there; in CI it must be.
fn example(needs: &str, name: &str) -> Option<String> {
    let is_there = Command::new(needs).arg("--version").output().is_ok();
    assert!(is_there || needs == "node" || std::env::var_os("CI").is_none(), "install {needs}");
    if !is_there {
        common::skipped(&format!("there is no {needs}"));
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
        service.signal(Signal::SIGTERM);
        assert_eq!(service.wait().code(), Some(0));
        assert!(!service.rest_of_log().contains("killed"), "{path}");
    }
}
