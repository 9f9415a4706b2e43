//! A network of hosts, with links that can be cut.

use std::fs::File;
use std::process::{Command, Stdio};
use std::thread::scope;

use nix::sched::{CloneFlags, setns};
use nix::unistd::geteuid;

use super::raw::Raw;
use super::{Process, REPD, skipped};

/// Network namespaces: "a", and others that each have a link to it; removed when dropped. The address
/// of "a" on the first link is 10.77.0.1, that of "b" 10.77.0.2; on the next they are 10.77.1.1 and
/// that of "c", 10.77.1.2.
pub struct Link {
    name: String,
    others: &'static [&'static str],
    /// "a" is where the test itself runs.
    is_here: bool,
}

impl Link {
    /// Makes "a" and "b". Returns `None`, and reports that the test is skipped, without root, iproute2
    /// and iptables. In CI it fails then.
    pub fn new(name: &str) -> Option<Link> {
        Link::with(name, &["b"])
    }

    /// Makes "a" and these others, likewise.
    pub fn with(name: &str, others: &'static [&'static str]) -> Option<Link> {
        Link::make(name, others, false)
    }

    /// Makes these others, likewise, and takes the network that the test itself is in for "a".
    pub fn from_here(name: &str, others: &'static [&'static str]) -> Option<Link> {
        Link::make(name, others, true)
    }

    fn make(name: &str, others: &'static [&'static str], is_here: bool) -> Option<Link> {
        let link = Link { name: format!("repd-{name}-{}", std::process::id()), others, is_here };
        let runs = |tool| Command::new(tool).arg("--version").output().is_ok();
        let has_iptables = || is_here || runs("iptables");
        let add = |host| Command::new("ip").args(["netns", "add", &link.namespace(host)]).output();
        let added = |host| add(host).is_ok_and(|added| added.status.success());
        if !(geteuid().is_root() && has_iptables() && link.hosts().all(added)) {
            assert!(std::env::var_os("CI").is_none(), "be root, and install iproute2 and iptables");
            skipped("it takes root, iproute2 and iptables, and network namespaces");
            return None;
        }
        link.ip("a", "link set lo up");
        for (place, other) in others.iter().enumerate() {
            let namespace = link.namespace(other);
            link.ip("a", &format!("link add v{other} type veth peer name v netns {namespace}"));
            link.ip("a", &format!("address add 10.77.{place}.1/24 dev v{other}"));
            link.ip("a", &format!("link set v{other} up"));
            link.ip(other, &format!("address add 10.77.{place}.2/24 dev v"));
            link.ip(other, "link set lo up");
            link.ip(other, "link set v up");
        }
        Some(link)
    }

    fn hosts(&self) -> impl Iterator<Item = &'static str> {
        let a = (!self.is_here).then_some("a");
        a.into_iter().chain(self.others.iter().copied())
    }

    fn namespace(&self, host: &str) -> String {
        format!("{}-{host}", self.name)
    }

    fn ip(&self, host: &str, arguments: &str) {
        let run = self.command(host, "ip").args(arguments.split(' ')).output().unwrap();
        assert!(run.status.success(), "ip {arguments}: {run:?}");
    }

    /// Sets the first link "up" or "down".
    pub fn set(&self, state: &str) {
        self.set_link("b", state);
    }

    /// Sets the link to that host "up" or "down".
    pub fn set_link(&self, other: &str, state: &str) {
        self.ip("a", &format!("link set v{other} {state}"));
    }

    /// Starts `program` as a service on that host.
    pub fn serve(&self, host: &str, program: &str, options: &str) -> Process {
        Process::run(self.command(host, program).arg("serve").args(options.split(' ')))
    }

    /// Returns the command that runs `repd` with these arguments on host "a".
    pub fn client(&self, arguments: &str) -> Command {
        let mut command = self.command("a", REPD);
        command.args(arguments.split(' ')).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Returns the command that runs `program` on that host.
    pub fn command(&self, host: &str, program: &str) -> Command {
        if self.is_here && host == "a" {
            return Command::new(program);
        }
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(host), program]);
        command
    }

    /// Connects from that host.
    pub fn connect(&self, host: &str, endpoint: &str) -> Raw {
        let namespace = File::open(format!("/run/netns/{}", self.namespace(host))).unwrap();
        let connected = scope(|threads| {
            let there = || {
                // For this thread only.
                setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
                Raw::connect(endpoint)
            };
            threads.spawn(there).join()
        });
        connected.unwrap()
    }

    /// Has one in a hundred packets lost, in both directions.
    pub fn lose_packets(&self) {
        for host in ["a", "b"] {
            let rule = "-A INPUT -i v+ -m statistic --mode random --probability 0.01 -j DROP";
            let run = self.command(host, "iptables").args(rule.split(' ')).output().unwrap();
            assert!(run.status.success(), "{run:?}");
        }
    }

    /// Returns the number of packets lost so far.
    pub fn lost_packets(&self) -> u64 {
        let list = |host| self.command(host, "iptables").args(["-L", "INPUT", "-vx"]).output();
        let lost = ["a", "b"].map(|host| {
            let list = String::from_utf8(list(host).unwrap().stdout).unwrap();
            let rule = list.lines().find(|line| line.contains("DROP")).unwrap().to_string();
            rule.split_whitespace().next().unwrap().parse::<u64>().unwrap()
        });
        lost.iter().sum()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for host in self.hosts() {
            let _ = Command::new("ip").args(["netns", "del", &self.namespace(host)]).output();
        }
    }
}
