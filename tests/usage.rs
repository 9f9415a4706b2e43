//! Wrong use: one line that says what is wrong and what to do, exit code 2, no panic.

mod common;

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use common::{Client, Folder, Killed, Process, REPD, repd, time_limit, without_time};
use nix::unistd::geteuid;

/// Returns the one line that was said.
fn line(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    assert!(!said.contains("panic") && !said.contains("os error"), "{said}");
    assert!(output.stdout.is_empty());
    without_time(&said).into()
}

fn refused(options: &[&str]) -> String {
    let serve = line(&repd(&[&["serve"], options].concat(), b""));
    let check = line(&repd(&[&["serve", "--check"], options].concat(), b""));
    assert_eq!(serve, check);
    serve
}

#[test]
fn every_wrong_endpoint_is_refused_with_its_remedy() {
    let _limit = time_limit(120);
    let folder = Folder::new("usage");
    let path = |name: &str| folder.file(name);
    fs::write(path("file"), "").unwrap();
    fs::create_dir(path("folder")).unwrap();
    std::os::unix::fs::symlink(path("loop"), path("loop")).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("tcp://{}", taken.local_addr().unwrap());
    let long = format!("ipc:///tmp/{}", "x".repeat(200));
    let under_a_file = format!("ipc://{}/x", path("file"));
    let at_a_file = format!("ipc://{}", path("file"));
    let at_a_folder = format!("ipc://{}", path("folder"));
    let in_a_loop = format!("ipc://{}/x", path("loop"));
    for (endpoint, remedy) in [
        ("tcp://", "give tcp://HOST:PORT"),
        ("tcp://*", "give tcp://HOST:PORT"),
        ("tcp://:5555", "give *"),
        ("tcp://*:99999", "give one from 1 to 65535"),
        ("tcp://*:-1", "give one from 1 to 65535"),
        ("tcp://127.0.0.1:99999", "give one from 1 to 65535"),
        ("tcp://no.such.invalid:1", "give an IP address"),
        ("tcp://255.255.255.255:1", "give one host's"),
        ("tcp://224.0.0.1:1", "give one host's"),
        ("tcp://192.0.2.1:5555", "give one that is, or *"),
        ("tcp://[fe80::1]:5555", "give it behind a %"),
        ("tcp://::1:5555", "needs brackets"),
        (&taken, "stop the process that has it or give another port"),
        ("udp://*:1", "give tcp://HOST:PORT or ipc://PATH"),
        ("ws://*:1", "give tcp://HOST:PORT or ipc://PATH"),
        ("inproc://x", "give tcp://HOST:PORT or ipc://PATH"),
        ("5555", "give tcp://HOST:PORT or ipc://PATH"),
        ("", "give tcp://HOST:PORT or ipc://PATH"),
        ("ipc://", "give ipc://PATH"),
        ("ipc://*", "name a file"),
        ("ipc:///no/such/dir/x", "make the folder first"),
        (&under_a_file, "a file stands where a folder should"),
        (&at_a_file, "remove it or give another path"),
        (&at_a_folder, "name a file in it"),
        (&in_a_loop, "give another path"),
        (&long, "give one of at most 107"),
        ("ipc:///proc/x", "give another path"),
        ("ipc:///sys/x", "give"),
    ] {
        let said = refused(&["--listen", endpoint]);
        assert!(said.contains(remedy) && said.contains(endpoint), "{endpoint}: {said}");
    }
}

#[test]
fn endpoints_that_are_another_of_the_same_service_are_refused() {
    let _limit = time_limit(60);
    let folder = Folder::new("own");
    let file = format!("ipc://{}/s", folder.0.display());
    let again = format!("ipc://{}/./s", folder.0.display());
    let abstract_ = format!("ipc://@repd-own-{}", std::process::id());
    let v4 = [
        ["tcp://127.0.0.1:23571", "tcp://127.0.0.1:23571"],
        ["tcp://*:23571", "tcp://127.0.0.1:23571"],
        ["tcp://127.0.0.1:23571", "tcp://localhost:23571"],
        ["tcp://lo:23571", "tcp://*:23571"],
        ["tcp://127.0.0.1:23571", "tcp://[::ffff:127.0.0.1]:23571"],
        ["tcp://*:23571", "tcp://[::ffff:127.0.0.1]:23571"],
        [&file, &again],
        [&abstract_, &abstract_],
    ];
    let v6 = [["tcp://*:23571", "tcp://[::]:23571"], ["tcp://[::]:23571", "tcp://127.0.0.1:23571"]];
    for [one, other] in v4.iter().chain(v6.iter().filter(|_| common::has_ipv6())) {
        for option in ["--listen", "--backend"] {
            let said = refused(&["--listen", one, option, other]);
            let says = format!("cannot listen on {other}: {one} of this service has it already");
            assert!(said.contains(&says), "{one} {option} {other}: {said}");
        }
        if *other != "tcp://*:23571" && *other != "tcp://[::]:23571" {
            let said = refused(&["--listen", one, "--upstream", other]);
            let says = format!("{other}: it is {one} of this service itself");
            assert!(said.contains(&says), "{one} {other}: {said}");
        }
    }
    // Any port is another one each time.
    let any = "tcp://127.0.0.1:*";
    assert_eq!(
        repd(&["serve", "--check", "--listen", any, "--listen", any], b"").status.code(),
        Some(0)
    );
}

#[test]
fn retries_of_what_is_never_lost_are_refused() {
    let _limit = time_limit(60);
    for (options, why) in [
        (&["--retries", "1"][..], "it is never lost"),
        (&["--retries", "1", "--framing", "once", "--", "cat"], "has had the request"),
        (&["--retries", "1", "--workers", "0", "--", "cat"], "there is no other to ask"),
    ] {
        assert!(refused(options).contains(why), "{options:?}");
    }
}

/// Runs a copy of repd as an ordinary user, who root is not. None with a word if root may not
/// become one here.
fn as_nobody(folder: &Path, arguments: &[&str]) -> Option<Output> {
    fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    let copy = folder.join("repd");
    fs::copy(REPD, &copy).unwrap();
    let mut command = Command::new(&copy);
    if geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    let run = command.args(arguments).current_dir("/").output();
    run.inspect_err(|error| common::skipped(&format!("nobody else can run repd here: {error}")))
        .ok()
}

#[test]
fn an_ordinary_user_is_told_of_a_port_that_is_not_his() {
    let _limit = time_limit(60);
    let folder = Folder::new("nobodys-port");
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if first.trim().parse::<u16>().unwrap() <= 80 {
        common::skipped("any user may have port 80 here");
        return;
    }
    let listen = ["serve", "--listen", "tcp://127.0.0.1:80"];
    let Some(run) = as_nobody(&folder.0, &listen) else { return };
    let said = line(&run);
    assert!(said.contains("no permission for port 80; give one from 1024 up"), "{said}");
}

#[test]
fn an_ordinary_user_is_told_of_folders_that_are_not_his() {
    let _limit = time_limit(60);
    let folder = Folder::new("nobody");
    for (name, rights) in [("read-only", 0o555), ("closed", 0o000)] {
        let path = folder.0.join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(rights)).unwrap();
        if !geteuid().is_root() && fs::write(path.join("file"), "").is_ok() {
            common::skipped("this user may write where nobody may");
            return;
        }
        let endpoint = format!("ipc://{}", path.join("s").display());
        let Some(run) = as_nobody(&folder.0, &["serve", "--listen", &endpoint]) else { return };
        let said = line(&run);
        assert!(said.contains("in a folder that this user may write to"), "{said}");
        fs::remove_dir(&path).unwrap();
    }
}

#[test]
fn every_wrong_number_is_refused_with_its_range() {
    let _limit = time_limit(120);
    let huge = "99999999999999999999999999";
    for (option, range, wrong) in [
        ("--workers", "from 0 to 500", &["-1", "501", huge, "nan", "", "1.5", "five"][..]),
        ("--timeout", "from 0.001 to 86400", &["0", "-1", huge, "nan", "inf", "", "1x"]),
        ("--drain", "from 0 to 86400", &["-1", huge, "nan", "inf", ""]),
        ("--heartbeat", "from 0 to 3600", &["-1", huge, "nan", "inf", "0.0001"]),
        ("--max-message-size", "from 1 to 1024M", &["0", "-1", huge, "nan", "1T", "2000M", "k"]),
        ("--max-frames", "from 1 to 65536", &["0", "-1", huge, "nan"]),
        ("--max-memory", "from 1M to 1024G", &["0", "-1", huge, "nan", "1T", "1k", "2000G", "M"]),
        ("--max-clients", "from 1 to 1000000", &["0", "-1", huge, "nan"]),
        ("--client-outstanding", "from 1 to 1000000", &["0", "-1", huge, "1k"]),
        ("--client-rate", "from 1 to 1000000", &["0", "-1", huge, "0.5"]),
        ("--io-threads", "from 0 to 64", &["-1", huge, "nan", "65"]),
        ("--backlog", "from 1 to 4096", &["0", "-1", huge, "nan"]),
    ] {
        for value in wrong {
            let said = refused(&[option, value]);
            assert!(said.contains(range) && said.contains(option), "{option} {value}: {said}");
        }
    }
    for option in ["--timeout", "--retries"] {
        for value in ["-1", huge, "nan"] {
            let said = line(&repd(&["call", "tcp://127.0.0.1:1", option, value, "x"], b""));
            assert!(said.contains("give "), "{said}");
        }
    }
}

#[test]
fn every_wrong_option_is_refused_and_the_help_is_named() {
    let _limit = time_limit(60);
    for arguments in [
        &["nonsense"][..],
        &["serve", "--nonsense"],
        &["serve", "nonsense"],
        &["serve", "--workers"],
        &["serve", "--workers", "1", "--workers", "2"],
        &["--workers", "1"],
        &["serve", "-w", "1"],
        &["call"],
        &["call", "--raw"],
    ] {
        let said = line(&repd(arguments, b""));
        assert!(said.contains("--help"), "{arguments:?}: {said}");
    }
    for (option, choice) in
        [("--handler", "reverse or echo"), ("--log", "stderr, journal or syslog")]
    {
        assert!(refused(&[option, "nonsense"]).contains(choice));
    }
    use std::os::unix::ffi::OsStrExt;
    let not_text = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    let said = line(&Command::new(REPD).arg("call").arg(not_text).output().unwrap());
    assert!(said.contains("not UTF-8"), "{said}");
}

#[test]
fn too_few_files_allowed_is_said_before_libzmq_gives_up() {
    let _limit = time_limit(60);
    for limit in [20, 40] {
        let shell = format!("ulimit -n {limit}; exec \"$0\" serve --listen tcp://127.0.0.1:*");
        let said = line(&Command::new("sh").args(["-c", &shell, REPD]).output().unwrap());
        assert!(said.contains("ulimit -n"), "{said}");
    }
    // Where it says that it can serve, it can.
    for workers in ["1", "5", "100"] {
        let shell =
            "ulimit -n 64; exec \"$0\" serve --listen tcp://127.0.0.1:* --workers 1 --check";
        let needed = Command::new("sh").args(["-c", shell, REPD]).output().unwrap();
        assert_eq!(needed.status.code(), Some(0));
        let files = 48 + 3 * workers.parse::<u64>().unwrap() + 3;
        let shell = format!(
            "ulimit -n {files}; exec \"$0\" serve --listen tcp://127.0.0.1:* --workers {workers}"
        );
        let service = Process::run(Command::new("sh").args(["-c", &shell, REPD]));
        assert_eq!(Client::req(&service.endpoint).ask_text("ab"), "ba");
    }
}

#[test]
fn a_service_at_its_limit_of_files_serves_those_that_it_has_and_others_later() {
    let _limit = time_limit(60);
    let shell = "ulimit -n 70; exec \"$0\" serve --listen tcp://127.0.0.1:* --workers 1";
    let service = Process::run(Command::new("sh").args(["-c", shell, REPD]));
    let context = zmq::Context::new();
    let client = || Client::within(&context, zmq::REQ, &service.endpoint, |_| ());
    let first = client();
    assert_eq!(first.ask_text("ab"), "ba");
    let mut crowd: Vec<Client> = (0..100).map(|_| client()).collect();
    crowd.iter().for_each(|client| client.send(&[b"cd"]));
    assert_eq!(first.ask_text("ab"), "ba");
    // As some leave, others get in.
    while !crowd.is_empty() {
        common::until("one of the crowd is served", || {
            let served = crowd.iter().position(|client| {
                client.socket.poll(zmq::POLLIN, 1).unwrap() > 0 && client.receive() == [b"dc"]
            });
            served.map(|served| crowd.swap_remove(served)).is_some()
        });
    }
}

#[test]
fn check_prints_what_would_be_run_and_runs_nothing() {
    let _limit = time_limit(60);
    let folder = Folder::new("check");
    let path = folder.0.join("s");
    let endpoint = format!("ipc://{}", path.display());
    let options = ["serve", "--check", "--listen", &endpoint, "--workers", "3", "--timeout", "0.5"];
    let run = repd(&options, b"");
    assert_eq!((run.status.code(), &run.stderr[..]), (Some(0), &b""[..]));
    let printed = String::from_utf8(run.stdout).unwrap();
    for line in [&format!("--listen {endpoint}"), "--workers 3", "--timeout 0.5", "--drain 5"] {
        assert!(printed.lines().any(|printed| printed == line), "{printed}");
    }
    assert!(!path.exists());
}

#[test]
fn what_check_prints_can_be_pasted_into_a_shell() {
    let _limit = time_limit(60);
    let folder = Folder::new("check-pasted");
    let endpoint = format!("ipc://{}", folder.file("it's&b"));
    let options = ["serve", "--check", "--listen", &endpoint, "--listen", "tcp://127.0.0.1:*"];
    let printed = String::from_utf8(repd(&options, b"").stdout).unwrap();
    let pasted = format!("exec \"$0\" serve --check {}", printed.replace('\n', " "));
    let again = Command::new("sh").args(["-c", &pasted, common::REPD]).output().unwrap();
    assert_eq!(str::from_utf8(&again.stdout).unwrap(), printed, "{again:?}");
    assert!(printed.contains("--listen 'tcp://127.0.0.1:*'\n"), "{printed}");
}

#[test]
fn check_runs_no_program_but_looks_whether_it_could() {
    let _limit = time_limit(60);
    let folder = Folder::new("check-program");
    let ran = folder.0.join("ran");
    let options = ["serve", "--check", "--listen", "tcp://127.0.0.1:*", "--framing", "lines", "--"];
    let run = repd(&[&options[..], &["touch", ran.to_str().unwrap()]].concat(), b"");
    assert_eq!((run.status.code(), &run.stderr[..]), (Some(0), &b""[..]));
    assert!(!ran.exists());
    let run = repd(&[&options[..], &["/no/such/program"]].concat(), b"");
    assert_eq!(run.status.code(), Some(2));
}

#[test]
fn version_and_help_are_printed_and_are_no_mistakes() {
    let _limit = time_limit(60);
    let sleepy = Command::new(common::sleepy()).args(["serve", "--help"]).output().unwrap();
    assert!(sleepy.stdout.starts_with(b"Usage: repd serve"), "{sleepy:?}");
    let version = repd(&["--version"], b"");
    assert_eq!(version.status.code(), Some(0));
    assert_eq!(version.stdout, format!("repd {}\n", env!("CARGO_PKG_VERSION")).as_bytes());
    assert_eq!(repd(&["-V"], b"").stdout, version.stdout);
    for (arguments, usage) in [
        (&["--help"][..], "Usage: repd [options] [COMMAND]\n"),
        (&["-h"], "Usage: repd [options] [COMMAND]\n"),
        (&["help"], "Usage: repd [options] [COMMAND]\n"),
        (&["serve", "--help"], "Usage: repd serve [options] [-- PROGRAM ARG...]\n"),
        (&["help", "serve"], "Usage: repd serve [options] [-- PROGRAM ARG...]\n"),
        (&["call", "-h"], "Usage: repd call [options] ENDPOINT [FRAME...]\n"),
    ] {
        let help = repd(arguments, b"");
        assert_eq!((help.status.code(), &help.stderr[..]), (Some(0), &b""[..]));
        let help = String::from_utf8(help.stdout).unwrap();
        assert!(help.starts_with(usage), "{help}");
        let (text, _examples) = help.split_once("\nExamples:").unwrap_or((&help, ""));
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{help}");
    }
}

#[test]
fn a_value_may_be_behind_an_equals_sign_and_a_time_may_have_a_unit() {
    let _limit = time_limit(60);
    let check = ["serve", "--check", "--listen=tcp://127.0.0.1:*", "--workers=2"];
    let options = ["--timeout=500ms", "--drain", "2m", "--", "cat", "--number=no", "help"];
    let run = repd(&[&check[..], &options].concat(), b"");
    let printed = String::from_utf8(run.stdout).unwrap();
    let expected = ["--workers 2", "--timeout 0.5", "--drain 120", "-- cat --number=no help"];
    for line in expected {
        assert!(printed.lines().any(|printed| printed == line), "{printed}");
    }
    // They are taken, and it goes on to connect.
    for arguments in [
        &["call", "--timeout", "500ms", "tcp://*:1", "x"][..],
        &["bench", "--duration=1s", "--warmup", "0s", "--timeout=2m", "tcp://*:1"],
    ] {
        let run = repd(arguments, b"");
        assert!(line(&run).contains("cannot connect to tcp://*:1"), "{run:?}");
    }
}

#[test]
fn a_common_mistake_has_its_hint() {
    let _limit = time_limit(60);
    let folder = Folder::new("hints");
    fs::write(folder.0.join("count.sh"), "").unwrap();
    let serve = ["serve", "--check", "--listen", "tcp://127.0.0.1:*"];
    for (arguments, hint) in [
        (&["sevre"][..], "did you mean serve?"),
        (&["serve", "--wrokers", "3"], "did you mean --workers?"),
        (&["serve", "--workers=3x"], "give a whole number"),
        (&["serve", "--verbose=yes"], "--verbose takes no value"),
        (&["serve", "--max-memory=1M"], "give at least 2097152, or smaller messages"),
        (&["serve", "count.sh"], "if it is a program, put -- before it"),
        (&["--workers=3"], "options follow a command"),
        (&["call", "tcp://127.0.0.1:1", "-3"], "put -- before a frame that begins with -"),
        (&[&serve[..], &["--", "count.sh"]].concat(), "write ./count.sh"),
        (&[&serve[..], &["--", "grep -c x"]].concat(), "without quotes around all of them"),
    ] {
        let run = Command::new(REPD).args(arguments).current_dir(&folder.0).output().unwrap();
        assert!(line(&run).contains(hint), "{run:?}");
    }
}

#[test]
fn the_completions_load_and_complete() {
    let _limit = time_limit(60);
    let folder = Folder::new("completions");
    // As each shell loads a file of its folder; what it then offers. For zsh, that needs a terminal.
    for (shell, script, offered) in [
        (
            "bash",
            "source _repd; COMP_WORDS=(repd serve --work); COMP_CWORD=2; \
             \"$(complete -p repd | sed 's/.*-F \\([^ ]*\\) .*/\\1/')\"; echo \"${COMPREPLY[@]}\"",
            "--workers\n",
        ),
        (
            "zsh",
            "fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -D; \
             autoload +X _repd; echo $_comps[repd]",
            "_repd\n",
        ),
        (
            "fish",
            "source _repd; complete -C 'repd serve --work'",
            "--workers\tnumber of REP workers",
        ),
    ] {
        let printed = repd(&["completions", shell], b"");
        assert_eq!(printed.status.code(), Some(0));
        fs::write(folder.0.join("_repd"), printed.stdout).unwrap();
        let mut command = Command::new(shell);
        command.args(["-c", script]).current_dir(&folder.0).env("HOME", &folder.0);
        let Ok(run) = command.output() else {
            common::skipped(&format!("there is no {shell}"));
            continue;
        };
        assert!(run.status.success() && run.stderr.is_empty(), "{shell}: {run:?}");
        assert!(String::from_utf8_lossy(&run.stdout).starts_with(offered), "{shell}: {run:?}");
    }
    assert!(line(&repd(&["completions", "tcsh"], b"")).contains("give bash, zsh, fish or nushell"));
}

#[test]
fn a_closed_standard_output_or_error_is_no_reason_to_panic() {
    let _limit = time_limit(60);
    for (shell, code) in [
        ("exec \"$0\" --help >&-", 0),
        ("exec \"$0\" serve --help >/dev/full", 1),
        ("exec \"$0\" serve --listen ipc://@repd-full-$$ --check >/dev/full", 1),
    ] {
        let run = Command::new("sh").args(["-c", shell, REPD]).output().unwrap();
        assert_eq!(run.status.code(), Some(code), "{run:?}");
        assert_eq!(String::from_utf8_lossy(&run.stderr).contains("error: cannot print"), code == 1);
    }
    for shell in ["exec \"$0\" serve --nonsense 2>&-", "exec \"$0\" serve --nonsense 2>/dev/full"] {
        let run = Command::new("sh").args(["-c", shell, REPD]).output().unwrap();
        assert_eq!(run.status.code(), Some(2), "{run:?}");
    }
    let endpoint = format!("ipc://@repd-closed-{}", std::process::id());
    let _service = Command::new("sh")
        .args(["-c", "exec \"$0\" serve --listen \"$1\" 2>&-", REPD, &endpoint])
        .spawn()
        .map(Killed)
        .unwrap();
    assert_eq!(Client::req(&endpoint).ask_text("ab"), "ba");
}

/// Returns what a shell says, to which this program is `$0`, in a network namespace of its own
/// where it is root. None with a word if there is none to be had.
fn in_own_network(script: &str) -> Option<Output> {
    let run = |script: &str| {
        let shell = ["--map-root-user", "--net", "sh", "-c", script, REPD];
        Command::new("unshare").args(shell).output()
    };
    let can = run("ip link set lo up").is_ok_and(|run| run.status.success());
    if !can {
        common::skipped("no network namespace can be had");
    }
    can.then(|| run(&format!("ip link set lo up; {script}")).unwrap())
}

#[test]
fn an_interface_without_an_ipv4_address_is_no_place_to_listen() {
    let _limit = time_limit(60);
    let script = "ip link add eth7 type veth peer name eth8 && ip link set eth8 up && ip link set eth7 up && ip -6 addr add fd00::7/64 dev eth7 nodad; \
                  exec $0 serve --check --listen tcp://eth7:5555";
    let Some(run) = in_own_network(script) else { return };
    assert_eq!(run.status.code(), Some(2));
    assert!(line(&run).contains("eth7 has no IPv4 address yet"), "{run:?}");
}

#[test]
fn every_ipv6_address_is_every_ipv4_address_too() {
    let _limit = time_limit(60);
    if !common::has_ipv6() {
        return;
    }
    let script = "echo 1 > /proc/sys/net/ipv6/bindv6only && test \"$(cat /proc/sys/net/ipv6/bindv6only)\" = 1 || exit 77; \
                  $0 serve --listen 'tcp://[::]:5555' & service=$!; \
                  $0 call --retries 600 --timeout 0.1 tcp://127.0.0.1:5555 ab; kill $service; wait $service";
    let Some(run) = in_own_network(script) else { return };
    if run.status.code() == Some(77) {
        common::skipped("the system's setting cannot be changed here");
        return;
    }
    assert_eq!((run.status.code(), &run.stdout[..]), (Some(0), &b"ba\n"[..]), "{run:?}");
}

#[test]
fn a_service_whose_endpoint_is_taken_starts_no_program() {
    let _limit = time_limit(60);
    let folder = Folder::new("second");
    let first = Process::start(&[]);
    let started = folder.file("started");
    for workers in ["0", "3"] {
        let program = format!("touch {started}; exec cat");
        let options = ["serve", "--workers", workers, "--listen", &first.endpoint];
        let run = repd(
            &[&options[..], &["--framing", "lines", "--", "sh", "-c", &program]].concat(),
            b"",
        );
        assert_eq!(run.status.code(), Some(2), "{run:?}");
        assert!(line(&run).contains("the port is in use"), "{run:?}");
        assert!(!Path::new(&started).exists());
    }
}
