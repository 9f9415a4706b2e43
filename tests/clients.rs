//! Clients of every kind get their own replies, with a pool and without.

mod common;

use std::process::Command;
use std::thread::scope;

use common::{Client, Folder, Process, has_ipv6, time_limit};
use zmq::Socket;

/// The service with a pool, and the single-threaded one.
const BOTH: [&str; 2] = ["5", "0"];

fn echo(workers: &str) -> Process {
    Process::start(&["--handler", "echo", "--workers", workers])
}

/// Sends that many different requests and looks at each reply.
fn converse(client: &Client, name: &str, requests: usize) {
    for number in 0..requests {
        let text = format!("{name} {number}");
        assert_eq!(client.ask_text(&text), text);
    }
}

#[test]
fn clients_of_every_kind_get_their_own_replies() {
    let _limit = time_limit(120);
    for workers in BOTH {
        let service = echo(workers);
        let service = service.endpoint.as_str();
        let context = zmq::Context::new();
        let hop = hop(&context, service);
        type Options = fn(&Socket);
        let kinds: [(&str, &str, zmq::SocketType, Options); 6] = [
            ("REQ", service, zmq::REQ, |_| ()),
            ("DEALER", service, zmq::DEALER, |_| ()),
            ("REQ_CORRELATE", service, zmq::REQ, |s| s.set_req_correlate(true).unwrap()),
            ("REQ_RELAXED", service, zmq::REQ, |s| {
                s.set_req_correlate(true).unwrap();
                s.set_req_relaxed(true).unwrap();
            }),
            ("REQ over a hop", &hop, zmq::REQ, |_| ()),
            ("DEALER over a hop", &hop, zmq::DEALER, |_| ()),
        ];
        scope(|threads| {
            for (kind, endpoint, socket, set) in kinds {
                for number in 0..4 {
                    threads.spawn(move || {
                        let client = Client::with(socket, endpoint, set);
                        converse(&client, &format!("{kind} {number}"), 200);
                    });
                }
            }
        });
    }
}

/// Starts a ROUTER-DEALER proxy in front of `service`, on its own thread until the process ends.
fn hop(context: &zmq::Context, service: &str) -> String {
    let frontend = context.socket(zmq::ROUTER).unwrap();
    frontend.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = frontend.get_last_endpoint().unwrap().unwrap();
    let backend = context.socket(zmq::DEALER).unwrap();
    backend.connect(service).unwrap();
    std::thread::spawn(move || zmq::proxy(&frontend, &backend));
    endpoint
}

#[test]
fn a_relaxed_client_that_asks_again_gets_the_reply_to_what_it_asked_last() {
    let _limit = time_limit(60);
    let service = Process::sleepy(&["--workers", "2"]);
    let client = Client::with(zmq::REQ, &service.endpoint, |socket| {
        socket.set_req_correlate(true).unwrap();
        socket.set_req_relaxed(true).unwrap();
    });
    for _ in 0..20 {
        client.send(&[b"20"]);
        client.send(&[b"10"]);
        assert_eq!(client.receive(), [b"10"]);
    }
}

#[test]
fn of_20_000_requests_over_200_connections_none_is_lost_and_none_swapped() {
    let _limit = time_limit(120);
    for workers in BOTH {
        let service = echo(workers);
        let context = zmq::Context::new();
        let clients: Vec<Client> = (0..200)
            .map(|_| Client::within(&context, zmq::REQ, &service.endpoint, |_| ()))
            .collect();
        for round in 0..100 {
            let text = |client: usize| format!("client {client}, request {round}");
            for (number, client) in clients.iter().enumerate() {
                client.send(&[text(number).as_bytes()]);
            }
            for (number, client) in clients.iter().enumerate() {
                assert_eq!(client.receive(), [text(number).as_bytes()]);
            }
        }
    }
}

#[test]
fn a_deep_pipeline_gets_each_reply_once() {
    let _limit = time_limit(60);
    for workers in BOTH {
        let service = echo(workers);
        let client = Client::dealer(&service.endpoint);
        let (mut seen, mut asked) = (vec![false; 20_000], 0);
        for received in 0..seen.len() {
            while asked < seen.len() && asked < received + 500 {
                client.send(&[asked.to_string().as_bytes()]);
                asked += 1;
            }
            let reply = String::from_utf8(client.receive().remove(0)).unwrap();
            assert!(!std::mem::replace(&mut seen[reply.parse::<usize>().unwrap()], true));
        }
    }
}

#[test]
fn bodies_of_every_size_and_content_come_back_as_they_went() {
    let _limit = time_limit(60);
    for workers in BOTH {
        let service = echo(workers);
        let all_bytes: Vec<u8> = (0..=255).collect();
        let mebibyte: Vec<u8> = (0..1 << 20).map(|n: u32| (n % 251) as u8).collect();
        let several: Vec<&[u8]> = vec![b"a", b"", &all_bytes, b"", &mebibyte[1 + 256..]];
        let most = vec![&b"x"[..]; 64];
        for client in [Client::req(&service.endpoint), Client::dealer(&service.endpoint)] {
            let bodies: [&[&[u8]]; 7] =
                [&[b""], &[b"1"], &[&all_bytes], &[&mebibyte], &[b"", b""], &several, &most];
            for body in bodies {
                assert_eq!(client.ask(body), body);
            }
        }
    }
}

#[test]
fn the_default_service_reverses_text() {
    let _limit = time_limit(60);
    let service = Process::start(&[]);
    let client = Client::req(&service.endpoint);
    assert_eq!(client.ask_text("hello"), "olleh");
    assert_eq!(client.ask(&[b"ab", b"\xff\x00"]), [&b"ba"[..], b"\x00\xff"]);
    assert_eq!(client.ask_text("cafe\u{301}"), "e\u{301}fac");
}

#[test]
fn ipc_abstract_and_ipv6_endpoints_serve_side_by_side() {
    let _limit = time_limit(60);
    let folder = Folder::new("clients");
    let file = format!("ipc://{}", folder.file("s"));
    let name = format!("ipc://@repd-{}", std::process::id());
    let mut listen = vec![file.as_str(), &name];
    listen.extend(has_ipv6().then_some("tcp://[::1]:*"));
    for workers in BOTH {
        let options = listen.iter().flat_map(|endpoint| ["--listen", endpoint]);
        let mut service =
            Process::start(&["--workers", workers].into_iter().chain(options).collect::<Vec<_>>());
        let mut endpoints = vec![service.endpoint.clone()];
        for _ in &listen {
            let line = service.wait_for_line("listening on ");
            endpoints.push(line.split("listening on ").nth(1).unwrap().to_string());
        }
        assert!(endpoints.contains(&file) && endpoints.contains(&name), "{endpoints:?}");
        for endpoint in &endpoints {
            assert_eq!(Client::req(endpoint).ask_text("abc"), "cba", "{endpoint}");
        }
    }
}

#[test]
fn pyzmq_clients_are_served() {
    let _limit = time_limit(120);
    let Some(python) = common::python_with_pyzmq() else { return };
    let service = Process::start(&[]);
    let script = include_str!("pyzmq_clients.py");
    let run = Command::new(python).args(["-c", script, &service.endpoint]).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(String::from_utf8_lossy(&run.stdout), "1000 replies\n");
}
