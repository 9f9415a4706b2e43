//! Keys: who has one that is listed is served, and nobody else.

mod common;

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use common::keys::Keys;
use common::raw::{self, Raw};
use common::{
    Client, Folder, Forwarder, Killed, Process, REPD, code, repd, skipped, time_limit, until,
};
use nix::unistd::{Gid, Uid, chown};
use repd::{Backend, Config, Service};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn mode(path: &str) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn keys_are_made_once_and_only_their_owner_may_read_the_secret_one() {
    let _limit = time_limit(60);
    let keys = Keys(Folder::new("keygen"));
    let name = keys.path("pump-7");
    let (public, secret) = (keys.path("pump-7.key"), keys.path("pump-7.key_secret"));
    let keygen = |options: &[&str]| repd(&[&["keygen"], options].concat(), b"");
    let made = Command::new("sh")
        .args(["-c", "umask 0; exec \"$0\" keygen \"$1\"", REPD, &name])
        .output()
        .unwrap();
    let line = String::from_utf8(made.stdout).unwrap();
    let key = line.strip_prefix("pump-7 ").unwrap().trim_end();
    assert_eq!(key.parse::<repd::PublicKey>().unwrap().to_string(), key);
    assert_eq!((mode(&public), mode(&secret)), (0o644, 0o600));
    assert!(!fs::read_to_string(&public).unwrap().contains("secret-key"));
    assert_eq!(keygen(&["--public", &secret]).stdout, format!("{key}\n").as_bytes());
    // Neither is overwritten, nor made where the other one is.
    let before = fs::read(&secret).unwrap();
    let again = keygen(&[&name]);
    assert_eq!(again.status.code(), Some(1));
    assert!(said(&again).contains("pump-7.key: File exists; no key is overwritten"), "{again:?}");
    fs::remove_file(&public).unwrap();
    let again = keygen(&[&name]);
    assert!(said(&again).contains("pump-7.key_secret: File exists"), "{again:?}");
    assert!(!fs::exists(&public).unwrap());
    // At a further first boot: the public one is made again.
    assert_eq!(keygen(&["--if-missing", &name]).stdout, line.as_bytes());
    assert_eq!((fs::read(&secret).unwrap(), mode(&public)), (before, 0o644));
    let names: Vec<_> =
        fs::read_dir(&keys.0.0).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    let other = keygen(&["--if-missing", &keys.path("other")]);
    assert!(other.stdout.starts_with(b"other "), "{other:?}");
    for (options, why) in [
        (&[][..], "give repd keygen NAME"),
        (&["a", "--public", &secret], "cannot use --public with a name"),
        (&[&keys.path("a b")], "is no name"),
        (&["--public", &public], "it holds no secret key"),
        (&[&keys.path("none/a")], "No such file or directory"),
    ] {
        let refused = keygen(options);
        assert!(!refused.status.success() && said(&refused).contains(why), "{refused:?}");
        assert_eq!(said(&refused).lines().count(), 1);
    }
}

#[test]
fn each_stranger_is_refused_and_told_apart() {
    let _limit = time_limit(60);
    let keys = Keys::new("strangers");
    let pump = fs::read_to_string(keys.path("clients")).unwrap();
    let list = [
        pump.trim_end(),
        &format!("{} until=2020-12-31", keys.make("expired").trim_end()),
        &format!("{} from=10.0.0.0/8,::1", keys.make("elsewhere").trim_end()),
    ];
    keys.write("clients", &(list.join("\n") + "\n"));
    let mut service = keys.serve(&["--verbose"]);
    let endpoint = service.endpoint.clone();
    let called = keys.call(&endpoint, "pump-7");
    assert_eq!(called.stdout, b"olleh\n", "{called:?}");

    let mut refused = |called: Output, said_there: &str, said_here: &str| {
        assert_eq!((called.status.code(), &called.stdout[..]), (Some(1), &b""[..]), "{called:?}");
        assert!(said(&called).contains(said_there), "{called:?}");
        let line = service.wait_for_line("refused ");
        assert!(line.contains("127.0.0.1") && line.contains(said_here), "{line}");
        line
    };
    let unlisted = keys.make("unlisted");
    let key = unlisted.split(' ').nth(1).unwrap().trim_end();
    refused(
        keys.call(&endpoint, "unlisted"),
        &format!(
            "does not let this key in; have it added to the list of its clients, or its line there changed: NAME {key}"
        ),
        &format!(
            "its key is not listed; to let it in, add to {} the line: NAME {key}",
            keys.path("clients")
        ),
    );
    for (name, why) in
        [("expired", "its key is no longer valid"), ("elsewhere", "it may not connect from there")]
    {
        let line = refused(keys.call(&endpoint, name), "does not let this key in", why);
        assert!(line.contains(&format!("refused {name} from")), "{line}");
    }
    refused(
        repd(&["call", &endpoint, "hello"], b""),
        "wants keys or a password; if keys, give --server-key",
        "has no key",
    );
    let (own, other) = (keys.path("pump-7.key_secret"), keys.path("unlisted.key"));
    let wrong = ["call", &endpoint, "--key", &own, "--server-key", &other, "hello"];
    refused(repd(&wrong, b""), "has another key than --server-key says", "another");
    // The same one is told of once a minute.
    for _ in 0..3 {
        assert_eq!(keys.call(&endpoint, "unlisted").status.code(), Some(1));
    }
    assert_eq!(keys.call(&endpoint, "pump-7").stdout, b"olleh\n");
    service.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(service.wait().code(), Some(0));
    let told = service.log.iter().filter(|line| line.contains("its key is not listed")).count();
    assert_eq!(told, 1, "{:#?}", service.log);
    let log = service.log.join("\n");
    for name in ["service", "pump-7", "unlisted"] {
        assert!(!log.contains(&keys.secret(name)), "{log}");
    }
}

#[test]
fn a_service_without_keys_says_so_to_who_has_some() {
    let _limit = time_limit(60);
    let keys = Keys::new("none");
    let mut service = Process::start(&[]);
    let called = keys.call(&service.endpoint, "pump-7");
    assert!(said(&called).contains("has no keys; leave out --key and --server-key"), "{called:?}");
    service.wait_for_line(
        "it wants keys or a password, and this service has none; see --key (it offers CURVE); so far: 1",
    );
}

#[test]
fn no_other_mechanism_and_no_older_protocol_gets_in() {
    let _limit = time_limit(60);
    let keys = Keys::new("mechanisms");
    let greeting = |mechanism: &str| {
        let mut greeting = raw::greeting();
        greeting[12..32].fill(0);
        greeting[12..12 + mechanism.len()].copy_from_slice(mechanism.as_bytes());
        greeting
    };
    let hello = raw::command("HELLO", b"\x05admin\x05admin");
    let ready = raw::ready(b"");
    let [_, older] = raw::handshakes(b"");
    let request = raw::request(b"let me in");
    let no_client = "is no ZeroMQ client, or breaks the protocol;";
    for (greeting, then, request, why) in [
        (greeting("NULL"), ready.clone(), &request, "this service (it offers NULL);"),
        (greeting("PLAIN"), hello, &request, "this service (it offers PLAIN);"),
        (greeting("PEPPER"), ready.clone(), &request, "and the public key of this service;"),
        (greeting("CURVE"), ready, &request, no_client),
        (older, Vec::new(), &request, "it speaks ZMTP 2.0, which has no keys;"),
        // Frames of ZMTP 1.0 (RFC 13): a length, which counts the flags.
        (
            b"\x01\0".to_vec(),
            Vec::new(),
            &b"\x01\x01\x0a\0let me in".to_vec(),
            "it speaks ZMTP 1.0, which has no keys;",
        ),
    ] {
        let mut service = keys.serve(&["--handler", "echo"]);
        let mut stranger = Raw::connect(&service.endpoint);
        stranger.send(&greeting);
        // Its greeting the service sends in any case.
        let _ = stranger.0.read_exact(&mut [0; 64]);
        stranger.send(&then);
        let _ = stranger.0.read(&mut [0; 64]);
        stranger.send(request);
        let rest = stranger.rest();
        assert!(!rest.windows(9).any(|it| it == b"let me in"), "{rest:?}");
        let line = service.wait_for_line("refused ");
        assert!(line.contains(why), "{line}");
        assert_eq!(keys.call(&service.endpoint, "pump-7").stdout, b"hello\n");
    }
}

#[test]
fn handshakes_leave_time_for_who_is_connected() {
    const STRANGERS: usize = 1500;
    let _limit = time_limit(60);
    let keys = Keys::new("flood");
    let service = keys.serve(&["--workers", "1"]);
    let client = keys.client(zmq::REQ, &service.endpoint, "pump-7");
    assert_eq!(client.ask_text("abc"), "cba");
    let mut greeting = raw::greeting();
    greeting[12..17].copy_from_slice(b"CURVE");
    // A HELLO (RFC 26) that is as long as it must be, and whose box opens with no key.
    let hello = [b"\x05HELLO\x01\0".to_vec(), vec![0; 72], vec![7; 120]].concat();
    let hello = [vec![4, 200], hello].concat();
    let mut strangers: Vec<Raw> = (0..STRANGERS).map(|_| Raw::connect(&service.endpoint)).collect();
    // What comes before the commands takes no turns.
    strangers.iter_mut().for_each(|stranger| stranger.send(&greeting));
    for stranger in &mut strangers {
        stranger.0.read_exact(&mut [0; 64]).unwrap();
    }
    let (started, before) = (Instant::now(), service.processor_time());
    strangers.iter_mut().for_each(|stranger| stranger.send(&hello));
    for stranger in &mut strangers {
        while stranger.0.read(&mut [0; 64]).is_ok_and(|it| it > 0) {}
    }
    // Seven eighths of the I/O thread's time are for others, though there are none now. The end of
    // a connection takes no turn.
    let (passed, used) = (started.elapsed(), service.processor_time() - before);
    assert!(used * 3 < passed, "{used:?} of {passed:?}");
    assert_eq!(client.ask_text("abc"), "cba");
}

// Of mosquitto an empty list let everybody in (CVE-2018-12550), and so did a line without a password
// (CVE-2018-12551).
#[test]
fn a_list_without_a_key_lets_nobody_in() {
    let _limit = time_limit(60);
    let keys = Keys::new("nobody");
    keys.write("clients", "# nobody yet\n\n");
    let service = keys.serve(&[]);
    let refused = keys.call(&service.endpoint, "pump-7");
    assert_eq!((refused.status.code(), refused.stdout.is_empty()), (Some(1), true));
    for line in ["pump-7", "pump-7 ", "pump-7 \t", "pump-7 0", "pump-7 ''"] {
        keys.write("clients", &format!("{line}\n"));
        let (key, clients) = (keys.path("service.key_secret"), keys.path("clients"));
        let refused = repd(
            &["serve", "--listen", "tcp://127.0.0.1:*", "--key", &key, "--clients", &clients],
            b"",
        );
        assert_eq!(refused.status.code(), Some(2), "{line:?}");
        assert!(said(&refused).contains("clients:1"), "{}", said(&refused));
    }
}

#[test]
fn an_ipc_endpoint_is_for_whom_its_file_lets_in() {
    let _limit = time_limit(60);
    let keys = Keys::new("ipc");
    let ipc = format!("ipc://{}", keys.path("socket"));
    for order in [["--listen", &ipc, "--workers", "0"], ["--workers", "1", "--listen", &ipc]] {
        let service = keys.serve(&order);
        assert_eq!(Client::req(&ipc).ask_text("abc"), "cba");
        assert_eq!(keys.call(&service.endpoint, "pump-7").stdout, b"olleh\n");
        assert_eq!(repd(&["call", &service.endpoint, "hello"], b"").status.code(), Some(1));
    }
}

#[test]
fn a_message_has_the_same_limits_with_keys() {
    let _limit = time_limit(60);
    let keys = Keys::new("limits");
    let service = keys.serve(&["--handler", "echo", "--max-message-size", "1000"]);
    let client = keys.client(zmq::REQ, &service.endpoint, "pump-7");
    let asked = |sizes: &[usize]| {
        let frames: Vec<Vec<u8>> = sizes.iter().map(|size| vec![b'a'; *size]).collect();
        let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        let reply = client.ask(&frames);
        code(&reply).unwrap_or_else(|| {
            assert_eq!(reply, frames);
            200
        })
    };
    for (sizes, code) in [
        (&[0][..], 200),
        (&[1000], 200),
        (&[999, 1], 200),
        (&[1; 64], 200),
        (&[1001], 413),
        (&[1000, 1], 413),
        (&[4000], 413),
        (&[30_000], 413),
        (&[30_000, 30_000], 413),
        (&[500, 400, 3000], 413),
        (&[1; 65], 413),
        (&[1000], 200),
    ] {
        assert_eq!(asked(sizes), code, "{sizes:?}");
    }
    // Far beyond them it is cut off.
    for sizes in [&[100_000][..], &[60_000, 60_000]] {
        let (client, watch) = keys.watched(zmq::DEALER, &service.endpoint, "pump-7");
        let frames: Vec<Vec<u8>> = sizes.iter().map(|size| vec![b'a'; *size]).collect();
        client.send(&frames.iter().map(Vec::as_slice).collect::<Vec<_>>());
        watch.wait();
    }
    let mebibyte = keys.serve(&["--handler", "echo"]);
    let client = keys.client(zmq::REQ, &mebibyte.endpoint, "pump-7");
    let largest = vec![7; 1 << 20];
    assert_eq!(client.ask(&[&largest]), [largest]);
}

#[test]
fn a_wrong_file_is_refused_before_anything_starts() {
    let _limit = time_limit(60);
    let keys = Keys::new("files");
    let (secret, clients) = (keys.path("service.key_secret"), keys.path("clients"));
    let check = |options: &[&str]| {
        let base = ["serve", "--check", "--listen", "tcp://127.0.0.1:*"];
        repd(&[&base, options].concat(), b"")
    };
    let right = check(&["--key", &secret, "--clients", &clients]);
    assert!(right.status.success(), "{right:?}");
    let printed = String::from_utf8(right.stdout).unwrap();
    assert!(printed.contains(&format!("--key {secret}\n--clients {clients}\n")), "{printed}");
    assert!(!printed.contains(&keys.secret("service")));
    let key = keys.public("pump-7");
    let list = keys.write("wrong", &format!("# the pumps\npump-7 {key}\npump-8 {key} rate=0\n"));
    let text = fs::read_to_string(&secret).unwrap();
    let open = keys.write("open", &text);
    let latin = keys.path("latin");
    let bytes = [b"pump-7 ".to_vec(), key.clone().into(), b"\n# caf\xe9\n".to_vec()].concat();
    fs::write(&latin, bytes).unwrap();
    let bare = keys.secret("service");
    let pasted = keys.write("pasted", &format!("pump-7 {key} {bare}\n"));
    let mixed = keys.write("mixed", &text.replace(&keys.public("service"), &key));
    let none = keys.write("no-key", "metadata\ncurve\n    secret-key = \"abc\"\n");
    for path in [&mixed, &none] {
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    }
    let anyones = keys.write("anyones", &format!("pump-7 {key}\n"));
    fs::set_permissions(&anyones, Permissions::from_mode(0o606)).unwrap();
    let (public, folder, backend) = (keys.path("service.key"), keys.path("."), "tcp://127.0.0.1:*");
    for (options, why) in [
        (&["--key", &secret][..], "give --clients FILE"),
        (&["--clients", &clients], "give --key FILE"),
        (&["--key", &secret, "--clients", &clients, "--backend-clients", &clients], "--backend"),
        (
            &["--key", &secret, "--clients", &clients, "--backend", backend],
            "--backend-clients FILE",
        ),
        (&["--key", &secret, "--clients", &list], "wrong:3: \"rate=0\" is out of range"),
        (&["--key", &secret, "--clients", &latin], "latin:2: it is no text"),
        (&["--key", &secret, "--clients", &pasted], "pasted:1: a word that looks like a key is no"),
        (&["--key", &bare, "--clients", &clients], "a key that is given in the place of its file"),
        (&["--key", &secret, "--clients", "none"], "cannot read none: No such file or directory"),
        (&["--key", &secret, "--clients", &folder], "is a directory"),
        (
            &["--key", &secret, "--clients", &anyones],
            "anyones: every user may change it; chmod o-w ",
        ),
        (
            &["--key", &open, "--clients", &clients],
            "open: every user may read or change it (its mode is 0644); chmod 600 ",
        ),
        (&["--key", &public, "--clients", &clients], "it holds no secret key"),
        (&["--key", &mixed, "--clients", &clients], "its public key is not that of its secret key"),
        (&["--key", &none, "--clients", &clients], "a key has 40 characters"),
    ] {
        let refused = check(options);
        assert_eq!(refused.status.code(), Some(2), "{options:?}: {refused:?}");
        let said = said(&refused);
        assert!(said.to_lowercase().contains(&why.to_lowercase()), "{options:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(!said.contains(&bare), "{said}");
    }
}

#[test]
fn a_worker_needs_a_key_too() {
    let _limit = time_limit(60);
    let keys = Keys::new("workers");
    let line = keys.make("worker");
    let list = keys.write("backend", &line);
    let options = ["--backend", "tcp://127.0.0.1:*", "--backend-clients", &list];
    let mut service = keys.serve(&options);
    let line =
        service.log.iter().find(|line| line.contains("workers connect to ")).unwrap().clone();
    let backend = line.split("workers connect to ").nth(1).unwrap();
    let keyless = Client::new(zmq::REP, backend);
    service.wait_for_line("has no key");
    // Who may ask may not answer.
    let other = keys.client(zmq::REP, backend, "pump-7");
    service.wait_for_line("its key is not listed");
    let worker = keys.client(zmq::REP, backend, "worker");
    let client = keys.client(zmq::REQ, &service.endpoint, "pump-7");
    for _ in 0..20 {
        client.send(&[b"abc"]);
        assert_eq!(worker.socket.recv_multipart(0).unwrap(), [b"abc"]);
        worker.socket.send("done", 0).unwrap();
        assert_eq!(client.receive(), [b"done"]);
    }
    drop((keyless, other));
}

#[test]
fn keys_of_pyzmq_are_read_and_it_reads_ours() {
    let _limit = time_limit(60);
    let Some(python) = common::python_with_pyzmq() else { return };
    let keys = Keys::new("pyzmq");
    const CLIENT: &str = r#"
import sys, zmq, zmq.auth
folder, endpoint = sys.argv[1:]
with zmq.Context() as context, context.socket(zmq.REQ) as socket:
    socket.linger = 0
    server, _ = zmq.auth.load_certificate(f"{folder}/service.key")
    public, secret = zmq.auth.load_certificate(f"{folder}/pump-7.key_secret")
    socket.curve_publickey, socket.curve_secretkey, socket.curve_serverkey = public, secret, server
    socket.connect(endpoint)
    socket.send(b"hello")
    print(socket.recv().decode())
zmq.auth.create_certificates(folder, "theirs")
"#;
    let service = keys.serve(&[]);
    let folder = keys.0.0.to_str().unwrap();
    let run =
        Command::new(python).args(["-c", CLIENT, folder, &service.endpoint]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&run.stdout), "olleh\n", "{run:?}");
    let theirs = keys.path("theirs.key_secret");
    fs::set_permissions(&theirs, Permissions::from_mode(0o600)).unwrap();
    let public = fs::read_to_string(keys.path("theirs.key")).unwrap();
    assert!(public.contains(&keys.public("theirs")), "{public}");
    let list = format!("theirs {}\n", keys.public("theirs"));
    fs::write(keys.path("clients"), list).unwrap();
    let service = keys.serve(&[]);
    assert_eq!(keys.call(&service.endpoint, "theirs").stdout, b"olleh\n");
}

#[test]
fn an_upstream_and_its_front_know_each_other() {
    let _limit = time_limit(60);
    let keys = Keys::new("upstream");
    let front_line = keys.make("front");
    let back = keys.serve(&["--handler", "reverse"]);
    // The front is not listed there yet; and it has a key for its own clients.
    let (front, clients) = (keys.path("front.key_secret"), keys.path("clients"));
    let public = keys.public("service");
    let servers = keys.write("servers", &format!("{} {public}\n", back.endpoint));
    let start = |servers: &str, upstream: &str| {
        let options = ["--key", &front, "--clients", &clients, "--upstream", upstream];
        Process::start(&[&options[..], &["--servers", servers]].concat())
    };
    let mut refused = start(&servers, &back.endpoint);
    let line = refused.wait_for_line("it does not let this service in");
    assert!(line.contains(&format!("NAME {}", keys.public("front"))), "{line}");
    let wrong = keys.write("wrong", &format!("{} {}\n", back.endpoint, keys.public("front")));
    start(&wrong, &back.endpoint).wait_for_line("it has another key than --servers says");
    let open = Process::start(&[]);
    let stranger = keys.write("open", &format!("{} {public}\n", open.endpoint));
    start(&stranger, &open.endpoint).wait_for_line("it has no keys");
    let mut keyless = Process::start(&["--upstream", &back.endpoint]);
    keyless.wait_for_line("it wants keys");
    // Listed at a service that is started anew, it is let in by itself.
    fs::write(&clients, fs::read_to_string(&clients).unwrap() + &front_line).unwrap();
    let endpoint = back.endpoint.clone();
    drop(back);
    let listen = ["--listen", &endpoint, "--key", &keys.path("service.key_secret")];
    let _back =
        Process::run(Command::new(REPD).args(["serve", "--clients", &clients]).args(listen));
    refused.wait_for_line("connected");
    let server = keys.public("front");
    let pump = keys.path("pump-7.key_secret");
    let call = ["call", &refused.endpoint, "--server-key", &server, "--key", &pump, "hello"];
    assert_eq!(repd(&call, b"").stdout, b"olleh\n");
    for (list, why) in [
        (format!("{endpoint} {server} x\n"), "unnamed:1: what follows the key"),
        ("tcp://127.0.0.1:1 key\n".into(), "unnamed:1: the key of tcp://127.0.0.1:1 is none"),
        (String::new(), "add the line: tcp://127.0.0.1:1 KEY"),
    ] {
        let list = keys.write("unnamed", &list);
        let options = ["--upstream", "tcp://127.0.0.1:1", "--servers", &list, "--check"];
        let base = ["serve", "--listen", "tcp://127.0.0.1:*", "--key", &front];
        let said = said(&repd(&[&base[..], &["--clients", &clients], &options].concat(), b""));
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn keys_of_czmq_are_read_and_it_reads_ours() {
    let _limit = time_limit(60);
    let keys = Keys::new("czmq");
    let program = keys.path("client");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/czmq_client.c");
    let built = Command::new("cc").args(["-o", &program, source, "-lczmq", "-lzmq"]).output();
    if !built.is_ok_and(|built| built.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "install a C compiler and libczmq-dev");
        skipped("there is no C compiler, or no CZMQ");
        return;
    }
    let mut service = keys.serve(&[]);
    let [own, server, new] =
        ["pump-7.key_secret", "service.key", "theirs.key"].map(|name| keys.path(name));
    let asked = Command::new(program).args([&own, &server, &service.endpoint, &new]).output();
    assert_eq!(asked.unwrap().stdout, b"olleh\n");
    assert_eq!(keys.call(&service.endpoint, "theirs").status.code(), Some(1));
    keys.write("clients", &format!("theirs {}\n", keys.public("theirs")));
    service.signal(nix::sys::signal::Signal::SIGHUP);
    service.wait_for_line("clients: 1 (+1 -1)");
    assert_eq!(keys.call(&service.endpoint, "theirs").stdout, b"olleh\n");
}

#[test]
fn who_may_connect_is_said_by_allow_and_deny() {
    let _limit = time_limit(60);
    let connect_from = |last: u8, service: &Process| {
        let from =
            format!("tcp://127.0.0.{last}:0;{}", service.endpoint.strip_prefix("tcp://").unwrap());
        let client = Client::new(zmq::REQ, &from);
        client
            .socket
            .set_rcvtimeo(if last == 2 { 100 } else { common::LIMIT.as_millis() as i32 })
            .unwrap();
        client.send(&[b"abc"]);
        client.receive_in_time()
    };
    for listen in ["tcp://127.0.0.1:*", "tcp://[::]:*"] {
        if listen.contains("::") && !common::has_ipv6() {
            continue;
        }
        for options in [["--deny", "127.0.0.2"], ["--allow", "127.0.0.1"]] {
            let mut service =
                Process::run(Command::new(REPD).args(["serve", "--listen", listen]).args(options));
            service.endpoint = service.endpoint.replace("[::]", "127.0.0.1");
            assert_eq!(connect_from(1, &service), Some(vec![b"cba".to_vec()]));
            assert_eq!(connect_from(2, &service), None);
            let line = service.wait_for_line("refused ");
            assert!(
                line.contains("127.0.0.2") && line.contains("do not let its address in"),
                "{line}"
            );
            assert_eq!(connect_from(1, &service), Some(vec![b"cba".to_vec()]));
        }
    }
    for (network, why) in [
        ("10.0.0.0/33", "is no network"),
        ("10.0.0.1/8", "give 10.0.0.0/8"),
        ("010.0.0.0/8", "has leading zeros: give 10.0.0.0/8"),
    ] {
        let refused = repd(&["serve", "--check", "--allow", network], b"");
        assert_eq!(refused.status.code(), Some(2));
        assert!(said(&refused).contains(why), "{refused:?}");
    }
}

#[test]
fn a_listed_client_has_its_own_limits_over_all_its_connections() {
    let _limit = time_limit(60);
    let keys = Keys::new("own-limits");
    let (hurried, other) = (keys.make("hurried"), keys.make("other"));
    keys.write("clients", &format!("{} rate=1\n{other}", hurried.trim_end()));
    for workers in ["1", "0"] {
        let service = keys.serve(&["--workers", workers]);
        let connect = |name| keys.client(zmq::REQ, &service.endpoint, name);
        let (one, two, free) = (connect("hurried"), connect("hurried"), connect("other"));
        let refused = |client: &Client| (0..4).find_map(|_| code(&client.ask(&[b"a"])));
        assert_eq!(refused(&one), Some(429));
        assert_eq!(code(&two.ask(&[b"a"])), Some(429));
        assert_eq!(code(&connect("hurried").ask(&[b"a"])), Some(429));
        assert!((0..100).all(|_| free.ask_text("ab") == "ba"));
    }
}

#[test]
fn a_listed_client_has_so_many_connections_at_a_time() {
    let _limit = time_limit(60);
    let keys = Keys::new("connections");
    let line = fs::read_to_string(keys.path("clients")).unwrap();
    let other = keys.make("other");
    keys.write("clients", &format!("{} connections=2\n{other}", line.trim_end()));
    let mut service = keys.serve(&[]);
    let endpoint = service.endpoint.clone();
    let connect = |name| keys.client(zmq::REQ, &endpoint, name);
    let (one, two, free) = (connect("pump-7"), connect("pump-7"), connect("other"));
    for client in [&one, &two, &free] {
        assert_eq!(client.ask_text("abc"), "cba");
    }
    let third = connect("pump-7");
    third.send(&[b"abc"]);
    let said = service.wait_for_line("refused ");
    assert!(
        said.contains("pump-7 from 127.0.0.1 for now: it has 2 connections, and may have no more"),
        "{said}"
    );
    assert_eq!(connect("other").ask_text("abc"), "cba");
    assert_eq!(third.socket.poll(zmq::POLLIN, 0), Ok(0));
    // It tries again by itself, and comes in once there is place.
    drop(one);
    assert_eq!(third.receive(), [b"cba"]);
    assert_eq!(two.ask_text("abc"), "cba");
}

#[test]
fn who_is_refused_is_disconnected_at_once() {
    let _limit = time_limit(60);
    let keys = Keys::new("at-once");
    keys.make("unlisted");
    let line = fs::read_to_string(keys.path("clients")).unwrap();
    keys.write("clients", &format!("{} connections=1\n", line.trim_end()));
    let service = keys.serve(&[]);
    let first = keys.client(zmq::REQ, &service.endpoint, "pump-7");
    assert_eq!(first.ask_text("abc"), "cba");
    // 400 for the one, 300 for the other, which hears nothing.
    for name in ["unlisted", "pump-7"] {
        // This one has the time that a handshake may take.
        let mut silent = Raw::connect(&service.endpoint);
        let forwarder = Forwarder::new(&service.endpoint, usize::MAX);
        let _client = keys.client(zmq::REQ, &forwarder.endpoint, name);
        until("it is disconnected", || forwarder.is_closed());
        silent.0.read_exact(&mut [0; 10]).unwrap();
        silent.0.set_nonblocking(true).unwrap();
        let rest = silent.0.read(&mut [0; 64]).map_err(|error| error.kind());
        assert!(rest == Err(ErrorKind::WouldBlock) || rest.is_ok_and(|length| length > 0));
    }
}

#[test]
fn what_a_client_calls_itself_counts_for_nothing() {
    let _limit = time_limit(60);
    let keys = Keys::new("user-id");
    let line = keys.make("hurried");
    keys.write("clients", &format!("{} rate=1\n", line.trim_end()));
    let path = keys.path("socket");
    let service = keys.serve(&["--listen", &format!("ipc://{path}")]);
    // Over ipc nobody is asked for a key, and this one says that it is the listed client, in the
    // words of the ZAP handler.
    let user_id = format!("{} 127.0.0.1", line.trim_end());
    assert!(user_id.starts_with("hurried ") && user_id.split(' ').count() == 3, "{user_id}");
    let mut impostor = UnixStream::connect(&path).unwrap();
    impostor.set_read_timeout(Some(common::LIMIT)).unwrap();
    let properties =
        [raw::property("Socket-Type", b"DEALER"), raw::property("User-Id", user_id.as_bytes())]
            .concat();
    impostor.write_all(&raw::greeting()).unwrap();
    impostor.read_exact(&mut [0; 64]).unwrap();
    impostor.write_all(&raw::command("READY", &properties)).unwrap();
    let _ = impostor.read(&mut [0; 64]).unwrap();
    impostor.write_all(&raw::request(b"let me").repeat(10)).unwrap();
    let mut replies: Vec<u8> = Vec::new();
    while replies.windows(6).filter(|it| it == b"em tel").count() < 10 {
        let mut part = [0; 1024];
        let length = impostor.read(&mut part).unwrap();
        assert!(length > 0, "{replies:?}");
        replies.extend(&part[..length]);
        assert!(!replies.windows(3).any(|it| it == b"429"), "{replies:?}");
    }
    let client = keys.client(zmq::REQ, &service.endpoint, "hurried");
    assert_eq!(client.ask_text("abc"), "cba");
}

#[test]
fn a_service_that_everybody_can_reach_says_so() {
    let _limit = time_limit(60);
    let keys = Keys::new("open");
    let (key, clients) = (keys.path("service.key_secret"), keys.path("clients"));
    let told = |options: &[&str]| {
        let mut service = Process::run(Command::new(REPD).arg("serve").args(options));
        service.signal(nix::sys::signal::Signal::SIGTERM);
        service.wait();
        service.log.iter().any(|line| line.contains("warning: whoever reaches tcp://0.0.0.0:"))
    };
    let open = ["--listen", "tcp://127.0.0.1:*", "--listen", "tcp://*:*"];
    assert!(told(&open));
    assert!(!told(&open[..2]));
    assert!(!told(&[&open[..], &["--key", &key, "--clients", &clients]].concat()));
    assert!(!told(&[&open[..], &["--allow", "127.0.0.1"]].concat()));
}

#[test]
fn other_processes_of_its_user_and_its_programs_do_not_see_the_key() {
    let _limit = time_limit(60);
    let keys = Keys::new("secrecy");
    let program = r#"
while read -r line; do
    cat "/proc/$PPID/environ" > /dev/null 2>&1 && seen=seen || seen=hidden
    echo "${CREDENTIALS_DIRECTORY:-none} $seen $(grep NoNewPrivs /proc/self/status)"
done"#;
    let serve = |options: &[&str]| {
        let program = ["--workers", "1", "--framing", "lines", "--", "sh", "-c", program];
        let mut command = Command::new(REPD);
        if Uid::effective().is_root() {
            // Root sees all.
            let (nobody, group) = (Uid::from_raw(65534), Gid::from_raw(65534));
            for file in ["service.key_secret", "clients", "."] {
                chown(Path::new(&keys.path(file)), Some(nobody), Some(group)).unwrap();
            }
            command = Command::new("setpriv");
            command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
            let copy = keys.path("repd");
            let _ = fs::copy(REPD, &copy);
            command.arg(copy);
        }
        let listen = ["serve", "--listen", "tcp://127.0.0.1:*"];
        command.args(listen).args(options).args(program).env("CREDENTIALS_DIRECTORY", "/c");
        command.current_dir("/");
        Process::run(&mut command)
    };
    let open = serve(&[]);
    let said = Client::req(&open.endpoint).ask_text("what?");
    // As it is here: where this runs it may be set for all.
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("NoNewPrivs:")).unwrap().trim();
    assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["/c", "seen", "NoNewPrivs:", own]);
    let (key, clients) = (keys.path("service.key_secret"), keys.path("clients"));
    let service = serve(&["--key", &key, "--clients", &clients]);
    let said = keys.client(zmq::REQ, &service.endpoint, "pump-7").ask_text("what?");
    assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["none", "hidden", "NoNewPrivs:", "1"]);
    let arguments = fs::read(format!("/proc/{}/cmdline", service.pid())).unwrap();
    let secret = keys.secret("service");
    assert!(!arguments.windows(secret.len()).any(|it| it == secret.as_bytes()));
}

/// Who asks whether a client may connect would wait for its answer for ever.
#[test]
fn a_service_ends_when_the_thread_that_says_who_may_connect_does() {
    let _limit = time_limit(60);
    let keys = Keys::new("zap");
    let mut service = keys.serve(&[]);
    let tasks = fs::read_dir(format!("/proc/{}/task", service.pid())).unwrap();
    let names = tasks.map(|task| task.unwrap().path());
    let is_zap =
        |task: &std::path::PathBuf| fs::read_to_string(task.join("comm")).unwrap() == "zap\n";
    let thread = names.into_iter().find(is_zap).unwrap();
    let thread = thread.file_name().unwrap().to_str().unwrap();
    let inject = "--inject=poll,ppoll:error=ENOMEM";
    let tracer = Command::new("strace")
        .args(["--trace=poll,ppoll", inject, "--attach", thread])
        .stderr(Stdio::piped())
        .spawn();
    let mut tracer = match tracer {
        Ok(tracer) => Killed(tracer),
        Err(error) => return skipped(&format!("there is no strace: {error}")),
    };
    let mut said = BufReader::new(tracer.0.stderr.take().unwrap()).lines();
    let attached = said.find(|line| line.as_ref().unwrap().contains("attached"));
    assert!(attached.is_some() || std::env::var_os("CI").is_none(), "allow ptrace(2)");
    if attached.is_none() {
        return skipped("strace may not trace");
    }
    keys.make("unlisted");
    assert_ne!(keys.call(&service.endpoint, "unlisted").status.code(), Some(0));
    assert_eq!(service.wait().code(), Some(1), "{:?}", service.log);
    let log = service.rest_of_log();
    let injected = "error: cannot wait for messages: Cannot allocate memory";
    assert!(log.lines().last().unwrap().contains(injected), "{log}");
}

/// What a process leaves when it is aborted has all that it knew. That it cannot be dumped and that
/// Landlock lets it write nothing each see to it: this fails without both. That it hides what it
/// knows, as the first has it do, has a test above.
#[test]
fn a_service_with_a_key_leaves_no_core() {
    let _limit = time_limit(60);
    let keys = Keys::new("core");
    let (key, clients) = (keys.path("service.key_secret"), keys.path("clients"));
    let leaves_core = |options: &[&str]| {
        let folder = Folder::new("core-of");
        let run = "ulimit -c unlimited; exec \"$0\" serve --listen 'tcp://127.0.0.1:*' \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", run, REPD]).args(options).current_dir(&folder.0);
        let mut service = Process::run(&mut command);
        service.signal(nix::sys::signal::Signal::SIGABRT);
        assert_eq!(service.wait().signal(), Some(6));
        fs::read_dir(&folder.0).unwrap().count() > 0
    };
    if !leaves_core(&[]) {
        // It may be no failure in CI: the system says where cores go.
        return println!("no process leaves a core here: /proc/sys/kernel/core_pattern");
    }
    assert!(!leaves_core(&["--key", &key, "--clients", &clients]));
}

#[test]
fn a_start_that_fails_leaves_no_thread() {
    let _limit = time_limit(60);
    let keys = Keys::new("no-start");
    let nowhere = Backend::Upstream(vec!["tcp://*:1".parse().unwrap()]);
    let config = Config::new(nowhere)
        .listen(["tcp://127.0.0.1:*".parse().unwrap()])
        .key(keys.path("service.key_secret"))
        .clients(keys.path("clients"));
    assert!(Service::start(&config).is_err());
    let mut tasks = fs::read_dir("/proc/self/task").unwrap();
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm"));
    // No other test has a service in this process.
    assert!(tasks.all(|task| name(task.unwrap()).unwrap_or_default() != "zap\n"));
}
