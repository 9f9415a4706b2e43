//! What goes wrong meanwhile.

use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::Signal::{SIGCONT, SIGHUP, SIGKILL, SIGTERM};
use serde_json::Value;

use super::account::{Account, Allowed, BREAK, DIE, HANG};
use super::clients::{Clients, numbered, send};
use super::common::keys::{Keys, Watch};
use super::common::{Client, until};
use super::counters;
use super::player::Player;
use super::run::Run;
use super::script::{Front, script};
use super::services::{Restarted, Service, Upstreams};

/// The client whose key is taken off the list, and the one whose key stays.
pub const VISITOR: &str = "visitor";
pub const LISTED: &str = "pump-7";

/// Requests of the visitor before and while it is taken off.
const VISIT: usize = 20;

/// Has a client listed that asks, and takes it off the list while it does, again and again.
pub fn change_list(service: &Service, keys: &Keys, run: &Run) {
    let line = |name| format!("{name} {}\n", keys.public(name));
    let (listed, visitor) = (line(LISTED), line(VISITOR));
    let reload = |list: &str| {
        let reloads = |json: &Value| json["reloads"]["ok"].as_u64();
        let before = reloads(&service.status.json());
        keys.write("clients", list);
        service.process().signal(SIGHUP);
        until_shown(service, "the lists are read again", |json| reloads(json) > before);
        run.happened("lists were read again");
    };
    let curve = keys.curve_of(VISITOR);
    let (visitors, leaving) =
        (Clients::of(service, run), Clients::of(service, run).allowing(&[403]));
    run.repeat(|| {
        reload(&format!("{listed}{visitor}"));
        let client = Client::with(zmq::DEALER, &service.endpoint, &curve);
        let watch = Watch::new(&client);
        (0..VISIT).for_each(|_| _ = visitors.send(&client));
        (0..VISIT).for_each(|_| visitors.receive(&client));
        let asked = (0..VISIT).map(|_| leaving.send(&client)).collect();
        reload(&listed);
        receive_until_cut_off(&service.account, &client, &watch, asked);
    });
}

/// Receives the replies to these requests, as many as come before the connection ends.
fn receive_until_cut_off(
    account: &Account,
    client: &Client,
    watch: &Watch,
    mut outstanding: Vec<u64>,
) {
    until("the client is cut off", || {
        // What came before it ended is there then.
        let has_ended = watch.has_ended();
        while let Ok(message) = client.socket.recv_multipart(zmq::DONTWAIT) {
            let (number, reply) = numbered(&message);
            account.note(number, reply);
            outstanding.retain(|other| *other != number);
        }
        has_ended || outstanding.is_empty()
    });
    outstanding.into_iter().for_each(|number| account.leave(number));
}

/// Has the program die and break its framing, and hang now and then, which takes long. Each copy is
/// there before the next one fails, so that there is always one to answer.
pub fn fail_programs(service: &Service, run: &Run) {
    const FAILURES: [(u8, &[u16], &str); 3] = [
        (HANG, &[504], "programs hung"),
        (DIE, &[502], "programs died"),
        (BREAK, &[500], "programs broke the framing"),
    ];
    let mut rounds = (0..20).cycle();
    let starts = |json: &Value| json["program"]["starts"].as_u64();
    let clients = Clients::of(service, run);
    let client = clients.connect(zmq::DEALER);
    run.repeat(|| {
        let may_hang = rounds.next() == Some(0);
        for (verb, codes, what) in &FAILURES[usize::from(!may_hang)..] {
            let before = starts(&service.status.json());
            let (number, body) = service.account.ask(*verb, Allowed::only(codes));
            send(&client, number, &body);
            clients.receive(&client);
            run.happened(what);
            until_shown(service, "the program runs again", |json| {
                let mut workers = json["workers"].as_array().unwrap().iter();
                starts(json) > before && workers.all(|worker| worker["state"] != "down")
            });
        }
    });
}

/// Kills, freezes and stops one upstream after the other, each when all is well again: a request
/// that has been retried once is not lost again then.
pub fn fail_upstreams(service: &Service, upstreams: &mut Upstreams, run: &Run) {
    let endpoints = upstreams.endpoints.clone();
    let is_up = |host: usize, is_up: bool| {
        until_shown(service, "an upstream comes or goes", |json| {
            let all = json["upstreams"].as_array().unwrap();
            let upstream =
                all.iter().find(|upstream| upstream["endpoint"] == *endpoints[host]).unwrap();
            (upstream["state"] != "disconnected") == is_up
        });
    };
    let mut host = 0;
    run.repeat(|| {
        upstreams.processes[host].signal(SIGKILL);
        is_up(host, false);
        upstreams.start(host);
        is_up(host, true);
        run.happened("upstreams were killed");
        service.account.settle();

        upstreams.processes[host].halt();
        // Not a wait for anything: so long it does nothing.
        sleep(Duration::from_millis(300));
        upstreams.processes[host].signal(SIGCONT);
        run.happened("upstreams froze");
        service.account.settle();

        upstreams.processes[host].signal(SIGTERM);
        assert_eq!(upstreams.processes[host].wait().code(), Some(0));
        is_up(host, false);
        upstreams.start(host);
        is_up(host, true);
        run.happened("upstreams were stopped");
        service.account.settle();
        host = (host + 1) % upstreams.processes.len();
    });
}

/// Ends a service and starts it again, each time when its clients have had replies.
pub fn restart(service: &Restarted, run: &Run) {
    run.repeat(|| {
        let before = service.account.replies();
        until("clients get replies", || service.account.replies() > before + 100 || run.is_over());
        service.restart();
        run.happened("restarts of the service");
    });
}

/// Speaks ZMTP wrongly, from that address.
pub fn fuzz(service: &Service, run: &Run, address: Ipv4Addr) {
    let seed = fastrand::u64(..);
    let mut player = Player::new(&service.endpoint, address);
    let mut number = 0;
    run.repeat(|| {
        if let Err(what) = player.play(script(seed, number, Front::Client)) {
            panic!("connection {number} of seed {seed}: {what}");
        }
        number += 1;
        run.happened("malformed connections");
    });
}

/// Looks at each page of each service.
pub fn scrape(services: &[&Service], run: &Run) {
    run.repeat(|| {
        for service in services {
            for path in ["/", "/metrics", "/healthz"] {
                let (code, _, body) = service.status.get(path);
                assert_eq!(code, 200, "{}: {path}: {body}", service.name);
            }
            if let Err(what) = counters::check(&service.status.json()) {
                panic!("{}: {what}", service.name);
            }
            run.happened("scrapes");
        }
        sleep(Duration::from_millis(100));
    });
}

/// Waits until `/status.json` shows that. The service need not be asked more often.
fn until_shown(service: &Service, what: &str, fact: impl Fn(&Value) -> bool) {
    until(what, || {
        sleep(Duration::from_millis(20));
        fact(&service.status.json())
    });
}
