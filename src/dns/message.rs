//! Messages of DNS: the question for SRV records (RFC 2782), and what is answered, which may be
//! anything.

use simple_dns::rdata::RData;
use simple_dns::{
    CLASS, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, ResourceRecord, TYPE,
};

#[cfg(any(test, fuzzing))]
pub mod fuzz;

/// Maximum length of a name as it is sent, and of a label (RFC 1035, section 2.3.4).
const MAX_NAME: usize = 255;
const MAX_LABEL: usize = 63;

/// Maximum number of names that stand for another, one after the other.
const MAX_ALIASES: usize = 8;

/// Maximum number of records of a reply that are used.
const MAX_RECORDS: usize = 64;

/// The question for the SRV records of a name.
pub(super) struct Query {
    id: u16,
    name: String,
    bytes: Vec<u8>,
}

/// What a name server answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Records(SrvSet),
    /// There is no such name, or it has no such record.
    None,
    /// The answer is too long: it is to be asked for over TCP.
    Truncated,
    /// The server cannot or does not want to say.
    Refused(RCODE),
}

/// The SRV records of a name: none at all says that there is no such service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SrvSet {
    /// The most wanted first; at most 64.
    pub records: Vec<Srv>,
    /// For how long they hold, in seconds.
    pub ttl: u32,
}

/// One place of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Srv {
    /// It is used if none of a lower one can be.
    pub priority: u16,
    /// Its share among those of the same priority.
    pub weight: u16,
    pub target: String,
    pub port: u16,
}

/// Returns true if that can be asked for: labels of letters, digits, hyphens and underscores.
pub(crate) fn is_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| (1..=MAX_LABEL).contains(&label.len());
    text.len() <= MAX_NAME - 2 && text.split('.').all(is_label) && text.bytes().all(is_plain)
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)
}

impl Query {
    /// Makes the question for the records of a name that [`is_name`].
    pub fn new(name: &str, id: u16) -> Query {
        let mut packet = Packet::new_query(id);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        let asked = Name::new_unchecked(name);
        packet.questions.push(Question::new(asked, TYPE::SRV.into(), CLASS::IN.into(), false));
        // It is written to memory.
        let bytes = packet.build_bytes_vec().unwrap_or_default();
        Query { id, name: name.into(), bytes }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns what a message answers; `None` if it is no answer to this.
    pub fn read(&self, message: &[u8]) -> Option<Reply> {
        let packet = Packet::parse(message).ok()?;
        let name = Name::new_unchecked(&self.name);
        let is_reply = packet.has_flags(PacketFlag::RESPONSE)
            && packet.opcode() == OPCODE::StandardQuery
            && packet.id() == self.id;
        let [question] = &packet.questions[..] else { return None };
        let is_asked = question.qname == name
            && question.qtype == QTYPE::TYPE(TYPE::SRV)
            && question.qclass == QCLASS::CLASS(CLASS::IN);
        if !is_reply || !is_asked {
            return None;
        }
        if packet.has_flags(PacketFlag::TRUNCATION) {
            return Some(Reply::Truncated);
        }
        Some(match packet.rcode() {
            RCODE::NoError => choose(&name, &packet.answers),
            RCODE::NameError => Reply::None,
            code => Reply::Refused(code),
        })
    }
}

/// Returns the SRV records of a name, or of that for which it stands.
fn choose(name: &Name<'_>, answers: &[ResourceRecord<'_>]) -> Reply {
    let (mut owner, mut ttl) = (name, u32::MAX);
    for _ in 0..MAX_ALIASES {
        let alias = |record: &&ResourceRecord<'_>| matches!(record.rdata, RData::CNAME(_));
        let Some(record) = of(owner, answers).find(alias) else { break };
        let RData::CNAME(target) = &record.rdata else { break };
        (owner, ttl) = (&target.0, ttl.min(time_of(record)));
    }
    let mut records = Vec::new();
    let mut is_none = true;
    for record in of(owner, answers) {
        let RData::SRV(srv) = &record.rdata else { continue };
        (is_none, ttl) = (false, ttl.min(time_of(record)));
        // With the last dot it is not searched for in other domains. That of the root, which is no
        // name, says that there is no such service.
        let target = format!("{}.", srv.target).to_ascii_lowercase();
        if srv.port == 0 || !is_name(&target) {
            continue;
        }
        let srv = Srv { priority: srv.priority, weight: srv.weight, target, port: srv.port };
        let place = records.partition_point(|other| *other < srv);
        if records.get(place) != Some(&srv) {
            records.insert(place, srv);
            records.truncate(MAX_RECORDS);
        }
    }
    if is_none { Reply::None } else { Reply::Records(SrvSet { records, ttl }) }
}

/// Returns the records that a name has.
fn of<'a>(
    name: &'a Name<'_>,
    records: &'a [ResourceRecord<'a>],
) -> impl Iterator<Item = &'a ResourceRecord<'a>> {
    records.iter().filter(move |it| it.class == CLASS::IN && it.name == *name)
}

/// Returns for how long a record holds. A time that would be negative is none: RFC 2181, section 8.
fn time_of(record: &ResourceRecord<'_>) -> u32 {
    Some(record.ttl).filter(|ttl| *ttl <= i32::MAX as u32).unwrap_or_default()
}

#[cfg(test)]
mod tests;
