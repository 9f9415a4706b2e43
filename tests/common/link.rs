//! A network of two hosts, with a link that can be cut.

use std::fs::File;
use std::process::{Command, Stdio};
use std::thread::scope;

use nix::sched::{CloneFlags, setns};
use nix::unistd::geteuid;

use super::raw::Raw;
use super::{Process, REPD, skipped};

/// Two network namespaces, "a" and "b", with a link between them; removed when dropped.
pub struct Link(String);

impl Link {
    /// Returns `None`, and reports that the test is skipped, without root, iproute2 and iptables.
    /// In CI it fails then.
    pub fn new(name: &str) -> Option<Link> {
        let link = Link(format!("repd-{name}-{}", std::process::id()));
        let has_iptables = || Command::new("iptables").arg("--version").output().is_ok();
        let add = |side| Command::new("ip").args(["netns", "add", &link.namespace(side)]).output();
        let added = |side| add(side).is_ok_and(|added| added.status.success());
        if !(geteuid().is_root() && has_iptables() && added("a") && added("b")) {
            assert!(std::env::var_os("CI").is_none(), "be root, and install iproute2 and iptables");
            skipped("it takes root, iproute2 and iptables, and network namespaces");
            return None;
        }
        let (a, b) = (link.namespace("a"), link.namespace("b"));
        link.ip(&format!("link add v netns {a} type veth peer name v netns {b}"));
        for (side, address) in [("a", "10.77.0.1/24"), ("b", "10.77.0.2/24")] {
            let namespace = link.namespace(side);
            link.ip(&format!("-n {namespace} address add {address} dev v"));
            link.ip(&format!("-n {namespace} link set lo up"));
            link.ip(&format!("-n {namespace} link set v up"));
        }
        Some(link)
    }

    fn namespace(&self, side: &str) -> String {
        format!("{}-{side}", self.0)
    }

    fn ip(&self, arguments: &str) {
        let run = Command::new("ip").args(arguments.split(' ')).output().unwrap();
        assert!(run.status.success(), "ip {arguments}: {run:?}");
    }

    /// Sets the link "up" or "down".
    pub fn set(&self, state: &str) {
        self.ip(&format!("-n {} link set v {state}", self.namespace("a")));
    }

    /// Starts `program` as a service on that side.
    pub fn serve(&self, side: &str, program: &str, options: &str) -> Process {
        Process::run(self.command(side, program).arg("serve").args(options.split(' ')))
    }

    /// Returns the command that runs `repd` with these arguments on side "a".
    pub fn client(&self, arguments: &str) -> Command {
        let mut command = self.command("a", REPD);
        command.args(arguments.split(' ')).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Returns the command that runs `program` on that side.
    pub fn command(&self, side: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(side), program]);
        command
    }

    /// Connects from that side.
    pub fn connect(&self, side: &str, endpoint: &str) -> Raw {
        let namespace = File::open(format!("/run/netns/{}", self.namespace(side))).unwrap();
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
        for side in ["a", "b"] {
            let rule = "-A INPUT -i v -m statistic --mode random --probability 0.01 -j DROP";
            let run = self.command(side, "iptables").args(rule.split(' ')).output().unwrap();
            assert!(run.status.success(), "{run:?}");
        }
    }

    /// Returns the number of packets lost so far.
    pub fn lost_packets(&self) -> u64 {
        let list = |side| self.command(side, "iptables").args(["-L", "INPUT", "-vx"]).output();
        let lost = ["a", "b"].map(|side| {
            let list = String::from_utf8(list(side).unwrap().stdout).unwrap();
            let rule = list.lines().find(|line| line.contains("DROP")).unwrap().to_string();
            rule.split_whitespace().next().unwrap().parse::<u64>().unwrap()
        });
        lost.iter().sum()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for side in ["a", "b"] {
            let _ = Command::new("ip").args(["netns", "del", &self.namespace(side)]).output();
        }
    }
}
