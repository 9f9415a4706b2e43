//! The list of clients: who may connect, and what each may do. One line is one key.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::net::IpAddr;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::access::Listed;
use super::key::PublicKey;
use super::key_file::{at_line, read_list};
use super::network::Network;
use crate::config::{CLIENT_OUTSTANDING_RANGE, CLIENT_RATE_RANGE, MAX_CLIENTS_RANGE};
use crate::error::Error;
use crate::text::{printable, shorten, utc};

#[cfg(any(test, fuzzing))]
pub mod fuzz;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Maximum number of bytes of a client's name.
const MAX_NAME: usize = 64;

/// Who may connect, by their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct List {
    entries: HashMap<PublicKey, Entry>,
    /// What each client may do, by its name.
    clients: HashMap<Arc<str>, Limits>,
}

/// A line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub name: Arc<str>,
    /// Where it may come from; from anywhere if there is nothing.
    from: Vec<Network>,
    /// When its key is no longer valid.
    until: Option<SystemTime>,
    limits: Limits,
}

/// What one client may do, all its connections together, in place of the service's own limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Maximum number of requests a second.
    pub rate: Option<u32>,
    /// Maximum number of requests outstanding.
    pub outstanding: Option<usize>,
    /// Maximum number of connections.
    pub connections: Option<usize>,
}

/// Why a key is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is not in the list.
    Unknown,
    /// Its client may not come from there.
    Elsewhere,
    /// Its time is over.
    Expired,
}

impl List {
    /// Reads a list.
    ///
    /// # Errors
    /// A file that cannot be read; or the first line that is wrong, and what to write instead.
    pub fn read(path: &Path) -> Result<List, Error> {
        let text = read_list(path)?;
        List::parse(&text).map_err(|(line, what)| at_line(path, line, &what))
    }

    /// Reads the text of a list; an error has the number of the line.
    fn parse(text: &str) -> Result<List, (usize, String)> {
        let mut list = List::default();
        let mut lines: HashMap<Arc<str>, (usize, Limits)> = HashMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let (key, entry) = match parse_line(line) {
                Ok(None) => continue,
                Ok(Some(parsed)) => parsed,
                Err(what) => return Err((number, what)),
            };
            let (first, limits) =
                *lines.entry(Arc::clone(&entry.name)).or_insert((number, entry.limits));
            if limits != entry.limits {
                let name = &entry.name;
                let what = format!(
                    "{name} has other limits in line {first}: give rate, outstanding and \
                     connections alike for all its keys"
                );
                return Err((number, what));
            }
            match list.entries.entry(key) {
                Place::Vacant(place) => _ = place.insert(entry),
                Place::Occupied(other) => {
                    let name = &other.get().name;
                    return Err((number, format!("{name} has this key already: give each once")));
                }
            }
        }
        list.clients = lines.into_iter().map(|(name, (_, limits))| (name, limits)).collect();
        Ok(list)
    }

    /// Returns the client of that name.
    pub fn by_name(&self, name: &str) -> Option<Listed> {
        let (name, limits) = self.clients.get_key_value(name)?;
        Some(Listed { name: Arc::clone(name), limits: *limits })
    }

    /// Returns true if a client may ask only so often.
    pub fn has_rates(&self) -> bool {
        self.clients.values().any(|limits| limits.rate.is_some())
    }

    /// Returns the entry of a key that may connect from that address now; the address is `None` on
    /// a transport without.
    pub fn find(
        &self,
        key: &PublicKey,
        address: Option<IpAddr>,
        now: SystemTime,
    ) -> Result<&Entry, (Refusal, Option<&Entry>)> {
        let entry = self.entries.get(key).ok_or((Refusal::Unknown, None))?;
        let is_there = |network: &Network| address.is_some_and(|address| network.has(address));
        if !entry.from.is_empty() && !entry.from.iter().any(is_there) {
            return Err((Refusal::Elsewhere, Some(entry)));
        }
        if entry.until.is_some_and(|until| until <= now) {
            return Err((Refusal::Expired, Some(entry)));
        }
        Ok(entry)
    }

    /// Returns the number of its keys, and how many are new and how many are gone since an older
    /// list, `12 (+1 -2)`; one that is another client's now is both.
    pub fn compared_with(&self, older: &List) -> String {
        let is_in = |list: &List, (key, entry): (&PublicKey, &Entry)| {
            list.entries.get(key).is_some_and(|it| it.name == entry.name)
        };
        let missing =
            |from: &List, of: &List| of.entries.iter().filter(|it| !is_in(from, *it)).count();
        format!("{} (+{} -{})", self.len(), missing(older, self), missing(self, older))
    }

    /// Returns when the next key is no longer valid, of those that are.
    pub fn next_expiry(&self, now: SystemTime) -> Option<SystemTime> {
        self.entries.values().filter_map(|entry| entry.until).filter(|until| *until > now).min()
    }

    /// Returns the number of keys.
    fn len(&self) -> usize {
        self.entries.len()
    }
}

/// Reads a line; `None` if it is empty or a comment.
fn parse_line(line: &str) -> Result<Option<(PublicKey, Entry)>, String> {
    let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
    let name = match words.next() {
        None => return Ok(None),
        Some(word) if word.starts_with('#') => return Ok(None),
        Some(name) => name,
    };
    // What follows a name is its key, also if that begins with a #.
    let key = words.next().ok_or("a key is missing: give NAME KEY")?;
    check_name(name)?;
    let key = key.parse().map_err(|error| {
        // It may be a secret that was pasted by mistake: it is not repeated.
        format!("the key of {name} is none: {error}")
    })?;
    let mut entry =
        Entry { name: name.into(), from: Vec::new(), until: None, limits: Limits::default() };
    for word in words.take_while(|word| !word.starts_with('#')) {
        parse_option(word, &mut entry)?;
    }
    Ok(Some((key, entry)))
}

/// Checks that a client may have that name.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    if name.parse::<PublicKey>().is_ok() {
        return Err("a name is missing: give NAME KEY".into());
    }
    if name.chars().all(|c| c == '.') {
        return Err(format!("{} is no name: give letters or digits", quoted(name)));
    }
    if name.len() > MAX_NAME || !name.chars().all(is_allowed) {
        return Err(format!(
            "{} is no name: give up to {MAX_NAME} letters, digits and -_.@",
            quoted(name)
        ));
    }
    Ok(())
}

fn parse_option(word: &str, entry: &mut Entry) -> Result<(), String> {
    let unknown = || {
        format!("{} is no option: give from, until, rate, outstanding or connections", quoted(word))
    };
    let (name, value) = word.split_once('=').ok_or_else(unknown)?;
    let limits = &mut entry.limits;
    let is_new = match name {
        "from" => {
            let is_new = entry.from.is_empty();
            let networks = value.split(',').map(parse_network).collect::<Result<Vec<_>, _>>()?;
            entry.from.extend(networks);
            is_new
        }
        "until" => entry.until.replace(parse_date(value)?).is_none(),
        "rate" => {
            let rate = number(word, value, &CLIENT_RATE_RANGE)?;
            limits.rate.replace(u32::try_from(rate).unwrap_or(u32::MAX)).is_none()
        }
        "outstanding" => {
            limits.outstanding.replace(number(word, value, &CLIENT_OUTSTANDING_RANGE)?).is_none()
        }
        "connections" => {
            limits.connections.replace(number(word, value, &MAX_CLIENTS_RANGE)?).is_none()
        }
        _ => return Err(unknown()),
    };
    is_new.then_some(()).ok_or_else(|| format!("{name}= is given twice: give it once"))
}

fn number(
    word: &str,
    value: &str,
    range: &std::ops::RangeInclusive<usize>,
) -> Result<usize, String> {
    let number = value.parse().ok().filter(|number| range.contains(number));
    // A sign is no digit.
    number.filter(|_| value.bytes().all(|digit| digit.is_ascii_digit())).ok_or_else(|| {
        let (least, most) = (range.start(), range.end());
        format!("{} is out of range: give a whole number from {least} to {most}", quoted(word))
    })
}

fn parse_network(text: &str) -> Result<Network, String> {
    text.parse().map_err(|error| {
        if !may_hold_key(text) {
            return error;
        }
        format!("{} is no network: give ADDRESS/BITS, or an address", quoted(text))
    })
}

/// Returns the end of a day in UTC.
fn parse_date(text: &str) -> Result<SystemTime, String> {
    let begin = days_since_1970(text).map(|days| SystemTime::UNIX_EPOCH + DAY * days);
    // A day that no month has became one of the next month.
    let is_it = |begin: &SystemTime| utc(*begin).split_once('T').is_some_and(|it| it.0 == text);
    begin.filter(is_it).map(|begin| begin + DAY).ok_or_else(|| {
        format!("{} is no date: give YEAR-MONTH-DAY, such as 2027-03-31", quoted(text))
    })
}

/// Returns the number of a day, as "days_from_civil" of Howard Hinnant's "chrono-Compatible Low-Level
/// Date Algorithms" has it: in years that begin in March, a leap day is the last. humantime reads
/// nothing after 2038 on processors of 32 bits.
fn days_since_1970(text: &str) -> Option<u32> {
    let number = |digits: Range<usize>| text.get(digits)?.parse::<u32>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let year = year.checked_sub(u32::from(month < 3))?;
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day;
    (365 * year + year / 4 + year / 400 + of_year).checked_sub(year / 100 + 719_469)
}

/// Returns true if a key may be somewhere in a word: so many characters in a row are of Z85, of which
/// hexadecimal digits are some.
fn may_hold_key(word: &str) -> bool {
    let is_z85 = |c: char| c.is_ascii_alphanumeric() || ".-:+=^!/*?&<>()[]{}@%$#".contains(c);
    word.split(|c| !is_z85(c)).any(|row| row.len() >= 40)
}

/// Returns a word of a list in quotes, escaped and shortened. One that may be a secret key, pasted by
/// mistake, is not repeated.
fn quoted(word: &str) -> String {
    let mut text = printable(word.as_bytes());
    shorten(&mut text, 80);
    // The dots that it ends with may make a key of what was none.
    if may_hold_key(word) || may_hold_key(&text) {
        return "a word that looks like a key".into();
    }
    format!("\"{text}\"")
}

#[cfg(test)]
mod tests;
