//! The list of servers: the public key of each that this service connects to.

use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

use super::key::PublicKey;
use super::key_file::{at_line, read_list};
use crate::endpoint::Endpoint;
use crate::error::Error;

#[cfg(any(test, fuzzing))]
pub mod fuzz;

/// The list of servers as it was read last.
#[derive(Debug)]
pub(crate) struct KnownServers {
    path: PathBuf,
    /// Of these, each that is reached over TCP must be in the list.
    upstreams: Vec<Endpoint>,
    servers: RwLock<Servers>,
}

impl KnownServers {
    /// Reads the list.
    ///
    /// # Errors
    /// Those of [`KnownServers::read`].
    pub fn open(path: PathBuf, upstreams: &[Endpoint]) -> Result<KnownServers, Error> {
        let (upstreams, servers) = (upstreams.to_vec(), RwLock::default());
        let known = KnownServers { path, upstreams, servers };
        known.replace(known.read()?);
        Ok(known)
    }

    /// Reads the list again, and changes nothing yet.
    ///
    /// # Errors
    /// A file that cannot be read; the first line that is wrong; or an upstream that has none.
    pub fn read(&self) -> Result<Servers, Error> {
        let KnownServers { path, upstreams, .. } = self;
        let text = read_list(path)?;
        let servers = Servers::parse(&text).map_err(|(line, what)| at_line(path, line, &what))?;
        let mut over_tcp = upstreams.iter().filter(|upstream| upstream.is_tcp());
        match over_tcp.find(|upstream| servers.key_of(upstream).is_none()) {
            None => Ok(servers),
            Some(upstream) => Err(Error::config(format!("cannot use the upstream {upstream}"))
                .with_cause(format!("{} has no key of it", path.display()))
                .with_remedy(format!("add the line: {upstream} KEY"))),
        }
    }

    /// Has another list say from now on. Returns the number of its keys, and how many are new and how
    /// many are gone, `2 (+1 -1)`.
    pub fn replace(&self, servers: Servers) -> String {
        let mut known = self.servers.write().unwrap_or_else(PoisonError::into_inner);
        let missing = |from: &Servers, of: &Servers| {
            of.0.iter().filter(|server| !from.0.contains(server)).count()
        };
        let (new, gone) = (missing(&known, &servers), missing(&servers, &known));
        *known = servers;
        format!("{} (+{new} -{gone})", known.0.len())
    }

    /// Returns the public key of the service at that endpoint.
    pub fn key_of(&self, endpoint: &Endpoint) -> Option<PublicKey> {
        self.servers.read().unwrap_or_else(PoisonError::into_inner).key_of(endpoint)
    }
}

/// The public keys of services, by the endpoints where they are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Servers(Vec<(Endpoint, PublicKey)>);

impl Servers {
    fn parse(text: &str) -> Result<Servers, (usize, String)> {
        let mut servers = Servers::default();
        for (number, line) in (1..).zip(text.lines()) {
            let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
            let Some(endpoint) = words.next().filter(|word| !word.starts_with('#')) else {
                continue;
            };
            let (endpoint, key) = parse_line(endpoint, words).map_err(|what| (number, what))?;
            if servers.key_of(&endpoint).is_some() {
                return Err((number, format!("{endpoint} has a key already: give one")));
            }
            servers.0.push((endpoint, key));
        }
        Ok(servers)
    }

    fn key_of(&self, endpoint: &Endpoint) -> Option<PublicKey> {
        self.0.iter().find(|(it, _)| it == endpoint).map(|(_, key)| *key)
    }
}

fn parse_line<'a>(
    endpoint: &str,
    mut words: impl Iterator<Item = &'a str>,
) -> Result<(Endpoint, PublicKey), String> {
    let endpoint: Endpoint = endpoint.parse().map_err(|error| format!("{error}"))?;
    if !endpoint.is_tcp() {
        return Err(format!("{endpoint} has no key: only a tcp endpoint has one"));
    }
    let key = words.next().ok_or("a key is missing: give ENDPOINT KEY")?;
    let key = key.parse().map_err(|error| format!("the key of {endpoint} is none: {error}"))?;
    match words.next() {
        Some(word) if !word.starts_with('#') => {
            Err(format!("what follows the key of {endpoint} is too much: give ENDPOINT KEY"))
        }
        _ => Ok((endpoint, key)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID";

    #[test]
    fn each_endpoint_has_one_key() {
        let text = format!("# all\n\ntcp://a:1 {KEY} # the first\n\ttcp://10.0.0.1:2\t{KEY}\r\n");
        let servers = Servers::parse(&text).unwrap();
        for endpoint in ["tcp://a:1", "tcp://10.0.0.1:2"] {
            let key = servers.key_of(&endpoint.parse().unwrap());
            assert_eq!(key, Some(KEY.parse().unwrap()));
        }
        assert_eq!(servers.key_of(&"tcp://a:2".parse().unwrap()), None);
        for (line, why) in [
            ("tcp://a:1", "a key is missing"),
            ("tcp://b:1 key", "the key of tcp://b:1 is none"),
            ("b:1 KEY", "give tcp://HOST:PORT"),
            ("ipc:///run/repd KEY", "only a tcp endpoint"),
            ("tcp://a:1 KEY", "has a key already"),
            ("tcp://b:1 KEY KEY", "is too much"),
        ] {
            let line = line.replace("KEY", KEY);
            let (number, what) = Servers::parse(&format!("{text}{line}")).unwrap_err();
            assert!(number == 5 && what.contains(why), "{line}: {number}: {what}");
        }
    }
}
