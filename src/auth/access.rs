//! The keys of a service, and who is let in where.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::guard::{Decision, Guard};
use super::identity::{Identity, parse_address};
use super::key::{ClientKeys, KeyPair, PublicKey};
use super::key_file::read_pair;
use super::list::{Limits, List};
use super::servers::KnownServers;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::frame::Frame;
use crate::socket::{ServerKeys, UserCheck};

/// The ZAP domain (ZeroMQ RFC 27) of the endpoints where clients connect, and of those where workers
/// do.
pub(crate) const CLIENTS: &str = "clients";
pub(crate) const WORKERS: &str = "workers";

/// Where the keys of a service are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Files {
    pub key: Option<PathBuf>,
    pub clients: Option<PathBuf>,
    pub workers: Option<PathBuf>,
    pub servers: Option<PathBuf>,
}

impl Files {
    /// Returns true if there is a list, which can be read again.
    pub fn has_lists(&self) -> bool {
        self.clients.is_some() || self.workers.is_some() || self.servers.is_some()
    }
}

/// The keys of a service, and who is let in.
#[derive(Debug)]
pub(crate) struct Access {
    pub keys: KeyPair,
    clients: Option<Arc<Guard>>,
    workers: Option<Arc<Guard>>,
    servers: Option<KnownServers>,
    /// Number of times that the lists were read again, and that they could not be.
    reloads: [AtomicU64; 2],
}

/// A client whose key is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub name: Arc<str>,
    pub limits: Limits,
}

impl Access {
    /// Reads the key and the lists; returns `None` if there is no key.
    ///
    /// # Errors
    /// A file that cannot be read or is wrong, or one of `upstreams` whose key is not known.
    pub fn open(files: &Files, upstreams: &[Endpoint]) -> Result<Option<Access>, Error> {
        let Some(key) = &files.key else { return Ok(None) };
        let guard = |path: &Option<PathBuf>, whom| {
            path.clone().map(|path| Guard::open(path, whom).map(Arc::new)).transpose()
        };
        Ok(Some(Access {
            keys: read_pair(key)?,
            clients: guard(&files.clients, "a client")?,
            workers: guard(&files.workers, "a worker")?,
            servers: files
                .servers
                .clone()
                .map(|path| KnownServers::open(path, upstreams))
                .transpose()?,
            reloads: Default::default(),
        }))
    }

    /// Reads the lists again. Returns what has become of them.
    ///
    /// # Errors
    /// One that cannot be read or is wrong: then all stay as they were.
    pub fn reload(&self) -> Result<String, Error> {
        let told = self.read_again();
        self.reloads[usize::from(told.is_err())].fetch_add(1, Ordering::Relaxed);
        told
    }

    /// Returns how often the lists were read again, and how often they could not be.
    pub fn reloads(&self) -> [u64; 2] {
        [&self.reloads[0], &self.reloads[1]].map(|count| count.load(Ordering::Relaxed))
    }

    fn read_again(&self) -> Result<String, Error> {
        let mut read = Vec::new();
        for (name, guard) in [(CLIENTS, &self.clients), (WORKERS, &self.workers)] {
            let Some(guard) = guard else { continue };
            read.push((name, guard, List::read(guard.path())?));
        }
        let servers = match &self.servers {
            Some(known) => Some((known, known.read()?)),
            None => None,
        };
        let told = read.into_iter().map(|(name, guard, list)| {
            let text = format!("{name}: {}", list.compared_with(&guard.list()));
            guard.replace(list);
            text
        });
        let servers = servers.map(|(known, list)| format!("servers: {}", known.replace(list)));
        Ok(told.chain(servers).collect::<Vec<_>>().join(", "))
    }

    /// Returns when the next key is no longer valid, of those that are.
    pub fn next_expiry(&self, now: SystemTime) -> Option<SystemTime> {
        let guards = [&self.clients, &self.workers].into_iter().flatten();
        guards.filter_map(|guard| guard.list().next_expiry(now)).min()
    }

    /// Returns the keys to connect to the service at that endpoint with; `None` if it needs none.
    pub fn keys_for(&self, endpoint: &Endpoint) -> Option<ClientKeys> {
        Some(ClientKeys::of(&self.keys, self.servers.as_ref()?.key_of(endpoint)?))
    }

    /// Returns what a socket needs to let in whom the list of that domain says.
    pub fn server_keys(&self, domain: &'static str) -> ServerKeys<'_> {
        let check = self.guard(domain).map(|guard| {
            let check: Box<dyn UserCheck> = Box::new(Arc::clone(guard));
            Arc::new(check)
        });
        ServerKeys { secret: self.keys.secret.as_bytes(), domain, check }
    }

    fn guard(&self, domain: &str) -> Option<&Arc<Guard>> {
        match domain {
            CLIENTS => self.clients.as_ref(),
            WORKERS => self.workers.as_ref(),
            _ => None,
        }
    }

    /// Returns who has sent a message, from its first frame; `None` where keys are not wanted.
    pub fn sender_of(&self, frame: &mut Frame) -> Option<Identity> {
        // Over ipc nobody was asked who that is, and a client may say of itself what it likes.
        parse_address(frame.property("Peer-Address")?)?;
        // What the ZAP handler has said, which a client's own word does not replace.
        frame.property("User-Id")?.parse().ok()
    }

    /// Returns the client of that name, if it is listed.
    pub fn by_name(&self, name: &str) -> Option<Listed> {
        self.clients.as_ref()?.list().by_name(name)
    }

    /// Returns true if a peer that was let in would be let in now. Whoever has no such User-Id was let
    /// in otherwise. `domain` is where it is connected.
    pub fn still_lets_in(&self, domain: &str, user_id: &str, now: SystemTime) -> bool {
        match (self.guard(domain), user_id.parse()) {
            (Some(guard), Ok(identity)) => guard.still_lets_in(&identity, now),
            _ => user_id.is_empty(),
        }
    }

    /// Returns how many clients and workers were refused that have shown a key, by why.
    pub fn refused(&self) -> Vec<(&'static str, u64)> {
        let mut counts = Vec::new();
        for guard in [&self.clients, &self.workers].into_iter().flatten() {
            for (reason, count) in guard.refused() {
                match counts.iter_mut().find(|(it, _)| *it == reason) {
                    Some((_, all)) => *all += count,
                    None => counts.push((reason, count)),
                }
            }
        }
        counts
    }

    /// Returns true if a listed client may ask only so often.
    pub fn has_rates(&self) -> bool {
        self.clients.as_ref().is_some_and(|clients| clients.list().has_rates())
    }

    /// Decides on who has shown that key.
    pub fn decide(
        &self,
        domain: &[u8],
        key: &PublicKey,
        address: Option<IpAddr>,
        now: SystemTime,
    ) -> Decision {
        let guard = str::from_utf8(domain).ok().and_then(|domain| self.guard(domain));
        let nobody = "refused a peer: no list says who may connect there";
        guard.map_or(Decision::Refused(nobody.into()), |guard| guard.decide(key, address, now))
    }
}
