//! How a service starts and ends: signals, drain, exit codes, and what it leaves behind.

mod common;

use std::env;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::os::unix::thread::JoinHandleExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread::{scope, spawn};
use std::time::Duration;

use common::raw::{Raw, command, greeting, property, request};
use common::{Client, Folder, Killed, LIMIT, Process, code, repd, time_limit};
use nix::libc::{SCHED_BATCH, SCHED_IDLE, SCHED_OTHER};
use nix::sys::pthread::pthread_kill;
use nix::sys::signal::Signal::{self, SIGINT, SIGKILL, SIGTERM, SIGUSR1};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use repd::{Backend, Config, Service, echo};

const SIGNALS: [Signal; 2] = [SIGTERM, SIGINT];

/// Has fifty clients ask as fast as they are answered, until they are told 503 or nobody is there
/// any more. What had come to the service when the signal did must be answered, and each reply must
/// be right.
fn stop_under_load(signal: Signal, workers: &str) {
    let options = ["--handler", "echo", "--workers", workers, "--drain", "3600"];
    let mut service = Process::start(&options);
    let (replies, stopping) = (AtomicUsize::new(0), AtomicBool::new(false));
    let endpoint = service.endpoint.clone();
    scope(|threads| {
        for number in 0..50 {
            let (replies, stopping, endpoint) = (&replies, &stopping, &endpoint);
            threads.spawn(move || {
                let mut client = Raw::dealer(endpoint, b"");
                for place in 0.. {
                    let text = format!("client {number}, request {place}");
                    client.send(&request(text.as_bytes()));
                    let before = !stopping.load(Ordering::SeqCst);
                    match client.reply() {
                        Some(reply) if code(&reply) == Some(503) => return,
                        Some(reply) => assert_eq!(reply, [text.as_bytes()]),
                        None => return assert!(!before, "{text} was not answered"),
                    }
                    replies.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        common::until("all are at work", || replies.load(Ordering::Relaxed) > 2000);
        stopping.store(true, Ordering::SeqCst);
        service.signal(signal);
        // By itself: the drain's time would be up much later.
        assert_eq!(service.wait().code(), Some(0));
    });
}

#[test]
fn a_stop_under_load_answers_every_request() {
    let _limit = time_limit(120);
    for signal in SIGNALS {
        for workers in ["5", "0"] {
            stop_under_load(signal, workers);
        }
    }
}

#[test]
fn a_stop_answers_what_was_sent_before_it_and_waits_its_turn() {
    let _limit = time_limit(60);
    let mut service = Process::sleepy(&["--workers", "2", "--verbose"]);
    let mut client = Raw::dealer(&service.endpoint, b"");
    (0..300).for_each(|_| client.send(&request(b"100")));
    service.wait_for_line("request \"100\"");
    service.signal(SIGTERM);
    let replies: Vec<Option<u16>> =
        (0..300).map(|_| code(&client.reply().expect("a reply"))).collect();
    assert_eq!(service.wait().code(), Some(0));
    // Those that were in a worker's hands, and those that were not.
    assert!(replies.contains(&None) && replies.contains(&Some(503)));
    assert!(replies.iter().flatten().all(|&code| code == 503));
}

/// Asks as a peer of ZMTP 3.1 or 2.0 without libzmq, and leaves in one of the ways in which clients
/// do.
fn ask_and_leave(endpoint: &str, way: usize) -> io::Result<()> {
    let mut stream = TcpStream::connect(endpoint.strip_prefix("tcp://").unwrap())?;
    stream.set_read_timeout(Some(LIMIT))?;
    let said = match way % 2 {
        0 => [greeting(), command("READY", &property("Socket-Type", b"REQ"))].concat(),
        _ => b"\xff\0\0\0\0\0\0\0\x01\x7f\x01\x03\0\0".to_vec(),
    };
    stream.write_all(&said)?;
    stream.write_all(&request(b"a request"))?;
    match way % 5 {
        0 => {}
        1 => Raw(stream).reset(),
        2 => {
            stream.shutdown(Shutdown::Write)?;
            stream.read_to_end(&mut Vec::new())?;
        }
        _ => {
            let (mut heard, mut bytes) = (Vec::new(), [0; 1024]);
            while !heard.ends_with(b"a request") {
                match stream.read(&mut bytes)? {
                    0 => return Err(ErrorKind::UnexpectedEof.into()),
                    length => heard.extend(&bytes[..length]),
                }
            }
        }
    }
    Ok(())
}

/// `REPD_STOPS=1000` in the environment makes it so many.
#[test]
fn a_stop_amid_clients_that_ask_and_leave_takes_no_time_and_is_0() {
    let stops = env::var("REPD_STOPS").map_or(10, |stops| stops.parse().unwrap());
    let _limit = time_limit(120 + stops);
    for stop in 0..stops {
        let workers = ["5", "0"][stop as usize % 2];
        let options = ["--handler", "echo", "--workers", workers, "--drain", "3600"];
        let mut service = Process::start(&options);
        let endpoint = &service.endpoint.clone();
        let (left, stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
        let context = zmq::Context::new();
        scope(|threads| {
            let (left, stopped, context) = (&left, &stopped, &context);
            let again = move || {
                left.fetch_add(1, Ordering::Relaxed);
                !stopped.load(Ordering::Relaxed)
            };
            for first in 0..4 {
                threads.spawn(move || {
                    let mut way = first;
                    while again() {
                        // Once it stops, anything may end a connection.
                        let _ = ask_and_leave(endpoint, way);
                        way += 1;
                    }
                });
            }
            for patience in [2, 20] {
                threads.spawn(move || {
                    while again() {
                        let client = Client::within(context, zmq::REQ, endpoint, |_| ());
                        client.socket.set_rcvtimeo(patience).unwrap();
                        client.send(&[b"a request"]);
                        client.receive_in_time();
                    }
                });
            }
            common::until("all are at work", || left.load(Ordering::Relaxed) > 200);
            service.signal(SIGTERM);
            // By itself: the drain's time would be up much later.
            let code = service.wait().code();
            stopped.store(true, Ordering::Relaxed);
            assert_eq!(code, Some(0), "stop {stop}");
        });
    }
}

#[test]
fn clients_that_never_stop_asking_do_not_hold_up_a_stop() {
    let _limit = time_limit(60);
    for workers in ["5", "0"] {
        let mut service = Process::start(&["--workers", workers, "--drain", "3600"]);
        let endpoint = service.endpoint.clone();
        let stopped = AtomicBool::new(false);
        scope(|threads| {
            threads.spawn(|| {
                let client = Client::dealer(&endpoint);
                client.socket.set_rcvtimeo(100).unwrap();
                while !stopped.load(Ordering::Relaxed) {
                    client.send(&[b"again"]);
                    client.receive_in_time();
                }
            });
            assert_eq!(Client::req(&service.endpoint).ask_text("ab"), "ba");
            service.signal(SIGTERM);
            // By itself: the drain's time would be up much later.
            assert_eq!(service.wait().code(), Some(0));
            stopped.store(true, Ordering::Relaxed);
        });
    }
}

/// Asks over an ipc endpoint until the connection ends. Returns false if it has ended with a request
/// that was read and not answered: for one that was not, the system tells a reset.
fn ask_until_the_end(path: &str, replies: &AtomicUsize) -> bool {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut client = Raw(TcpStream::from(OwnedFd::from(stream)));
    client.become_dealer(b"");
    loop {
        std::thread::sleep(Duration::from_micros(fastrand::u64(..1000)));
        if client.0.write_all(&request(b"abc")).is_err() {
            return true;
        }
        match client.0.peek(&mut [0]) {
            Ok(0) => return false,
            Ok(_) => _ = client.reply().unwrap(),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                return true;
            }
        }
        replies.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn what_is_read_at_the_end_of_a_drain_is_answered() {
    let _limit = time_limit(120);
    let folder = Folder::new("end-of-drain");
    let path = folder.file("socket");
    for (round, workers) in (0..6).flat_map(|round| [(round, "3"), (round, "0")]) {
        let listen = format!("ipc://{path}");
        let mut service = Process::start(&["--workers", workers, "--listen", &listen]);
        service.wait_for_line(&path);
        let replies = AtomicUsize::new(0);
        scope(|threads| {
            let ask = || ask_until_the_end(&path, &replies);
            let clients: Vec<_> = (0..13).map(|_| threads.spawn(ask)).collect();
            common::until("all are at work", || replies.load(Ordering::Relaxed) > 200);
            service.signal(SIGTERM);
            assert_eq!(service.wait().code(), Some(0));
            let told = clients.into_iter().map(|client| client.join().unwrap());
            let lost = told.filter(|is_told| !is_told).count();
            assert_eq!(lost, 0, "round {round}, workers {workers}");
        });
    }
}

#[test]
fn a_stuck_handler_ends_the_service_at_the_limit_with_1_and_its_client_with_503() {
    let _limit = time_limit(60);
    for signal in SIGNALS {
        let mut service = Process::sleepy(&["--drain", "0.3", "--verbose"]);
        let client = Client::req(&service.endpoint);
        client.send(&[b"never"]);
        service.wait_for_line("request \"never\"");
        service.signal(signal);
        assert_eq!(client.receive_code(), 503);
        assert_eq!(service.wait().code(), Some(1));
        let log = service.rest_of_log();
        assert!(
            log.contains("abandoned requests in flight: 1, workers still in a request: 1"),
            "{log}"
        );
    }
}

#[test]
fn a_stuck_handler_does_not_hold_up_the_single_threaded_server_either() {
    let _limit = time_limit(60);
    let mut service = Process::sleepy(&["--workers", "0", "--drain", "0.1", "--verbose"]);
    let client = Client::req(&service.endpoint);
    client.send(&[b"never"]);
    service.wait_for_line("request \"never\"");
    service.signal(SIGTERM);
    assert_eq!(service.wait().code(), Some(1));
    let log = service.rest_of_log();
    assert!(log.contains("abandoned the request"), "{log}");
}

#[test]
fn a_handler_past_its_deadline_is_waited_for_no_longer_than_the_drain() {
    let _limit = time_limit(60);
    let mut service = Process::sleepy(&["--drain", "2", "--timeout", "0.1"]);
    let client = Client::req(&service.endpoint);
    client.send(&[b"never"]);
    assert_eq!(client.receive_code(), 504);
    let late = Client::req(&service.endpoint);
    late.ask(&[b"0"]);
    service.signal(SIGTERM);
    // Who asks meanwhile is told.
    service.wait_for_line("stopping: requests in flight: 0, workers busy: 1");
    late.send(&[b"0"]);
    assert_eq!(late.receive_code(), 503);
    assert_eq!(service.wait().code(), Some(1));
}

#[test]
fn a_signal_in_the_first_moments_ends_the_service_too() {
    let _limit = time_limit(120);
    for round in 0..200 {
        let mut service = Command::new(common::REPD);
        service.args(["serve", "--listen", "tcp://127.0.0.1:*"]).stderr(Stdio::null());
        let mut service = Killed(service.spawn().unwrap());
        // At no fact, since each moment is meant: these times only spread the signals.
        std::thread::sleep(Duration::from_micros(50 * round));
        kill(Pid::from_raw(service.0.id() as i32), SIGTERM).unwrap();
        let mut status = None;
        common::until("the service has ended", || {
            status = service.0.try_wait().unwrap();
            status.is_some()
        });
        let status = status.unwrap();
        // Before the signal is caught, it ends the process as it ends any.
        assert!(status.code() == Some(0) || status.signal() == Some(SIGTERM as i32), "{status:?}");
    }
}

#[test]
fn a_second_signal_ends_the_service_at_once() {
    let _limit = time_limit(60);
    for workers in ["5", "0"] {
        for (first, second) in [(SIGTERM, SIGTERM), (SIGINT, SIGINT), (SIGTERM, SIGINT)] {
            let mut service =
                Process::sleepy(&["--drain", "600", "--verbose", "--workers", workers]);
            let client = Client::req(&service.endpoint);
            client.send(&[b"never"]);
            service.wait_for_line("request \"never\"");
            service.signal(first);
            // Two of the same that are pending at once are one.
            common::until("the first signal is taken", || !service.has_signals_to_take());
            service.signal(second);
            assert_eq!(service.wait().code(), Some(128 + second as i32));
        }
    }
}

#[test]
fn a_client_that_does_not_read_its_replies_does_not_hold_up_a_stop() {
    let _limit = time_limit(60);
    for (signal, workers) in [(SIGTERM, "5"), (SIGINT, "5"), (SIGTERM, "0")] {
        let options = ["--handler", "echo", "--drain", "0.5", "--verbose", "--workers", workers];
        let mut service = Process::start(&options);
        let client = Client::with(zmq::DEALER, &service.endpoint, |socket| {
            socket.set_rcvhwm(1).unwrap();
            socket.set_sndhwm(1000).unwrap();
        });
        // More than the buffers between take.
        (0..40).for_each(|_| client.send(&[&vec![7; 1 << 20]]));
        (0..40).for_each(|_| drop(service.wait_for_line(": reply ")));
        let other = Client::req(&service.endpoint);
        assert_eq!(other.ask_text("x"), "x");
        service.signal(signal);
        assert_eq!(service.wait().code(), Some(1));
        let log = service.rest_of_log();
        assert!(log.contains("replies that their clients did not read"), "{log}");
    }
}

#[test]
fn a_stop_waits_for_replies_that_take_long_to_leave() {
    let _limit = time_limit(60);
    for workers in ["5", "0"] {
        let options = ["--handler", "echo", "--drain", "3600", "--verbose", "--workers", workers];
        let mut service = Process::start(&options);
        let client = Client::with(zmq::DEALER, &service.endpoint, |socket| {
            socket.set_rcvhwm(1).unwrap();
            socket.set_rcvbuf(64 << 10).unwrap();
        });
        let body = |n: u8| vec![n; 1 << 20];
        (0..40).for_each(|n| client.send(&[&body(n)]));
        (0..40).for_each(|_| drop(service.wait_for_line(": reply ")));
        service.signal(SIGTERM);
        service.wait_for_line("stopping");
        let mut replies: Vec<Vec<u8>> = (0..40).map(|_| client.receive().remove(0)).collect();
        replies.sort_unstable();
        assert!(replies.into_iter().eq((0..40).map(body)), "not the replies to what was sent");
        assert_eq!(service.wait().code(), Some(0));
    }
}

#[test]
fn a_stop_with_nothing_to_do_does_not_wait_and_is_0() {
    let _limit = time_limit(60);
    for workers in ["5", "1", "0"] {
        for signal in SIGNALS {
            let mut service = Process::start(&["--workers", workers, "--drain", "3600"]);
            let _connected: Vec<Client> = (0..20).map(|_| Client::req(&service.endpoint)).collect();
            service.signal(signal);
            // By itself: the drain's time would be up much later.
            assert_eq!(service.wait().code(), Some(0));
        }
    }
}

#[test]
fn an_ipc_file_is_removed_at_the_end_and_a_stale_one_is_taken_over() {
    let _limit = time_limit(60);
    let folder = Folder::new("ipc");
    let path = folder.file("s");
    let start = || {
        Process::run(Command::new(common::REPD).args([
            "serve",
            "--listen",
            &format!("ipc://{path}"),
        ]))
    };
    for workers in 0..2 {
        let mut service = start();
        assert_eq!(Client::req(&service.endpoint).ask_text("ab"), "ba");
        service.signal(SIGTERM);
        assert_eq!(service.wait().code(), Some(0));
        assert!(!std::fs::exists(&path).unwrap(), "{workers}");
    }
    let mut killed = start();
    killed.signal(SIGKILL);
    assert_eq!(killed.wait().signal(), Some(SIGKILL as i32));
    assert!(std::fs::exists(&path).unwrap());
    let service = start();
    assert_eq!(Client::req(&service.endpoint).ask_text("ab"), "ba");
    // A live one is not taken over, nor is its file removed by who tried.
    let second = repd(&["serve", "--listen", &format!("ipc://{path}")], b"");
    assert_eq!(second.status.code(), Some(2));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("another process listens there"), "{said}");
    assert_eq!(Client::req(&service.endpoint).ask_text("ab"), "ba");
}

#[test]
fn the_file_of_an_endpoint_makes_room_for_the_next_service_as_soon_as_one_stops() {
    let _limit = time_limit(60);
    let folder = Folder::new("next");
    let path = folder.file("s");
    let listen = format!("ipc://{path}");
    let mut service = Process::run(Command::new(common::sleepy()).args([
        "serve",
        "--verbose",
        "--listen",
        &listen,
    ]));
    let client = Client::req(&listen);
    client.send(&[b"never"]);
    service.wait_for_line("request \"never\"");
    service.signal(SIGTERM);
    common::until("the file is gone", || !std::fs::exists(&path).unwrap());
    let next = Process::run(Command::new(common::REPD).args(["serve", "--listen", &listen]));
    drop(service);
    assert_eq!(Client::req(&next.endpoint).ask_text("ab"), "ba");
}

#[test]
fn of_services_that_find_a_stale_file_at_once_one_takes_it() {
    let _limit = time_limit(120);
    let folder = Folder::new("race");
    let path = folder.file("s");
    for _ in 0..300 {
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let mut racers: Vec<Killed> = (0..4)
            .map(|_| {
                let mut racer = Command::new(common::REPD);
                racer.args(["serve", "--listen", &format!("ipc://{path}")]).stderr(Stdio::null());
                Killed(racer.spawn().unwrap())
            })
            .collect();
        let mut ended =
            || racers.iter_mut().filter_map(|racer| racer.0.try_wait().unwrap()).count();
        common::until("three have given up", || ended() >= 3);
        assert_eq!(Client::req(&format!("ipc://{path}")).ask_text("ab"), "ba");
        assert_eq!(ended(), 3);
        drop(racers);
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn signals_that_are_not_for_it_do_not_disturb_a_service() {
    let _limit = time_limit(120);
    let seen = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGUSR1 as i32, Arc::clone(&seen)).unwrap();
    for workers in [5, 0] {
        let (started, starting) = channel();
        let service = spawn(move || {
            let config = Config::new(Backend::workers(workers, |_| echo));
            let config = config.listen(["tcp://127.0.0.1:*".parse().unwrap()]);
            let service = Service::start(&config).unwrap();
            started.send((service.endpoints()[0].clone(), service.stop_handle())).unwrap();
            service.run()
        });
        let (endpoint, stop) = starting.recv().unwrap();
        let client = spawn(move || {
            let client = Client::dealer(&endpoint);
            for _ in 0..300 {
                (0..100).for_each(|_| client.send(&[b"x"]));
                (0..100).for_each(|_| assert_eq!(client.receive(), [b"x"]));
            }
        });
        while !client.is_finished() {
            pthread_kill(service.as_pthread_t(), SIGUSR1).unwrap();
        }
        client.join().unwrap();
        stop.stop();
        assert!(service.join().unwrap().is_ok());
    }
    assert!(seen.load(Ordering::Relaxed));
}

#[test]
fn the_single_threaded_server_refuses_what_it_has_not_begun_when_it_stops() {
    let _limit = time_limit(60);
    let mut service = Process::sleepy(&["--workers", "0", "--verbose"]);
    let mut client = Raw::dealer(&service.endpoint, b"");
    (0..200).for_each(|_| client.send(&request(b"100")));
    service.wait_for_line("request \"100\"");
    service.signal(SIGTERM);
    let replies: Vec<Option<u16>> =
        (0..200).map(|_| code(&client.reply().expect("a reply"))).collect();
    assert!(replies.contains(&None) && replies.contains(&Some(503)));
    assert_eq!(service.wait().code(), Some(0));
}

#[test]
fn a_rude_client_in_the_past_does_not_spoil_a_clean_stop() {
    let _limit = time_limit(60);
    for workers in ["1", "0"] {
        let options = ["--handler", "echo", "--workers", workers, "--timeout", "0.1"];
        let mut service = Process::start(&options);
        let rude = Client::with(zmq::DEALER, &service.endpoint, |socket| {
            socket.set_rcvhwm(1).unwrap();
        });
        (0..120).for_each(|_| rude.send(&[&vec![7; 1 << 20]]));
        service.wait_for_line("a client does not read its replies");
        drop(rude);
        // With so little time, requests may be late while what the rude one sent is answered.
        let other = Client::req(&service.endpoint);
        common::until("another one is served", || other.ask(&[b"x"]) == [b"x"]);
        service.signal(SIGTERM);
        assert_eq!(service.wait().code(), Some(0));
        let log = service.rest_of_log();
        assert!(log.contains("replies not read: "), "{log}");
    }
}

/// Returns the scheduling policy of a thread, by its folder in proc(5): field 41 of its stat.
fn policy(thread: &Path) -> i32 {
    let stat = std::fs::read_to_string(thread.join("stat")).unwrap();
    let after_name = stat.rsplit(") ").next().unwrap();
    after_name.split(' ').nth(41 - 3).unwrap().parse().unwrap()
}

/// Returns the scheduling policies of its workers' threads, and of its others.
fn policies(service: &Process) -> (Vec<i32>, Vec<i32>) {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", service.pid())).unwrap();
    let threads: Vec<_> = tasks.map(|task| task.unwrap().path()).collect();
    let is_worker = |thread: &&PathBuf| {
        std::fs::read_to_string(thread.join("comm")).unwrap().starts_with("worker-")
    };
    let (workers, others): (Vec<_>, Vec<_>) = threads.iter().partition(is_worker);
    let of = |threads: Vec<&PathBuf>| threads.iter().map(|thread| policy(thread)).collect();
    (of(workers), of(others))
}

#[test]
fn workers_run_in_batches_unless_another_policy_was_chosen_and_the_proxy_does_not() {
    let _limit = time_limit(60);
    let service = Process::start(&["--workers", "2"]);
    // One that was chosen for this test is the service's too.
    let own = policy(Path::new("/proc/thread-self"));
    let of_workers = if own == SCHED_OTHER { SCHED_BATCH } else { own };
    let (workers, others) = policies(&service);
    assert_eq!(workers, [of_workers; 2]);
    // The proxy, and of libzmq at least a thread that closes sockets, for each context.
    assert!(others.len() >= 3, "{others:?}");
    assert!(others.iter().all(|&policy| policy == own), "{others:?}");
    if Command::new("chrt").arg("--version").output().is_err() {
        common::skipped("there is no chrt to choose another policy with");
        return;
    }
    let mut idle = Command::new("chrt");
    idle.args(["--idle", "0", common::REPD, "serve", "--listen", "tcp://127.0.0.1:*"]);
    let (workers, others) = policies(&Process::run(&mut idle));
    assert_eq!(workers, [SCHED_IDLE; 5]);
    assert!(others.iter().all(|&policy| policy == SCHED_IDLE), "{others:?}");
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let _limit = time_limit(60);
    let folder = Folder::new("file");
    let path = folder.file("precious");
    std::fs::write(&path, "data").unwrap();
    let run = repd(&["serve", "--listen", &format!("ipc://{path}")], b"");
    assert_eq!(run.status.code(), Some(2));
    assert_eq!(std::fs::read(&path).unwrap(), b"data");
}

#[test]
fn a_program_that_is_started_again_at_once_gets_its_port_back() {
    let _limit = time_limit(60);
    let mut serve = Command::new(common::REPD);
    serve.args(["serve", "--listen", &format!("tcp://{}:*", common::own_address())]);
    let mut service = Process::run(&mut serve);
    let endpoint = service.endpoint.clone();
    let client = Client::req(&endpoint);
    for _ in 0..3 {
        assert_eq!(client.ask_text("ab"), "ba");
        service.signal(SIGTERM);
        assert_eq!(service.wait().code(), Some(0));
        service = Process::run(Command::new(common::REPD).args(["serve", "--listen", &endpoint]));
    }
    // The same socket, connected again by itself.
    assert_eq!(client.ask_text("ab"), "ba");
}
