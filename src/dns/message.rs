//! Messages of DNS (RFC 1035): the question for SRV records (RFC 2782), and what is answered, which
//! may be anything.

const TYPE_CNAME: u16 = 5;
const TYPE_SRV: u16 = 33;
const CLASS_IN: u16 = 1;

/// Flags of the header: it is a reply; it is cut; its recursion is wanted; what kind of a question it
/// is, of which 0 is the ordinary one.
const REPLY: u16 = 1 << 15;
const TRUNCATED: u16 = 1 << 9;
const RECURSION: u16 = 1 << 8;
const OPCODE: u16 = 0b1111 << 11;

/// Codes of a reply.
const NO_ERROR: u16 = 0;
const NO_SUCH_NAME: u16 = 3;

/// Maximum length of a name in bytes, with a length in front of each label and a zero at the end, and
/// of a label.
const MAX_NAME: usize = 255;
const MAX_LABEL: usize = 63;

/// Maximum number of names that stand for another, one after the other.
const MAX_ALIASES: usize = 8;

/// Maximum number of records of a reply that are used.
const MAX_RECORDS: usize = 64;

/// A name as it is sent, in small letters.
type Name = Vec<u8>;

/// The question for the SRV records of a name.
pub(super) struct Query {
    id: u16,
    name: Name,
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
    /// The server cannot or does not want to say; its code.
    Refused(u16),
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
        let mut wire = Vec::new();
        for label in name.split('.').filter(|label| !label.is_empty()) {
            wire.push(label.len() as u8);
            wire.extend(label.to_ascii_lowercase().bytes());
        }
        wire.push(0);
        let header = [id, RECURSION, 1, 0, 0, 0].map(u16::to_be_bytes).concat();
        let kind = [TYPE_SRV, CLASS_IN].map(u16::to_be_bytes).concat();
        Query { id, bytes: [&header[..], &wire, &kind].concat(), name: wire }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns what a message answers; `None` if it is no answer to this.
    pub fn read(&self, message: &[u8]) -> Option<Reply> {
        let mut reader = Reader { message, at: 0 };
        let mut header = [0; 6];
        for field in &mut header {
            *field = reader.u16()?;
        }
        let [id, flags, questions, answers, ..] = header;
        let is_reply = flags & (REPLY | OPCODE) == REPLY;
        let asked = (reader.name()?, reader.u16()?, reader.u16()?);
        let is_ours = id == self.id && is_reply && questions == 1;
        if !is_ours || asked != (self.name.clone(), TYPE_SRV, CLASS_IN) {
            return None;
        }
        if flags & TRUNCATED != 0 {
            return Some(Reply::Truncated);
        }
        match flags & 0b1111 {
            NO_ERROR => (),
            NO_SUCH_NAME => return Some(Reply::None),
            code => return Some(Reply::Refused(code)),
        }
        let records: Option<Vec<Record>> = (0..answers).map(|_| reader.record()).collect();
        Some(self.choose(records?.into_iter().filter(|it| it.class == CLASS_IN).collect()))
    }

    /// Returns the records of the name, or of that for which it stands.
    fn choose(&self, records: Vec<Record>) -> Reply {
        let (mut owner, mut ttl) = (&self.name, u32::MAX);
        for _ in 0..MAX_ALIASES {
            let alias = records.iter().filter(|record| record.name == *owner);
            let Some((record, target)) = alias.filter_map(Record::alias).next() else { break };
            (owner, ttl) = (target, ttl.min(record.ttl));
        }
        let own =
            || records.iter().filter(|it| it.name == *owner && matches!(it.data, Data::Srv(_)));
        let Some(least) = own().map(|record| record.ttl).min() else { return Reply::None };
        let places = own().filter_map(|record| match &record.data {
            Data::Srv(Some(srv)) => Some(srv.clone()),
            _ => None,
        });
        let mut records: Vec<Srv> = Vec::new();
        for srv in places {
            let place = records.partition_point(|other| *other < srv);
            if records.get(place) != Some(&srv) {
                records.insert(place, srv);
                records.truncate(MAX_RECORDS);
            }
        }
        Reply::Records(SrvSet { records, ttl: ttl.min(least) })
    }
}

struct Record {
    name: Name,
    class: u16,
    ttl: u32,
    data: Data,
}

enum Data {
    Alias(Name),
    /// `None` if it says that there is no such service, or cannot be used.
    Srv(Option<Srv>),
    Other,
}

impl Record {
    fn alias(&self) -> Option<(&Record, &Name)> {
        match &self.data {
            Data::Alias(target) => Some((self, target)),
            _ => None,
        }
    }
}

/// Reads a message from its start to its end, and no further.
struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn u16(&mut self) -> Option<u16> {
        let bytes = self.message.get(self.at..self.at + 2)?;
        self.at += 2;
        Some(u16::from_be_bytes(bytes.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from(self.u16()?) << 16 | u32::from(self.u16()?))
    }

    /// Reads a name, whose end may be elsewhere: always further to the front, so this ends.
    fn name(&mut self) -> Option<Name> {
        let (mut name, mut at, mut start, mut end) = (Vec::new(), self.at, self.at, None);
        loop {
            let length = usize::from(*self.message.get(at)?);
            match length {
                0 => break,
                1..=MAX_LABEL => {
                    let label = self.message.get(at..=at + length)?;
                    name.extend(label.to_ascii_lowercase());
                    at += label.len();
                }
                0b1100_0000.. => {
                    let low = usize::from(*self.message.get(at + 1)?);
                    end = end.or(Some(at + 2));
                    at = (length & MAX_LABEL) << 8 | low;
                    if at >= start {
                        return None;
                    }
                    start = at;
                }
                _ => return None,
            }
            if name.len() >= MAX_NAME {
                return None;
            }
        }
        name.push(0);
        self.at = end.unwrap_or(at + 1);
        Some(name)
    }

    fn record(&mut self) -> Option<Record> {
        let (name, kind, class) = (self.name()?, self.u16()?, self.u16()?);
        // A time that would be negative is none: RFC 2181, section 8.
        let ttl = Some(self.u32()?).filter(|ttl| *ttl <= i32::MAX as u32).unwrap_or_default();
        let end = usize::from(self.u16()?) + self.at;
        self.message.get(self.at..end)?;
        let data = match kind {
            TYPE_CNAME => Data::Alias(self.name()?),
            TYPE_SRV => {
                let (priority, weight, port) = (self.u16()?, self.u16()?, self.u16()?);
                let target = text(&self.name()?).filter(|_| port != 0);
                Data::Srv(target.map(|target| Srv { priority, weight, target, port }))
            }
            _ => Data::Other,
        };
        if matches!(data, Data::Other) {
            self.at = end;
        }
        (self.at == end).then_some(Record { name, class, ttl, data })
    }
}

/// Returns the name of a host as the system looks it up; `None` if it is the root, or no such name.
fn text(mut name: &[u8]) -> Option<String> {
    let mut text = String::new();
    while let Some((length, rest)) = name.split_first().filter(|(length, _)| **length > 0) {
        let (label, rest) = rest.split_at_checked(usize::from(*length))?;
        text.push_str(str::from_utf8(label).ok().filter(|label| !label.contains('.'))?);
        // With the last dot it is not searched for in other domains.
        text.push('.');
        name = rest;
    }
    is_name(&text).then_some(text)
}

#[cfg(test)]
mod tests;
