//! Upstreams by name, whose addresses come and go.

mod common;

use std::collections::BTreeSet;
use std::net::{IpAddr, TcpListener};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{env, fs};

use nix::sys::signal::Signal;

use common::names::name_server;
use common::status::Status;
use common::{
    Client, Folder, LIMIT, Process, REPD, ask_while, code, has_ipv6, time_limit, until, with_folder,
};

/// What the name server of a test is: /etc/hosts.
struct Hosts(Folder);

impl Hosts {
    fn new(test: &str) -> Hosts {
        let hosts = Hosts(Folder::new(test));
        // Of a name that stands there twice, all addresses (host.conf(5)).
        fs::write(hosts.0.file("host.conf"), "multi on\n").unwrap();
        hosts
    }

    /// Has the name `many` these addresses from now on.
    fn set(&self, addresses: &[&str]) {
        let lines: String = addresses.iter().map(|address| format!("{address} many\n")).collect();
        // At once, since it may be read meanwhile.
        fs::write(self.0.file("next"), lines).unwrap();
        fs::rename(self.0.file("next"), self.0.file("hosts")).unwrap();
    }

    /// Starts a service that forwards to that port of the name, with these options.
    fn serve(&self, port: u16, options: &[&str]) -> Option<Process> {
        let upstream = format!("tcp://many:{port}");
        let fixed = ["serve", "--listen", "tcp://127.0.0.1:*", "--upstream", &upstream];
        let mut command = with_folder(&self.0, "/etc", &[&fixed, options].concat())?;
        Some(Process::run(&mut command))
    }
}

const ADDRESSES: [&str; 3] = ["127.0.0.2", "127.0.0.3", "127.0.0.4"];

/// Returns a port that is free at each of the addresses.
fn free_port() -> u16 {
    loop {
        let first = TcpListener::bind((ADDRESSES[0], 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        if ADDRESSES[1..].iter().all(|address| TcpListener::bind((*address, port)).is_ok()) {
            return port;
        }
    }
}

fn echo_at(address: &str, port: u16, options: &[&str]) -> Process {
    let mut command = Command::new(REPD);
    let endpoint = format!("tcp://{address}:{port}");
    command.args(["serve", "--handler", "echo", "--listen", &endpoint]).args(options);
    Process::run(&mut command)
}

#[test]
fn addresses_that_come_are_used_and_those_that_go_are_drained() {
    let _limit = time_limit(120);
    let (hosts, port) = (Hosts::new("come-and-go"), free_port());
    hosts.set(&ADDRESSES[..1]);
    let first = echo_at(ADDRESSES[0], port, &[]);
    let idle = first.descriptors();
    let mut second = echo_at(ADDRESSES[1], port, &["--verbose"]);
    let Some(mut service) = hosts.serve(port, &[]) else { return };
    service.wait_for_line(&format!("upstream tcp://many:{port} (127.0.0.2): connected"));
    let endpoint = service.endpoint.clone();
    // Nothing is lost, though nothing is tried twice.
    ask_while(&endpoint, 10, &[], |go_on| {
        go_on("the first answers");
        hosts.set(&ADDRESSES[..2]);
        service.wait_for_line("(127.0.0.3): connected");
        second.wait_for_line(": reply ");
        go_on("both answer");
        hosts.set(&ADDRESSES[1..2]);
        service.wait_for_line("127.0.0.2 is no longer an address of it");
        until("its connection ends", || first.descriptors() == idle);
        (0..3).for_each(|_| go_on("the second answers"));
    });
}

#[test]
fn a_name_without_an_address_is_looked_up_until_it_has_one() {
    let _limit = time_limit(120);
    let (hosts, port) = (Hosts::new("none-at-first"), free_port());
    hosts.set(&[]);
    let Some(mut service) = hosts.serve(port, &[]) else { return };
    // Before it listens, or after that.
    const SAYS: &str = "no address, interface or host";
    if !service.log.iter().any(|line| line.contains(SAYS)) {
        service.wait_for_line(SAYS);
    }
    let client = Client::req(&service.endpoint);
    assert_eq!(code(&client.ask(&[b"a"])), Some(503));
    let _upstream = echo_at(ADDRESSES[0], port, &[]);
    hosts.set(&ADDRESSES[..1]);
    service.wait_for_line(": connected");
    until("it is answered", || client.ask(&[b"a"]) == [b"a"]);
    // What cannot be looked up any more stays as it was.
    hosts.set(&[]);
    fs::remove_file(hosts.0.file("hosts")).unwrap();
    service.wait_for_line(SAYS);
    (0..20).for_each(|_| assert_eq!(client.ask(&[b"a"]), [b"a"]));
}

#[test]
fn a_name_server_that_is_silent_holds_up_neither_the_start_nor_another_name_nor_the_end() {
    let _limit = time_limit(60);
    let test =
        "a_name_server_that_is_silent_holds_up_neither_the_start_nor_another_name_nor_the_end";
    let Some(names) = name_server(test) else { return };
    // A look-up takes longer than this test may.
    names.set_resolv_conf("nameserver 127.0.0.1\noptions timeout:30 attempts:5\n");
    names.keep_secret("silent.example.org");
    let _upstreams = [2, 3].map(|last| echo_at(&format!("127.0.0.{last}"), 5555, &[]));
    let known = "tcp://known.example.org:5555";
    let mut service =
        Process::start(&["--upstream", "tcp://silent.example.org:5555", "--upstream", known]);
    for address in ["127.0.0.2", "127.0.0.3"] {
        names.set_addresses("known.example.org", &[address.parse().unwrap()]);
        service.wait_for_line(&format!("upstream {known} ({address}): connected"));
        assert_eq!(Client::req(&service.endpoint).ask(&[b"a"]), [b"a"]);
    }
    service.signal(Signal::SIGTERM);
    assert_eq!(service.wait().code(), Some(0));
}

#[test]
fn an_address_that_is_the_services_own_is_left_out() {
    let _limit = time_limit(60);
    let Some(names) = name_server("an_address_that_is_the_services_own_is_left_out") else {
        return;
    };
    let both = ["127.0.0.1", "127.0.0.2"].map(|it| it.parse().unwrap());
    names.set_addresses("both.example.org", &both);
    let mut other = echo_at("127.0.0.2", 5555, &[]);
    let options = "serve --listen tcp://127.0.0.1:5555 --upstream tcp://both.example.org:5555";
    let mut service = Process::run(Command::new(REPD).args(options.split(' ')));
    service.wait_for_line("127.0.0.1:5555 is this service itself: left out");
    service.wait_for_line("(127.0.0.2): connected");
    let client = Client::req(&service.endpoint);
    (0..100).for_each(|_| assert_eq!(client.ask(&[b"a"]), [b"a"]));
    for process in [&mut service, &mut other] {
        process.signal(Signal::SIGTERM);
        process.wait_for_line("stopped: requests: 100,");
    }
}

#[test]
fn one_address_of_three_that_dies_takes_nothing_with_it_if_requests_are_tried_again() {
    let _limit = time_limit(120);
    let (hosts, port) = (Hosts::new("one-dies"), free_port());
    hosts.set(&ADDRESSES);
    let mut upstreams: Vec<_> = ADDRESSES.iter().map(|it| echo_at(it, port, &[])).collect();
    let Some(mut service) = hosts.serve(port, &["--retries", "1"]) else { return };
    ADDRESSES.iter().for_each(|_| drop(service.wait_for_line(": connected")));
    ask_while(&service.endpoint.clone(), 20, &[], |go_on| {
        go_on("all answer");
        drop(upstreams.swap_remove(0));
        service.wait_for_line("(127.0.0.2): the connection has ended");
        (0..3).for_each(|_| go_on("the others answer"));
    });
}

/// Time between two changes of a name's addresses.
const EACH: Duration = Duration::from_secs(2);

/// Draws which ones of these addresses a name has: other ones than it had of late.
fn draw(all: &[&str], known: &[(Instant, BTreeSet<IpAddr>)]) -> BTreeSet<IpAddr> {
    loop {
        let is_drawn = |_: &&&str| fastrand::bool();
        let drawn: BTreeSet<IpAddr> =
            all.iter().filter(is_drawn).map(|address| address.parse().unwrap()).collect();
        if !drawn.is_empty() && known.iter().rev().take(9).all(|(_, other)| *other != drawn) {
            return drawn;
        }
    }
}

/// Returns the addresses of the name to which the service is connected.
fn connected(status: &Status) -> BTreeSet<IpAddr> {
    let metrics = status.metrics();
    let up =
        metrics.iter().filter(|(name, up)| name.starts_with("repd_upstream_up{") && **up == 1.0);
    let address = |name: &String| name.split(['(', ')']).nth(1).unwrap().parse().unwrap();
    up.map(|(name, _)| address(name)).collect()
}

/// `REPD_ADDRESS_CHANGES=150` has it take five minutes, and holds it to the time in which changes are
/// to be found.
#[test]
fn a_name_whose_addresses_come_and_go_all_the_time_loses_nothing() {
    let _limit = time_limit(1200);
    let test = "a_name_whose_addresses_come_and_go_all_the_time_loses_nothing";
    let Some(names) = name_server(test) else { return };
    let mut all = vec!["127.0.0.2", "127.0.0.3", "127.0.0.4"];
    if has_ipv6() {
        all.extend(["fd00::2", "fd00::3", "fd00::4"]);
    }
    let places =
        all.iter().map(|it| if it.contains(':') { format!("[{it}]") } else { it.to_string() });
    let _upstreams: Vec<_> = places.map(|place| echo_at(&place, 5001, &[])).collect();
    let wanted = env::var("REPD_ADDRESS_CHANGES").ok().map(|text| text.parse().unwrap());
    let set = |addresses: &BTreeSet<IpAddr>| {
        names.set_addresses("many.example.org", &addresses.iter().copied().collect::<Vec<_>>());
    };
    let mut changes = vec![(Instant::now(), draw(&all, &[]))];
    set(&changes[0].1);
    let options = ["--retries", "1", "--status", "tcp://127.0.0.1:*"];
    let service =
        Process::start(&[&["--upstream", "tcp://many.example.org:5001"], &options[..]].concat());
    let status = Status::of(&service);
    until("it is connected", || connected(&status) == changes[0].1);
    let (mut found, mut slowest, mut looks) = (1, Duration::ZERO, 0);
    let (replies, lost) = ask_while(&service.endpoint, 20, &[], |_| {
        for number in 1..=wanted.unwrap_or(6) {
            let drawn = draw(&all, &changes);
            set(&drawn);
            let now = Instant::now();
            changes.push((now, drawn));
            let is_last = number == wanted.unwrap_or(6);
            while now.elapsed() < EACH || (is_last && found < changes.len()) {
                assert!(now.elapsed() < LIMIT, "not found: {changes:?}");
                let there = connected(&status);
                // Those before it were found too, or there was no look-up between.
                let Some(place) = changes.iter().rposition(|(_, it)| *it == there) else {
                    continue;
                };
                for (at, _) in changes.iter().take(place + 1).skip(found) {
                    slowest = slowest.max(at.elapsed());
                }
                looks += usize::from(place >= found);
                found = found.max(place + 1);
                sleep(Duration::from_millis(10));
            }
        }
    });
    println!(
        "{} changes in {looks} look-ups, the slowest found after {slowest:?}",
        changes.len() - 1
    );
    println!("{replies} replies, {lost} lost");
    assert_eq!(lost, 0);
    assert!(wanted.is_none() || slowest < Duration::from_secs(6), "{slowest:?}");
}
