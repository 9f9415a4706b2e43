//! The lists are read again while the service runs: who is new is served, and who was taken off is
//! not.

mod common;

use std::fs::{self, Permissions};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::spawn;

use common::keys::{Keys, Watch};
use common::{Client, Forwarder, Process, REPD, code, time_limit, until};
use nix::sys::signal::Signal::{SIGHUP, SIGTERM};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use repd::{Config, Service};

/// A list with these clients, whose keys are made.
fn list(keys: &Keys, names: &[&str]) -> String {
    names.iter().map(|name| format!("{name} {}\n", keys.public(name))).collect()
}

/// Has the service read its list again with these clients in it, and returns what it says.
fn reload(service: &mut Process, keys: &Keys, names: &[&str]) -> String {
    keys.write("clients", &list(keys, names));
    service.signal(SIGHUP);
    service.wait_for_line("read the lists again: ")
}

#[test]
fn who_is_added_is_served_and_a_list_with_a_mistake_changes_nothing() {
    let _limit = time_limit(60);
    let keys = Keys::new("reload");
    keys.make("new");
    for workers in ["1", "0"] {
        keys.write("clients", &list(&keys, &["pump-7"]));
        let mut service = keys.serve(&["--workers", workers]);
        let endpoint = service.endpoint.clone();
        let client = keys.client(zmq::REQ, &endpoint, "pump-7");
        assert_eq!(client.ask_text("abc"), "cba");
        assert_eq!(keys.call(&endpoint, "new").status.code(), Some(1));
        let said = reload(&mut service, &keys, &["pump-7", "new"]);
        assert!(said.ends_with("clients: 2 (+1 -0)"), "{said}");
        assert_eq!(keys.call(&endpoint, "new").stdout, b"olleh\n");
        let path = keys.path("clients");
        let set_mode = |mode| fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let mistakes: [(&dyn Fn(), &str); 6] = [
            // The key alone is there of a line that restricts its client.
            (
                &|| _ = keys.write("clients", list(&keys, &["pump-7"]).trim_end()),
                "clients:1: the file ends amid this line",
            ),
            (&|| set_mode(0o662), "every user may change it; chmod o-w"),
            (
                &|| {
                    set_mode(0o660);
                    keys.write("clients", "pump-7 key\n");
                },
                "clients:1: the key of pump-7 is none",
            ),
            (&|| fs::remove_file(&path).unwrap(), "No such file or directory"),
            // Which would hold up whoever opens it.
            (&|| mkfifo(&path[..], Mode::S_IRWXU).unwrap(), "it is no regular file"),
            (&|| fs::remove_file(&path).and_then(|()| fs::create_dir(&path)).unwrap(), "directory"),
        ];
        for (make, why) in mistakes {
            make();
            service.signal(SIGHUP);
            let said = service.wait_for_line("the lists stay as they were");
            assert!(said.contains("error: ") && said.contains(why), "{said}");
            assert_eq!(keys.call(&endpoint, "new").stdout, b"olleh\n");
        }
        fs::remove_dir(&path).unwrap();
        assert_eq!(client.ask_text("abc"), "cba");
        service.signal(SIGTERM);
        assert_eq!(service.wait().code(), Some(0));
    }
}

#[test]
fn without_lists_a_hangup_ends_the_service() {
    let _limit = time_limit(60);
    // These tests may be run where it is ignored.
    let serve = ["--default-signal=HUP", REPD, "serve", "--listen", "tcp://127.0.0.1:*"];
    let mut service = Process::run(Command::new("env").args(serve));
    service.signal(SIGHUP);
    assert_eq!(service.wait().signal(), Some(SIGHUP as i32));
    // But `systemctl reload` is not to end it.
    let mut service = Process::run(Command::new("env").args(serve).env("NOTIFY_SOCKET", "@nobody"));
    assert_eq!(Client::req(&service.endpoint).ask_text("abc"), "cba");
    service.signal(SIGHUP);
    assert_eq!(Client::req(&service.endpoint).ask_text("abc"), "cba");
    service.signal(SIGTERM);
    assert_eq!(service.wait().code(), Some(0));
}

#[test]
fn who_is_taken_off_the_list_is_disconnected() {
    let _limit = time_limit(60);
    let keys = Keys::new("taken-off");
    for name in ["idle", "silent", "stays"] {
        keys.make(name);
    }
    let all = ["idle", "silent", "stays"];
    for workers in ["2", "0"] {
        keys.write("clients", &list(&keys, &all));
        // Long before any of them would be probed.
        let mut service = keys.serve(&["--workers", workers, "--heartbeat", "3600"]);
        let connect = |name| keys.watched(zmq::REQ, &service.endpoint, name);
        let ((idle, idle_ends), (_silent, silent_ends), (stays, stays_ends)) =
            (connect("idle"), connect("silent"), connect("stays"));
        assert!(idle.ask_text("ab") == "ba" && stays.ask_text("ab") == "ba");
        // One has never asked for anything.
        until("all have shaken hands", || keys_connected(&service) == 3);
        let said = reload(&mut service, &keys, &["stays"]);
        assert!(said.ends_with("clients: 1 (+0 -2)"), "{said}");
        idle_ends.wait();
        silent_ends.wait();
        assert_eq!(keys.call(&service.endpoint, "idle").status.code(), Some(1));
        assert_eq!(stays.ask_text("abc"), "cba");
        assert!(!stays_ends.has_ended());
        service.wait_for_line("connections of clients that are no longer listed: 2");
        // One that has another name now connects anew, and is the other one.
        keys.write("clients", &format!("other {}\n", keys.public("stays")));
        service.signal(SIGHUP);
        stays_ends.wait();
        let again = keys.client(zmq::REQ, &service.endpoint, "stays");
        assert_eq!(again.ask_text("abc"), "cba");
    }
}

/// Returns the number of established connections to the service.
fn keys_connected(service: &Process) -> usize {
    service.connections().iter().filter(|fields| fields[3] == "01").count()
}

#[test]
fn what_a_client_that_is_taken_off_has_in_flight_is_answered_and_what_it_has_queued_is_not() {
    let _limit = time_limit(60);
    let keys = Keys::new("busy");
    keys.make("stays");
    keys.write("clients", &list(&keys, &["pump-7", "stays"]));
    let (key, clients) = (keys.path("service.key_secret"), keys.path("clients"));
    let mut service =
        Process::sleepy(&["--workers", "1", "--key", &key, "--clients", &clients, "--verbose"]);
    let (busy, ends) = keys.watched(zmq::DEALER, &service.endpoint, "pump-7");
    let stays = keys.client(zmq::DEALER, &service.endpoint, "stays");
    busy.send(&[b"4000"]);
    service.wait_for_line("worker 1: request ");
    busy.send(&[b"0"]);
    busy.send(&[b"1"]);
    stays.send(&[b"2"]);
    until("the service has read them", || {
        // What it has not read is told by the socket.
        service.connections().iter().all(|fields| fields[4].ends_with(":00000000"))
    });
    reload(&mut service, &keys, &["stays"]);
    assert!((0..2).all(|_| busy.receive_code() == 403));
    // Until its last reply has left it is connected, and refused.
    busy.send(&[b"3"]);
    assert_eq!(busy.receive_code(), 403);
    assert!(!ends.has_ended());
    assert_eq!(busy.receive(), [b"4000"]);
    ends.wait();
    assert_eq!(stays.receive(), [b"2"]);
    service.signal(SIGTERM);
    assert_eq!(service.wait().code(), Some(0));
    assert!(service.log.last().unwrap().contains("requests: 5, replies: 2, 403: 3"));
}

#[test]
fn a_single_threaded_service_refuses_what_has_come_before_too() {
    let _limit = time_limit(60);
    let keys = Keys::new("single");
    let (key, clients) = (keys.path("service.key_secret"), keys.path("clients"));
    let options = ["--workers", "0", "--key", &key, "--clients", &clients, "--verbose"];
    let mut service = Process::sleepy(&options);
    let (busy, ends) = keys.watched(zmq::DEALER, &service.endpoint, "pump-7");
    busy.send(&[b"4000"]);
    service.wait_for_line("worker 0: request ");
    (0..5).for_each(|_| busy.send(&[b"0"]));
    until("the service has them", || {
        service.connections().iter().all(|fields| fields[4].ends_with(":00000000"))
    });
    reload(&mut service, &keys, &[]);
    assert_eq!(busy.receive(), [b"4000"]);
    assert!((0..5).all(|_| busy.receive_code() == 403));
    ends.wait();
}

#[test]
fn a_long_reply_reaches_its_client_before_the_connection_ends() {
    let _limit = time_limit(60);
    let keys = Keys::new("long");
    let program = "read -r line; sleep 0.3; head -c 30000000 /dev/zero";
    let options = ["--max-message-size", "32M", "--framing", "once", "--", "sh", "-c", program];
    let mut service = keys.serve(&options);
    let (client, ends) = keys.watched(zmq::REQ, &service.endpoint, "pump-7");
    client.send(&[b"a line\n"]);
    until("the program runs", || {
        let children = format!("/proc/{}/task", service.pid());
        fs::read_dir(children).unwrap().any(|task| {
            let children = task.unwrap().path().join("children");
            fs::read_to_string(children).is_ok_and(|text| !text.is_empty())
        })
    });
    reload(&mut service, &keys, &[]);
    assert!(client.receive() == [vec![0; 30_000_000]]);
    ends.wait();
}

#[test]
fn who_is_taken_off_in_the_middle_of_a_message_is_disconnected() {
    let _limit = time_limit(60);
    let keys = Keys::new("half");
    let mut service = keys.serve(&["--verbose", "--heartbeat", "3600"]);
    let forwarder = Forwarder::new(&service.endpoint, 100_000);
    let client = keys.client(zmq::REQ, &forwarder.endpoint, "pump-7");
    client.send(&[&[7; 500_000]]);
    until("a part of it is sent", || forwarder.passed() == 100_000);
    reload(&mut service, &keys, &[]);
    until("it is disconnected", || forwarder.is_closed());
    service.signal(SIGTERM);
    assert_eq!(service.wait().code(), Some(0));
    assert!(service.log.last().unwrap().contains("requests: 0, replies: 0"), "{:?}", service.log);
}

#[test]
fn under_load_nobody_who_is_still_listed_notices_a_reload() {
    let _limit = time_limit(120);
    let keys = Keys::new("load");
    let names: Vec<String> = (0..10).map(|n| format!("client-{n}")).collect();
    names.iter().for_each(|name| drop(keys.make(name)));
    keys.make("other");
    let mut listed: Vec<&str> = names.iter().map(String::as_str).collect();
    keys.write("clients", &list(&keys, &listed));
    let mut service = keys.serve(&[]);
    let is_over = Arc::new(AtomicBool::new(false));
    let rounds: Arc<[AtomicUsize; 2]> = Arc::default();
    let threads = [0, 1].map(|thread| {
        let clients: Vec<(Client, Watch)> = (0..25)
            .map(|n| keys.watched(zmq::REQ, &service.endpoint, &names[n % names.len()]))
            .collect();
        let (is_over, rounds) = (Arc::clone(&is_over), Arc::clone(&rounds));
        spawn(move || {
            while !is_over.load(Ordering::SeqCst) {
                clients.iter().for_each(|(client, _)| client.send(&[b"abc"]));
                assert!(clients.iter().all(|(client, _)| client.receive() == [b"cba"]));
                rounds[thread].fetch_add(1, Ordering::SeqCst);
            }
            assert!(clients.iter().all(|(_, watch)| !watch.has_ended()));
        })
    });
    for round in 0..8 {
        let served = || rounds.iter().map(|it| it.load(Ordering::SeqCst)).min().unwrap();
        let before = served();
        until("all have been served", || served() > before + 2);
        match listed.len() {
            10 => listed.push("other"),
            _ => _ = listed.pop(),
        }
        let said = reload(&mut service, &keys, &listed);
        let change = if round % 2 == 0 { "11 (+1 -0)" } else { "10 (+0 -1)" };
        assert!(said.ends_with(change), "{said}");
    }
    is_over.store(true, Ordering::SeqCst);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    service.signal(SIGTERM);
    assert_eq!(service.wait().code(), Some(0));
}

#[test]
fn a_list_is_read_when_clients_have_taken_all_files_and_kept_if_it_cannot_be() {
    let _limit = time_limit(60);
    let keys = Keys::new("files-left");
    keys.make("new");
    let (key, clients) = (keys.path("service.key_secret"), keys.path("clients"));
    let options = ["--workers", "1", "--key", &key, "--clients", &clients];
    let mut service = Process::limited(90, &options);
    let client = keys.client(zmq::REQ, &service.endpoint, "pump-7");
    assert_eq!(client.ask_text("abc"), "cba");
    let address = service.endpoint.strip_prefix("tcp://").unwrap().to_string();
    let crowd: Vec<_> = (0..90).map(|_| TcpStream::connect(&address).unwrap()).collect();
    service.wait_for_line("turned away");
    let said = reload(&mut service, &keys, &["pump-7", "new"]);
    assert!(said.ends_with("clients: 2 (+1 -0)"), "{said}");
    drop(crowd);
    // mosquitto let everybody in then: CVE-2017-7652.
    service.limit_files(16);
    keys.write("clients", &list(&keys, &["new"]));
    service.signal(SIGHUP);
    let said = service.wait_for_line("the lists stay as they were");
    assert!(said.contains("Too many open files"), "{said}");
    assert_eq!(client.ask_text("abc"), "cba");
    service.limit_files(90);
    keys.make("stranger");
    assert_eq!(keys.call(&service.endpoint, "stranger").status.code(), Some(1));
    assert_eq!(keys.call(&service.endpoint, "pump-7").stdout, b"olleh\n");
}

#[test]
fn the_limits_of_a_list_change_with_it() {
    let _limit = time_limit(60);
    let keys = Keys::new("new-limits");
    for workers in ["1", "0"] {
        keys.write("clients", &list(&keys, &["pump-7"]));
        let mut service = keys.serve(&["--workers", workers]);
        let client = keys.client(zmq::REQ, &service.endpoint, "pump-7");
        assert!((0..10).all(|_| client.ask_text("ab") == "ba"));
        keys.write("clients", list(&keys, &["pump-7"]).replace('\n', " rate=1\n").as_str());
        service.signal(SIGHUP);
        service.wait_for_line("clients: 1 (+0 -0)");
        until("it asks too often", || code(&client.ask(&[b"a"])) == Some(429));
    }
}

#[test]
fn a_service_of_this_process_reads_its_lists_again_when_it_is_told_to() {
    let _limit = time_limit(60);
    let keys = Keys::new("handle");
    keys.make("new");
    let config = Config::default()
        .listen(["tcp://127.0.0.1:*".parse().unwrap()])
        .key(keys.path("service.key_secret"))
        .clients(keys.path("clients"));
    let running = Service::spawn(&config).unwrap();
    let endpoint = &running.endpoints()[0];
    keys.write("clients", &list(&keys, &["new"]));
    let (client, ends) = keys.watched(zmq::REQ, endpoint, "pump-7");
    assert_eq!(client.ask_text("abc"), "cba");
    running.reload_handle().unwrap().reload();
    ends.wait();
    assert_eq!(keys.client(zmq::REQ, endpoint, "new").ask_text("abc"), "cba");
    running.stop().unwrap();
}

#[test]
fn an_upstream_that_has_another_key_is_connected_to_anew_and_the_others_are_not() {
    let _limit = time_limit(60);
    let keys = Keys::new("new-servers");
    for name in ["front", "new"] {
        keys.make(name);
    }
    keys.write("clients", &list(&keys, &["pump-7", "front"]));
    let (one, other) = (keys.serve(&[]), keys.serve(&[]));
    let servers = |keys_of: &[(&Process, &str)]| {
        let line =
            |(back, name): &(&Process, &str)| format!("{} {}\n", back.endpoint, keys.public(name));
        keys.write("servers", &keys_of.iter().map(line).collect::<String>())
    };
    let path = servers(&[(&one, "service"), (&other, "new")]);
    let key = keys.path("front.key_secret");
    // It has no clients over TCP, and reads the list of its servers again all the same.
    let ipc = format!("ipc://{}", keys.path("socket"));
    let files = ["--listen", &ipc, "--key", &key, "--servers", &path];
    let upstreams = ["--upstream", &one.endpoint, "--upstream", &other.endpoint];
    let mut front =
        Process::run(Command::new(REPD).arg("serve").args([&files[..], &upstreams].concat()));
    let (to_one, to_other) =
        (format!("upstream {}: ", one.endpoint), format!("upstream {}: ", other.endpoint));
    let wrong = "it has another key than --servers says";
    front.wait_for_line(&format!("{to_other}{wrong}"));
    let client = Client::req(&ipc);
    assert_eq!(client.ask_text("abc"), "cba");
    let peers = || one.connections().into_iter().map(|fields| fields[2].clone());
    let before: Vec<String> = peers().collect();
    servers(&[(&one, "service"), (&other, "service")]);
    front.signal(SIGHUP);
    let said = front.wait_for_line("read the lists again: ");
    assert!(said.ends_with(": servers: 2 (+1 -1)"), "{said}");
    front.wait_for_line(&format!("{to_other}connected"));
    assert!(before.len() == 1 && peers().eq(before), "{:?}", one.connections());
    // One that is connected already.
    servers(&[(&one, "new"), (&other, "service")]);
    front.signal(SIGHUP);
    front.wait_for_line(&format!("{to_one}{wrong}"));
    assert!((0..20).all(|_| client.ask_text("abc") == "cba"));
    for (lines, why) in [(&[(&one, "service")][..], "has no key of it"), (&[], "has no key of it")]
    {
        servers(lines);
        front.signal(SIGHUP);
        let said = front.wait_for_line("the lists stay as they were");
        assert!(said.contains(why), "{said}");
    }
    assert_eq!(client.ask_text("abc"), "cba");
    assert!(!front.log.iter().any(|line| line.contains(&format!("{to_other}a connection"))));
}

#[test]
fn of_several_lists_none_is_taken_if_one_has_a_mistake() {
    let _limit = time_limit(60);
    let keys = Keys::new("all-or-nothing");
    keys.make("new");
    keys.write("clients", &list(&keys, &["pump-7", "service"]));
    let back = keys.serve(&[]);
    let right = format!("{} {}\n", back.endpoint, keys.public("service"));
    let servers = keys.write("servers", &right);
    let mut front = keys.serve(&["--upstream", &back.endpoint, "--servers", &servers]);
    keys.write("clients", &list(&keys, &["pump-7", "service", "new"]));
    for (text, says) in
        [("tcp://a:1 key\n", "servers:1: "), (&right, "clients: 3 (+1 -0), servers: 1")]
    {
        keys.write("servers", text);
        front.signal(SIGHUP);
        front.wait_for_line(says);
        let is_taken = text == right;
        assert_eq!(keys.call(&front.endpoint, "new").status.success(), is_taken);
    }
}
