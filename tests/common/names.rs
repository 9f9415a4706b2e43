//! A name server of a test's own, in a network that nothing else is in.

use std::env;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::spawn;

use simple_dns::rdata::{A, AAAA, CNAME, RData, SRV};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};

use super::{Folder, skipped};

/// Set where a test runs in a network of its own.
const INSIDE: &str = "REPD_TEST_NETWORK";

/// Runs the test of that name again, in a network and with /etc and /run of its own, and returns `None`; there
/// returns the name server, which answers at 127.0.0.1. If there are no namespaces to be had, reports
/// that the test is skipped.
pub fn name_server(test: &str) -> Option<NameServer> {
    if env::var_os(INSIDE).is_some() {
        return Some(NameServer::start());
    }
    let etc = Folder::new(test);
    std::fs::write(etc.file("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
    std::fs::write(etc.file("nsswitch.conf"), "hosts: files dns\n").unwrap();
    std::fs::write(etc.file("hosts"), "").unwrap();
    let run = |program: &[&str]| {
        let mut command = Command::new("unshare");
        let addresses =
            "for i in 2 3 4; do ip address add fd00::$i/128 dev lo nodad; done 2>/dev/null";
        let shell = format!(
            "ip link set lo up && {{ {addresses}; mount --bind \"$0\" /etc && \
             mount -t tmpfs tmpfs /run && exec \"$@\"; }}"
        );
        command.args(["--map-root-user", "--mount", "--net", "sh", "-c", &shell]).arg(&etc.0);
        command.args(program).env(INSIDE, &etc.0);
        command
    };
    if !run(&["true"]).output().is_ok_and(|run| run.status.success()) {
        assert!(env::var_os("CI").is_none(), "install iproute2, and allow user namespaces");
        skipped("no network namespace can be had, or there is no iproute2");
        return None;
    }
    let own = env::current_exe().unwrap();
    let again = [own.to_str().unwrap(), test, "--exact", "--nocapture"];
    assert!(run(&again).status().unwrap().success(), "{test} has failed in its network");
    None
}

/// The records of a name server, and how it behaves.
#[derive(Default)]
struct Zone {
    records: Vec<(String, u32, RData<'static>)>,
    /// The name about which nothing is answered.
    secret: Option<String>,
    /// UDP answers are cut.
    cuts: bool,
    /// Answers that are wrong come before the right ones.
    lies: bool,
    /// How often it was asked over UDP and TCP.
    asked: (usize, usize),
}

/// A name server at 127.0.0.1.
pub struct NameServer(Arc<Mutex<Zone>>);

impl NameServer {
    fn start() -> NameServer {
        let zone = Arc::new(Mutex::new(Zone::default()));
        let (udp, tcp) = ((Ipv4Addr::LOCALHOST, 53), (Ipv4Addr::LOCALHOST, 53));
        let (udp, tcp) = (UdpSocket::bind(udp).unwrap(), TcpListener::bind(tcp).unwrap());
        let (over_udp, over_tcp) = (zone.clone(), zone.clone());
        spawn(move || {
            let mut query = [0; 512];
            while let Ok((length, from)) = udp.recv_from(&mut query) {
                for reply in over_udp.lock().unwrap().answer(&query[..length], true) {
                    let _ = udp.send_to(&reply, from);
                }
            }
        });
        spawn(move || {
            for mut stream in tcp.incoming().map_while(Result::ok) {
                let mut length = [0; 2];
                stream.read_exact(&mut length).unwrap();
                let mut query = vec![0; u16::from_be_bytes(length).into()];
                stream.read_exact(&mut query).unwrap();
                let reply = over_tcp.lock().unwrap().answer(&query, false).pop().unwrap();
                let _ = stream.write_all(&(reply.len() as u16).to_be_bytes());
                let _ = stream.write_all(&reply);
            }
        });
        NameServer(zone)
    }

    /// Changes what /etc/resolv.conf says.
    pub fn set_resolv_conf(&self, text: &str) {
        std::fs::write("/etc/resolv.conf", text).unwrap();
    }

    /// Has a name have these addresses from now on.
    pub fn set_addresses(&self, name: &str, addresses: &[IpAddr]) {
        let data = addresses.iter().map(|address| match address {
            IpAddr::V4(ip) => RData::A(A::from(*ip)),
            IpAddr::V6(ip) => RData::AAAA(AAAA::from(*ip)),
        });
        self.set(name, 0, data.collect());
    }

    /// Has a name have these SRV records from now on: priority, weight, port, target.
    pub fn set_srv(&self, name: &str, ttl: u32, records: &[(u16, u16, u16, &'static str)]) {
        let data = records.iter().map(|&(priority, weight, port, target)| {
            RData::SRV(SRV { priority, weight, port, target: Name::new(target).unwrap() })
        });
        self.set(name, ttl, data.collect());
    }

    /// Has a name stand for another one from now on.
    pub fn set_alias(&self, name: &str, target: &'static str) {
        self.set(name, 60, vec![RData::CNAME(CNAME(Name::new(target).unwrap()))]);
    }

    fn set(&self, name: &str, ttl: u32, data: Vec<RData<'static>>) {
        let records = &mut self.0.lock().unwrap().records;
        records.retain(|(it, ..)| it != name);
        records.extend(data.into_iter().map(|data| (name.to_string(), ttl, data)));
    }

    /// Has it answer nothing at all about that name.
    pub fn keep_secret(&self, name: &str) {
        self.0.lock().unwrap().secret = Some(name.into());
    }

    /// Has it cut what it answers over UDP from now on.
    pub fn cut(&self) {
        self.0.lock().unwrap().cuts = true;
    }

    /// Has it send wrong answers before the right ones from now on, of SRV records.
    pub fn lie(&self) {
        self.0.lock().unwrap().lies = true;
    }

    /// Returns how often SRV records were asked for over UDP, and over TCP.
    pub fn asked(&self) -> (usize, usize) {
        self.0.lock().unwrap().asked
    }
}

impl Zone {
    /// Returns what it sends for a query.
    fn answer(&mut self, query: &[u8], is_udp: bool) -> Vec<Vec<u8>> {
        let mut packet = Packet::parse(query).unwrap().into_reply();
        packet.set_flags(PacketFlag::RECURSION_DESIRED | PacketFlag::RECURSION_AVAILABLE);
        *packet.opt_mut() = None;
        let question = packet.questions[0].clone();
        if question.qtype == QTYPE::TYPE(TYPE::SRV) {
            *(if is_udp { &mut self.asked.0 } else { &mut self.asked.1 }) += 1;
            if is_udp && self.cuts {
                packet.set_flags(PacketFlag::TRUNCATION);
                return vec![packet.build_bytes_vec().unwrap()];
            }
        }
        let mut owner = question.qname.to_string();
        if self.secret.as_ref() == Some(&owner) {
            return Vec::new();
        }
        if !self.records.iter().any(|(name, ..)| *name == owner) {
            *packet.rcode_mut() = RCODE::NameError;
        }
        for (name, ttl, data) in &self.records {
            let is_alias = matches!(data, RData::CNAME(_));
            let is_asked = is_alias || question.qtype == QTYPE::TYPE(data.type_code());
            if *name == owner && is_asked {
                let name = Name::new(name).unwrap().into_owned();
                packet.answers.push(ResourceRecord::new(name, CLASS::IN, *ttl, data.clone()));
            }
            // Records are kept in the order in which they are to be followed.
            if let (RData::CNAME(target), true) = (data, *name == owner) {
                owner = target.0.to_string();
            }
        }
        let right = packet.build_bytes_vec_compressed().unwrap();
        // The system's own look-up believes some of them.
        if !self.lies || question.qtype != QTYPE::TYPE(TYPE::SRV) {
            return vec![right];
        }
        let (mut id, mut question, mut count) = (right.clone(), right.clone(), right.clone());
        (id[0], question[13], count[7]) = (!id[0], !question[13], 255);
        vec![Vec::new(), b"garbage".into(), id, question, count, query.into(), right]
    }
}
