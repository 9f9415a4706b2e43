//! A service in front of three machines, one of which fails under load, in one way after another.
//! `REPD_MESH_SECONDS=60` sets how long it does so in each.

mod common;

use std::env;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::names::name_server;
use common::status::Status;
use common::{Killed, Link, Process, REPD, ask_while, time_limit};
use nix::sys::signal::Signal::{SIGCONT, SIGINT, SIGKILL, SIGSTOP, SIGTERM};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::{Value, json};

const HOSTS: [&str; 3] = ["b", "c", "d"];

/// Longer than it takes to notice that a machine is not there: twice the heartbeat.
const TIMEOUT: Duration = Duration::from_secs(5);

fn endpoint(host: usize) -> String {
    format!("tcp://10.77.{host}.2:5555")
}

/// Three machines, and a service on another that forwards to them.
struct Mesh {
    link: Link,
    upstreams: Vec<Process>,
    front: Process,
    /// How long each fault goes on, at least.
    time: Duration,
}

impl Mesh {
    fn start(name: &str) -> Option<Mesh> {
        let link = Link::with(name, &HOSTS)?;
        let upstreams = (0..3).map(|host| start(&link, host)).collect();
        let upstream = |host| format!(" --upstream {}", endpoint(host));
        let options = "--listen tcp://127.0.0.1:5555 --retries 1 --hedge --heartbeat 1 --timeout ";
        let options = options.to_string() + &TIMEOUT.as_secs().to_string();
        let options = (0..3).fold(options, |options, host| options + &upstream(host));
        let mut front = link.serve("a", REPD, &options);
        (0..3).for_each(|_| drop(front.wait_for_line(": connected")));
        let seconds = env::var("REPD_MESH_SECONDS").map_or(3, |text| text.parse().unwrap());
        Some(Mesh { link, upstreams, front, time: Duration::from_secs(seconds) })
    }

    /// Has fifty clients ask while `fault` happens again and again, to one machine after the other;
    /// returns the numbers of error replies, by their codes.
    fn ask_while(&mut self, fault: impl Fn(&mut Mesh, usize)) -> Value {
        let load = "bench tcp://127.0.0.1:5555 --clients 50 --duration 86400 --expect reverse \
                    --warmup 0 --timeout 30 --json";
        let mut load = Killed(self.link.client(load).stdout(Stdio::piped()).spawn().unwrap());
        let (start, mut host) = (Instant::now(), 0);
        while start.elapsed() < self.time {
            fault(self, host);
            host = (host + 1) % HOSTS.len();
        }
        kill(Pid::from_raw(load.0.id() as i32), SIGINT).unwrap();
        let status = load.0.wait().unwrap();
        let said = std::io::read_to_string(load.0.stdout.take().unwrap()).unwrap();
        println!("{said}");
        let mut said: Value = serde_json::from_str(&said).expect(&said);
        let errors = said["errors_by_code"].take();
        assert_eq!(status.success(), errors == json!({}), "{said}");
        assert_eq!([&said["missing"], &said["wrong"]], [&json!(0), &json!(0)], "{said}");
        errors
    }

    fn wait_for(&mut self, host: usize, what: &str) {
        self.front.wait_for_line(&format!("{}: {what}", endpoint(host)));
    }
}

/// Starts what answers on one of the machines.
fn start(link: &Link, host: usize) -> Process {
    link.serve(HOSTS[host], REPD, &format!("--listen {}", endpoint(host)))
}

#[test]
fn whichever_machine_fails_and_however_every_request_is_answered() {
    let _limit = time_limit(900);
    let Some(mut mesh) = Mesh::start("mesh") else { return };
    let killed = mesh.ask_while(|mesh, host| {
        mesh.upstreams[host].signal(SIGKILL);
        mesh.wait_for(host, "the connection has ended");
        mesh.upstreams[host] = start(&mesh.link, host);
        mesh.wait_for(host, "connected");
    });
    assert_eq!(killed, json!({}));
    let vanished = mesh.ask_while(|mesh, host| {
        mesh.link.set_link(HOSTS[host], "down");
        mesh.wait_for(host, "the connection has ended");
        mesh.link.set_link(HOSTS[host], "up");
        mesh.wait_for(host, "connected");
    });
    assert_eq!(vanished, json!({}));
    // Not a wait for anything: so fast it flaps, and so long a machine does nothing.
    let flapping = mesh.ask_while(|mesh, _| {
        for state in ["down", "up"] {
            mesh.link.set_link("d", state);
            sleep(Duration::from_millis(300));
        }
    });
    assert_eq!(flapping, json!({}));
    let frozen = mesh.ask_while(|mesh, host| {
        mesh.upstreams[host].signal(SIGSTOP);
        sleep(TIMEOUT + Duration::from_secs(1));
        mesh.upstreams[host].signal(SIGCONT);
    });
    let codes: Vec<&String> = frozen.as_object().unwrap().keys().collect();
    assert!(codes.iter().all(|code| *code == "504"), "{frozen}");
}

/// As with `tests/vm/names.nix`.
#[test]
fn machines_behind_a_name_are_added_drained_and_crash_and_nobody_notices() {
    let _limit = time_limit(120);
    let test = "machines_behind_a_name_are_added_drained_and_crash_and_nobody_notices";
    let Some(names) = name_server(test) else { return };
    let Some(link) = Link::from_here("names", &HOSTS) else { return };
    let address = |host: usize| Ipv4Addr::new(10, 77, host as u8, 2);
    let set = |hosts: &[usize]| {
        let addresses: Vec<IpAddr> = hosts.iter().map(|host| address(*host).into()).collect();
        names.set_addresses("back.test", &addresses);
    };
    let [drained, crashed, added] = [0, 1, 2];
    let mut machines: Vec<_> = HOSTS.iter().map(|host| serve_at_any(&link, host)).collect();
    set(&[drained, crashed]);
    let options = "--listen tcp://127.0.0.1:5555 --upstream tcp://back.test:5555 --retries 1 \
                   --heartbeat 1 --status tcp://127.0.0.1:5556";
    let mut front = link.serve("a", REPD, options);
    let says = |host: usize, what: &str| format!("({}): {what}", address(host));
    let status = Status("tcp://127.0.0.1:5556".into());
    let upstreams = |shown: &Value| shown["upstreams"].to_string();
    status.until("two are connected", |shown| {
        let states = upstreams(shown);
        states.matches("10.77.").count() == 2 && !states.contains("disconnected")
    });
    ask_while("tcp://127.0.0.1:5555", 20, &[], |go_on| {
        go_on("both answer");
        set(&[drained, crashed, added]);
        front.wait_for_line(&says(added, "connected"));
        set(&[crashed, added]);
        // It is shown until it has answered all that it had.
        status.until("it has nothing more to do", |shown| {
            !upstreams(shown).contains(&address(drained).to_string())
        });
        machines[drained].signal(SIGTERM);
        assert_eq!(machines[drained].wait().code(), Some(0));
        // Without a word.
        link.set_link(HOSTS[crashed], "down");
        front.wait_for_line(&says(crashed, "the connection has ended"));
        (0..3).for_each(|_| go_on("the one that was added answers"));
    });
    let log = &machines[drained].log;
    let last = log.iter().find_map(|line| line.split("stopped: ").nth(1)).unwrap();
    let counts: Vec<&str> = last.split(", ").collect();
    assert!(
        counts.len() == 2
            && counts[0].strip_prefix("requests") == counts[1].strip_prefix("replies"),
        "{last}"
    );
}

/// Starts an echo service on that machine.
fn serve_at_any(link: &Link, host: &str) -> Process {
    link.serve(host, REPD, "--listen tcp://*:5555 --handler echo")
}
