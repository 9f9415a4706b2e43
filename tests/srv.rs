//! Upstreams by SRV records: which are served, how much of the load each gets, and how they change.

mod common;

use std::net::UdpSocket;
use std::process::Command;

use common::keys::Keys;
use common::names::{NameServer, name_server};
use common::status::Status;
use common::{Client, Process, REPD, ask_while, code, repd, sleepy, time_limit, until};
use nix::sys::signal::Signal;

const SRV: &str = "_repd._tcp.example.org";
const UPSTREAM: &str = "tcp://_repd._tcp.example.org";

fn at(address: &str, port: u16, options: &[&str]) -> Process {
    let mut command = Command::new(REPD);
    let endpoint = format!("tcp://{address}:{port}");
    command.args(["serve", "--handler", "echo", "--listen", &endpoint]).args(options);
    Process::run(&mut command)
}

fn sleepy_at(address: &str, port: u16, options: &[&str]) -> Process {
    let endpoint = format!("tcp://{address}:{port}");
    Process::run(Command::new(sleepy()).args(["serve", "--listen", &endpoint]).args(options))
}

fn front(options: &[&str]) -> Process {
    let status = ["--status", "tcp://127.0.0.1:*"];
    Process::start(&[&["--upstream", UPSTREAM], &status[..], options].concat())
}

/// Returns the name server of a test, with the addresses of the hosts `a` and `b`.
fn names(test: &str) -> Option<NameServer> {
    let names = name_server(test)?;
    for (name, address) in [("a.example.org", "127.0.0.2"), ("b.example.org", "127.0.0.3")] {
        names.set_addresses(name, &[address.parse().unwrap()]);
    }
    Some(names)
}

fn connected(front: &mut Process, address: &str) {
    front.wait_for_line(&format!("upstream {UPSTREAM} ({address}): connected"));
}

/// Returns how many requests the upstreams at these addresses have answered, as it is shown once there
/// are that many replies in all.
fn replies<const N: usize>(front: &Process, addresses: [String; N], least: f64) -> [f64; N] {
    let status = Status::of(front);
    let mut metrics = status.metrics();
    until("there are as many replies", || {
        metrics = status.metrics();
        metrics["repd_replies_total{code=\"ok\"}"] >= least
    });
    addresses.map(|address| {
        let labels = format!("{{upstream=\"{UPSTREAM} ({address})\"}}");
        metrics[&format!("repd_upstream_duration_seconds_count{labels}")]
    })
}

/// Returns how many requests the upstream at that address has answered, while clients go on asking: not
/// before this was called.
fn replies_now(front: &Process, address: &str) -> f64 {
    // What is shown may be a tenth of a second old.
    let shown = Status::of(front).metrics()["repd_replies_total{code=\"ok\"}"];
    let [replies] = replies(front, [address.into()], shown + 1.0);
    replies
}

/// Sends that many requests to `sleepy` upstreams, which each take 20 ms, twenty at a time.
fn ask(front: &Process, requests: usize) {
    let client = Client::dealer(&front.endpoint);
    (0..20).for_each(|_| client.send(&[b"20"]));
    for _ in 0..requests - 20 {
        assert_eq!(client.receive(), [b"20"]);
        client.send(&[b"20"]);
    }
    (0..20).for_each(|_| assert_eq!(client.receive(), [b"20"]));
}

#[test]
fn each_port_of_a_target_is_an_upstream() {
    let _limit = time_limit(60);
    let Some(names) = names("each_port_of_a_target_is_an_upstream") else { return };
    // The records are those of another name.
    names.set_alias(SRV, "srv.example.net");
    let target = "a.example.org";
    names.set_srv("srv.example.net", 60, &[(1, 0, 5001, target), (1, 0, 5002, target)]);
    let mut upstreams = [5001, 5002].map(|port| at("127.0.0.2", port, &["--verbose"]));
    let mut front = front(&[]);
    let mut there = [front.wait_for_line(": connected"), front.wait_for_line(": connected")];
    there.sort();
    assert!(there[0].contains("(127.0.0.2:5001)") && there[1].contains("(127.0.0.2:5002)"));
    ask_while(&front.endpoint, 4, &[], |_| {
        upstreams.iter_mut().for_each(|it| drop(it.wait_for_line(": reply ")));
    });
}

#[test]
fn weights_share_the_load_and_may_change() {
    let _limit = time_limit(60);
    let Some(names) = names("weights_share_the_load_and_may_change") else { return };
    let places = ["127.0.0.2", "127.0.0.3"];
    let _upstreams = places.map(|it| sleepy_at(it, 5001, &["--workers", "20"]));
    let set = |one, other| {
        let records = [(1, one, 5001, "a.example.org"), (1, other, 5001, "b.example.org")];
        names.set_srv(SRV, 1, &records);
    };
    set(3, 1);
    let mut front = front(&[]);
    front.wait_for_line(": connected");
    front.wait_for_line(": connected");
    let mut before = [0.0; 2];
    // Beside others, the smallest weight gets next to nothing.
    for (weights, least, most) in [((3, 1), 2.0, 4.5), ((2, 6), 0.22, 0.5), ((0, 5), 0.0, 0.1)] {
        set(weights.0, weights.1);
        let asked = names.asked().0;
        until("the records are read again", || names.asked().0 > asked + 1);
        ask(&front, 1000);
        let total = before[0] + before[1] + 1000.0;
        let after = replies(&front, places.map(|it| format!("{it}:5001")), total);
        let [one, other] = [after[0] - before[0], after[1] - before[1]];
        println!("weights {weights:?}: {one} and {other} requests");
        assert!((least..=most).contains(&(one / other)), "{weights:?}: {one} and {other}");
        before = after;
    }
}

#[test]
fn a_higher_priority_gets_nothing_until_the_lower_is_gone_and_then_everything() {
    let _limit = time_limit(60);
    let test = "a_higher_priority_gets_nothing_until_the_lower_is_gone_and_then_everything";
    let Some(names) = names(test) else { return };
    let (first, second) = ((1, 0, 5001, "a.example.org"), (2, 0, 5001, "b.example.org"));
    names.set_srv(SRV, 1, &[second, first]);
    let mut preferred = at("127.0.0.2", 5001, &[]);
    let _other = at("127.0.0.3", 5001, &[]);
    let mut front = front(&["--retries", "1"]);
    front.wait_for_line(": connected");
    front.wait_for_line(": connected");
    let endpoint = front.endpoint.clone();
    let of_second = |front: &Process| replies_now(front, "127.0.0.3:5001");
    ask_while(&endpoint, 10, &[], |go_on| {
        go_on("the first answers");
        assert_eq!(of_second(&front), 0.0);
        // It refuses what comes while it drains, and then it is gone.
        preferred.signal(nix::sys::signal::Signal::SIGTERM);
        front.wait_for_line("(127.0.0.2:5001): the connection has ended");
        preferred.wait();
        (0..3).for_each(|_| go_on("the second answers"));
        assert!(of_second(&front) > 0.0);
        preferred = at("127.0.0.2", 5001, &[]);
        connected(&mut front, "127.0.0.2:5001");
        go_on("the first answers again");
        until("the second gets nothing more", || {
            let before = of_second(&front);
            go_on("the first answers alone");
            of_second(&front) == before
        });
        // So do changed priorities: the second comes first.
        names.set_srv(SRV, 1, &[(3, 0, 5001, "a.example.org"), second]);
        until("the first gets nothing more", || {
            let before = replies_now(&front, "127.0.0.2:5001");
            go_on("the second answers alone");
            replies_now(&front, "127.0.0.2:5001") == before
        });
    });
}

/// Each of the first has one request at a time: it is not full of them.
#[test]
fn when_the_lower_priority_hangs_the_higher_answers() {
    let _limit = time_limit(60);
    let Some(names) = names("when_the_lower_priority_hangs_the_higher_answers") else { return };
    names.set_srv(SRV, 1, &[(1, 0, 5001, "a.example.org"), (2, 0, 5001, "b.example.org")]);
    let _other = at("127.0.0.3", 5001, &[]);
    for options in [&[][..], &["--retries", "1", "--hedge"]] {
        let preferred = at("127.0.0.2", 5001, &[]);
        let mut front = front(&[&["--timeout", "1"], options].concat());
        front.wait_for_line(": connected");
        front.wait_for_line(": connected");
        let client = Client::req(&front.endpoint);
        (0..1000).for_each(|_| assert_eq!(client.ask(&[b"a"]), [b"a"]));
        // Nothing but what takes long, if that is hedged.
        let of_other = replies(&front, ["127.0.0.3:5001".into()], 1000.0);
        let hedged = Status::of(&front).metrics()["repd_hedges_won_total"];
        assert_eq!(of_other, [hedged]);
        assert!(hedged == 0.0 || !options.is_empty());
        preferred.signal(Signal::SIGSTOP);
        if !options.is_empty() {
            assert_eq!(client.ask(&[b"b"]), [b"b"]);
        }
        // What waits when the requests before have paid for no more hedges.
        let codes: Vec<_> = (0..1000).filter_map(|_| code(&client.ask(&[b"b"]))).collect();
        assert!(codes.is_empty() || codes == [504], "{codes:?}");
    }
}

#[test]
fn a_record_that_goes_is_drained_and_one_that_comes_is_used() {
    let _limit = time_limit(60);
    let test = "a_record_that_goes_is_drained_and_one_that_comes_is_used";
    let Some(names) = names(test) else { return };
    let record = |port| (1, 0, port, "a.example.org");
    names.set_srv(SRV, 1, &[record(5001)]);
    let first = at("127.0.0.2", 5001, &[]);
    let idle = first.descriptors();
    let _second = at("127.0.0.2", 5002, &[]);
    let mut front = front(&[]);
    connected(&mut front, "127.0.0.2:5001");
    let endpoint = front.endpoint.clone();
    // Nothing is lost, though nothing is tried twice.
    let (_, errors) = ask_while(&endpoint, 10, &[], |go_on| {
        names.set_srv(SRV, 1, &[record(5001), record(5002)]);
        connected(&mut front, "127.0.0.2:5002");
        go_on("both answer");
        names.set_srv(SRV, 1, &[record(5002)]);
        front.wait_for_line("127.0.0.2:5001 is no longer an address of it");
        until("its connection ends", || first.descriptors() == idle);
        (0..3).for_each(|_| go_on("the second answers"));
        // The name server has none any more, but does not say that there is none.
        names.set_srv(SRV, 1, &[]);
        front.wait_for_line("it has no SRV records; retrying");
        (0..3).for_each(|_| go_on("the last one holds"));
    });
    assert_eq!(errors, 0);
    names.set_srv(SRV, 1, &[(0, 0, 0, ".")]);
    front.wait_for_line("127.0.0.2:5002 is no longer an address of it");
    let client = Client::req(&endpoint);
    until("requests are refused", || code(&client.ask(&[b"a"])) == Some(503));
}

/// It has a request to answer meanwhile, and is shown once.
#[test]
fn a_record_that_comes_back_while_it_is_drained_is_the_same_upstream() {
    let _limit = time_limit(60);
    let test = "a_record_that_comes_back_while_it_is_drained_is_the_same_upstream";
    let Some(names) = names(test) else { return };
    let record = |port| (1, 0, port, "a.example.org");
    names.set_srv(SRV, 1, &[record(5001)]);
    let first = at("127.0.0.2", 5001, &[]);
    let mut front = front(&["--timeout", "60"]);
    connected(&mut front, "127.0.0.2:5001");
    first.signal(Signal::SIGSTOP);
    let client = Client::req(&front.endpoint);
    client.send(&[b"a"]);
    let status = Status::of(&front);
    status.until("it is there", |shown| shown["upstreams"][0]["in_flight"] == 1);
    names.set_srv(SRV, 1, &[record(5002)]);
    front.wait_for_line("127.0.0.2:5001 is no longer an address of it");
    names.set_srv(SRV, 1, &[record(5001)]);
    front.wait_for_line("127.0.0.2:5001 is an address of it again");
    status.until("it is shown once", |shown| {
        let all = shown["upstreams"].as_array().unwrap();
        all.len() == 1 && all[0]["in_flight"] == 1
    });
    first.signal(Signal::SIGCONT);
    assert_eq!(client.receive(), [b"a"]);
    assert_eq!(client.ask(&[b"b"]), [b"b"]);
}

#[test]
fn what_a_name_server_lies_or_cuts_is_not_believed_and_one_that_is_silent_is_passed_over() {
    let _limit = time_limit(60);
    let test =
        "what_a_name_server_lies_or_cuts_is_not_believed_and_one_that_is_silent_is_passed_over";
    let Some(names) = names(test) else { return };
    names.set_srv(SRV, 1, &[(1, 0, 5001, "a.example.org")]);
    names.lie();
    let _upstreams = [5001, 5002].map(|port| at("127.0.0.2", port, &[]));
    let mut front = front(&[]);
    connected(&mut front, "127.0.0.2:5001");
    let asked = names.asked();
    until("they are looked up again within their time", || names.asked().0 > asked.0 + 2);
    assert_eq!(names.asked().1, 0);
    names.cut();
    names.set_srv(SRV, 1, &[(1, 0, 5002, "a.example.org")]);
    connected(&mut front, "127.0.0.2:5002");
    assert!(names.asked().1 > 0);
    let _silent = UdpSocket::bind("127.0.0.9:53").unwrap();
    let servers = "nameserver 127.0.0.8\nnameserver 127.0.0.9\nnameserver 127.0.0.1\n";
    names.set_resolv_conf(&format!("{servers}options timeout:1\n"));
    names.set_srv(SRV, 1, &[(1, 0, 5001, "a.example.org")]);
    connected(&mut front, "127.0.0.2:5001");
}

#[test]
fn who_asks_goes_to_the_targets_by_priority() {
    let _limit = time_limit(60);
    let Some(names) = names("who_asks_goes_to_the_targets_by_priority") else { return };
    let (first, second) = ((1, 0, 5001, "a.example.org"), (2, 0, 5002, "b.example.org"));
    names.set_srv(SRV, 60, &[second, first]);
    let one = at("127.0.0.2", 5001, &["--verbose"]);
    let mut two = at("127.0.0.3", 5002, &["--verbose", "--status", "tcp://127.0.0.3:5003"]);
    let hello = || repd(&["call", UPSTREAM, "hello"], b"").stdout == b"hello\n";
    assert!(hello());
    drop(one);
    assert!(hello());
    two.wait_for_line(": reply ");
    let bench = repd(&["bench", UPSTREAM, "--requests", "10", "--warmup", "0"], b"");
    assert!(bench.status.success(), "{bench:?}");
    names.set_srv(SRV, 60, &[(1, 0, 5001, "a.example.org"), (2, 0, 5003, "b.example.org")]);
    let status = repd(&["status", UPSTREAM], b"");
    assert!(status.status.success(), "{status:?}");
    names.set_srv(SRV, 60, &[]);
    let error = repd(&["call", UPSTREAM, "hello"], b"");
    let error = String::from_utf8(error.stderr).unwrap();
    assert!(
        error.contains(&format!("cannot connect to {UPSTREAM}: it has no SRV records")),
        "{error}"
    );
    // Nobody listens there.
    for option in ["--listen", "--backend", "--status"] {
        let refused = repd(&["serve", "--check", option, UPSTREAM], b"");
        assert_eq!(refused.status.code(), Some(2));
        let error = String::from_utf8(refused.stderr).unwrap();
        assert!(
            error.contains("SRV records tell where to connect to; give tcp://HOST:PORT"),
            "{error}"
        );
    }
}

#[test]
fn a_service_with_keys_finds_them_too_and_each_target_has_the_key_of_the_name() {
    let _limit = time_limit(60);
    let test = "a_service_with_keys_finds_them_too_and_each_target_has_the_key_of_the_name";
    let Some(names) = names(test) else { return };
    let keys = Keys::new("srv");
    let back = keys.serve(&["--handler", "echo"]);
    let port = back.endpoint.rsplit(':').next().unwrap().parse().unwrap();
    names.set_addresses("c.example.org", &["127.0.0.1".parse().unwrap()]);
    names.set_srv(SRV, 1, &[(1, 0, port, "c.example.org")]);
    names.cut();
    let servers = keys.write("servers", &format!("{UPSTREAM} {}\n", keys.public("service")));
    let (key, clients) = (keys.path("pump-7.key_secret"), keys.path("clients"));
    let fixed = ["--key", &key, "--clients", &clients, "--servers", &servers, "--verbose"];
    let mut front = Process::start(&[&fixed[..], &["--upstream", UPSTREAM]].concat());
    connected(&mut front, &format!("127.0.0.1:{port}"));
    // Confined, it still reads /etc/resolv.conf, and asks over UDP and TCP.
    let asked = names.asked();
    until("it asks again", || names.asked().0 > asked.0 + 2 && names.asked().1 > asked.1 + 2);
    let call = ["call", &front.endpoint, "--server-key", &keys.public("pump-7"), "--key", &key];
    assert_eq!(repd(&[&call[..], &["hello"]].concat(), b"").stdout, b"hello\n");
}
