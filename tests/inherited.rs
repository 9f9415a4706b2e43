//! Sockets that systemd hands over (sd_listen_fds(3)): `fd://NAME`.

mod common;

use std::fs::File;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::scope;

use common::keys::Keys;
use common::{Client, Folder, LIMIT, Process, handed_over, repd, time_limit, until};
use nix::sys::signal::Signal::SIGTERM;

/// Starts a service at that socket.
fn start(socket: impl Into<OwnedFd>, options: &[&str]) -> Process {
    let options = [&["--listen", "fd://clients"], options].concat();
    Process::run(&mut handed_over([Some(socket.into()), None], "clients", &options))
}

fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
    (listener, endpoint)
}

/// Stops a service, which has nothing to complain of.
fn stop(mut service: Process) {
    service.signal(SIGTERM);
    assert_eq!(service.wait().code(), Some(0));
}

#[test]
fn sockets_that_are_handed_over_are_served_by_name() {
    let _limit = time_limit(60);
    let folder = Folder::new("by-name");
    let path = folder.file("socket");
    for workers in ["2", "0"] {
        let (tcp, endpoint) = listener();
        let unix = UnixListener::bind(&path).unwrap();
        let sockets =
            [Some(tcp.try_clone().unwrap().into()), Some(unix.try_clone().unwrap().into())];
        let options = ["--listen", "fd://here", "--listen", "fd://there", "--workers", workers];
        let mut service = Process::run(&mut handed_over(sockets, "there:here", &options));
        assert_eq!(service.endpoint, format!("ipc://{path}"));
        service.wait_for_line(&format!("listening on {endpoint}"));
        for endpoint in [&endpoint, &service.endpoint] {
            assert_eq!(Client::req(endpoint).ask_text("ab"), "ba");
        }
        stop(service);
        // Neither has ended with the service.
        TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        std::os::unix::net::UnixStream::connect(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
    }
    // Of IPv6, without a file, and two of one unit.
    if common::has_ipv6() {
        let tcp = TcpListener::bind("[::1]:0").unwrap();
        let service = start(tcp, &[]);
        assert!(service.endpoint.starts_with("tcp://[::1]:"), "{}", service.endpoint);
        assert_eq!(Client::req(&service.endpoint).ask_text("ab"), "ba");
    }
    let name = format!("repd-inherited-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let (tcp, _) = listener();
    let sockets = [Some(UnixListener::bind_addr(&address).unwrap().into()), Some(tcp.into())];
    let options = ["--listen", "fd://repd.socket"];
    let mut service = Process::run(&mut handed_over(sockets, "repd.socket:repd.socket", &options));
    assert_eq!(service.endpoint, format!("ipc://@{name}"));
    let line = service.wait_for_line("listening on tcp://");
    for endpoint in [&service.endpoint, line.split("on ").nth(1).unwrap()] {
        assert_eq!(Client::req(endpoint).ask_text("ab"), "ba");
    }
}

#[test]
fn workers_come_to_a_socket_that_is_handed_over() {
    let _limit = time_limit(60);
    let (tcp, endpoint) = listener();
    let options = ["--listen", "tcp://127.0.0.1:*", "--backend", "fd://workers"];
    let service = Process::run(&mut handed_over([Some(tcp.into()), None], "workers", &options));
    let client = Client::dealer(&service.endpoint);
    let worker = Client::with(zmq::REP, &endpoint, |_| ());
    client.send(&[b"ab"]);
    assert_eq!(worker.socket.recv_bytes(0).unwrap(), b"ab");
    worker.socket.send("ba", 0).unwrap();
    assert_eq!(client.receive(), [b"ba"]);
}

#[test]
fn with_keys_a_tcp_socket_that_is_handed_over_wants_some_and_another_does_not() {
    let _limit = time_limit(60);
    let keys = Keys::new("inherited");
    let [key, clients] = [keys.path("service.key_secret"), keys.path("clients")];
    let name = format!("repd-inherited-keys-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let (tcp, endpoint) = listener();
    let sockets = [Some(tcp.into()), Some(UnixListener::bind_addr(&address).unwrap().into())];
    let options =
        ["--listen", "fd://a", "--listen", "fd://b", "--key", &key, "--clients", &clients];
    let _service = Process::run(&mut handed_over(sockets, "a:b", &options));
    assert_eq!(keys.call(&endpoint, "pump-7").stdout, b"olleh\n");
    let refused = repd(&["call", "--timeout", "5", &endpoint, "hello"], b"");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("wants keys"), "{refused:?}");
    assert_eq!(Client::req(&format!("ipc://@{name}")).ask_text("ab"), "ba");
}

#[test]
fn what_cannot_be_served_is_refused_with_what_to_do() {
    let _limit = time_limit(60);
    let (tcp, _) = listener();
    let connected = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
    let refused = |socket: Option<OwnedFd>, names: &str, why: &str| {
        let options = ["--listen", "fd://clients"];
        let mut command = handed_over([socket, None], names, &options);
        let output = command.stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        let said = common::without_time(said.trim_end());
        let begins = "error: cannot listen on fd://clients: ";
        assert!(
            said.starts_with(begins) && said.contains(why) && said.lines().count() == 1,
            "{said}"
        );
    };
    refused(Some(File::open("/dev/null").unwrap().into()), "clients", "it is no socket; give");
    for socket in [
        UdpSocket::bind("127.0.0.1:0").unwrap().into(),
        UnixDatagram::unbound().unwrap().into(),
        connected.into(),
    ] {
        refused(Some(socket), "clients", "it is no stream socket that listens; give");
    }
    refused(Some(tcp.into()), "others", "no socket of that name, but: others; give");
    refused(None, "", "systemd has handed over no sockets; have a socket unit");
    refused(None, "clients", "systemd has handed over no sockets; have a socket unit");
}

#[test]
fn outside_systemd_one_cannot_be_checked_and_elsewhere_not_be_used() {
    let _limit = time_limit(60);
    let checked = repd(&["serve", "--check", "--listen", "fd://clients"], b"");
    let said = String::from_utf8(checked.stderr).unwrap();
    assert!(checked.status.success(), "{said}");
    assert!(said.contains("not checked: fd://clients: systemd hands it over"), "{said}");
    for arguments in [
        &["call", "fd://clients", "hello"][..],
        &["bench", "fd://clients"],
        &["serve", "--listen", "ipc://@repd-no-fd", "--upstream", "fd://clients"],
    ] {
        let output = repd(arguments, b"");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("cannot connect to fd://clients: it is for --listen"), "{said}");
    }
}

/// Asks one question after the other until it is to stop, each from a connection of its own or all
/// from one, and again without a reply in time, as `repd call --retries` does.
fn ask_again_and_again(endpoint: &str, keeps: bool, stop: &AtomicBool, replies: &AtomicUsize) {
    let context = zmq::Context::new();
    let connect = || {
        Client::within(&context, zmq::REQ, endpoint, |socket| socket.set_rcvtimeo(2000).unwrap())
    };
    let mut client = connect();
    for number in (0..).take_while(|_| !stop.load(Ordering::Relaxed)) {
        let text = format!("request {number}");
        let reply = (0..60).find_map(|tries| {
            if tries > 0 || !keeps {
                client = connect();
            }
            client.send(&[text.as_bytes()]);
            client.receive_in_time()
        });
        assert_eq!(reply.expect("no reply"), [text.as_bytes()]);
        replies.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_restart_refuses_nobody() {
    let _limit = time_limit(120);
    let folder = Folder::new("restart");
    let unix = UnixListener::bind(folder.file("socket")).unwrap();
    let (tcp, endpoint) = listener();
    let ipc = format!("ipc://{}", folder.file("socket"));
    let start = || {
        let sockets =
            [Some(tcp.try_clone().unwrap().into()), Some(unix.try_clone().unwrap().into())];
        let listen = ["--listen", "fd://tcp", "--listen", "fd://ipc", "--handler", "echo"];
        Process::run(&mut handed_over(sockets, "tcp:ipc", &listen))
    };
    let (stopping, replies) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut service = start();
    scope(|threads| {
        for number in 0..50 {
            let endpoint = if number % 2 == 0 { &endpoint } else { &ipc };
            let (stopping, replies) = (&stopping, &replies);
            threads.spawn(move || ask_again_and_again(endpoint, number > 24, stopping, replies));
        }
        for _ in 0..4 {
            let before = replies.load(Ordering::Relaxed);
            until("all are at work", || replies.load(Ordering::Relaxed) > before + 200);
            service.signal(SIGTERM);
            assert_eq!(service.wait().code(), Some(0));
            assert!(!service.log.last().unwrap().contains("503"), "{:?}", service.log);
            service = start();
        }
        stopping.store(true, Ordering::Relaxed);
    });
}

#[test]
fn connections_wait_for_the_next_service_while_one_drains() {
    let _limit = time_limit(60);
    let folder = Folder::new("wait");
    let [gate, path, told] = ["gate", "socket", "notify"].map(|name| folder.file(name));
    let manager = UnixDatagram::bind(&told).unwrap();
    manager.set_read_timeout(Some(LIMIT)).unwrap();
    let unix = UnixListener::bind(&path).unwrap();
    let (tcp, endpoint) = listener();
    let sockets: [(OwnedFd, String); 2] =
        [(tcp.into(), endpoint), (unix.into(), format!("ipc://{path}"))];
    for (socket, endpoint) in sockets {
        let wait = format!("cat; until test -e {gate}; do sleep 0.01; done");
        let options = ["--listen", "fd://clients", "--drain", "3600", "--verbose"];
        let options = [&options[..], &["--framing", "once", "--", "sh", "-c", &wait]].concat();
        let other = socket.try_clone().unwrap();
        let mut first = Process::run(
            handed_over([Some(other), None], "clients", &options).env("NOTIFY_SOCKET", &told),
        );
        let early = Client::dealer(&endpoint);
        early.send(&[b"early"]);
        first.wait_for_line("request \"early\"");
        first.signal(SIGTERM);
        let mut bytes = [0; 1024];
        until("it stops", || {
            let length = manager.recv(&mut bytes).unwrap();
            bytes[..length].starts_with(b"STOPPING=1")
        });
        let late = Client::req(&endpoint);
        late.send(&[b"late"]);
        let second = start(socket, &[]);
        assert_eq!(late.receive(), [b"etal"]);
        assert_eq!(first.try_wait(), None);
        File::create(&gate).unwrap();
        assert_eq!(early.receive(), [b"early"]);
        assert_eq!(first.wait().code(), Some(0));
        stop(second);
        std::fs::remove_file(&gate).unwrap();
    }
}

#[test]
fn sockets_that_no_endpoint_names_are_told_of() {
    let _limit = time_limit(60);
    let sockets = [Some(listener().0.into()), Some(listener().0.into())];
    let options = ["--listen", "fd://clients"];
    let mut service = Process::run(&mut handed_over(sockets, "clients:spare", &options));
    service.signal(SIGTERM);
    assert!(service.wait().success());
    let told = "nobody listens at the sockets that systemd has handed over: spare";
    assert!(service.log.iter().any(|line| line.contains(told)), "{:?}", service.log);
}
