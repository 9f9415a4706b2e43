//! Who is let in, and what the log is told of the others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::key::{ClientKeys, KeyPair, PublicKey};
use super::key_file::read_pair;
use super::list::{Limits, List, Refusal};
use super::servers::Servers;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::frame::Frame;

/// The ZAP domain (ZeroMQ RFC 27) of the endpoints where clients connect, and of those where workers
/// do.
pub(crate) const CLIENTS: &str = "clients";
pub(crate) const WORKERS: &str = "workers";

/// Time for which a key that is refused again from the same address is not told of again.
const QUIET: Duration = Duration::from_secs(60);

/// Maximum number of refusals that are remembered for that.
const MAX_REMEMBERED: usize = 1000;

/// Where the keys of a service are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Files {
    pub key: Option<PathBuf>,
    pub clients: Option<PathBuf>,
    pub workers: Option<PathBuf>,
    pub servers: Option<PathBuf>,
}

/// The keys of a service, and who is let in.
#[derive(Debug)]
pub(crate) struct Access {
    pub keys: KeyPair,
    clients: Option<Guard>,
    workers: Option<Guard>,
    servers: Servers,
    /// When who was refused was last told of.
    told: Mutex<HashMap<(PublicKey, Option<IpAddr>), SystemTime>>,
}

/// A list and its file.
#[derive(Debug)]
struct Guard {
    path: PathBuf,
    list: List,
}

/// What becomes of a client that has shown its key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    LetIn(Arc<str>),
    /// It is refused, and that is for the log.
    Refused(String),
    /// It is refused, and the log was told of it a little before.
    RefusedAgain,
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
        let guard = |path: &Option<PathBuf>| path.clone().map(Guard::open).transpose();
        Ok(Some(Access {
            keys: read_pair(key)?,
            clients: guard(&files.clients)?,
            workers: guard(&files.workers)?,
            servers: files
                .servers
                .as_ref()
                .map_or(Ok(Servers::default()), |path| Servers::read(path, upstreams))?,
            told: Mutex::default(),
        }))
    }

    /// Returns the keys to connect to the service at that endpoint with; `None` if it needs none.
    pub fn keys_for(&self, endpoint: &Endpoint) -> Option<ClientKeys> {
        Some(ClientKeys::of(&self.keys, self.servers.key_of(endpoint)?))
    }

    /// Returns who has sent a message, from its first frame; `None` where keys are not wanted.
    pub fn sender_of(&self, frame: &mut Frame) -> Option<Listed> {
        // Over ipc nobody was asked who that is, and a client may say of itself what it likes.
        frame.property("Peer-Address")?.parse::<IpAddr>().ok()?;
        // What the ZAP handler has said, which a client's own word does not replace.
        let name = frame.property("User-Id")?;
        self.clients.as_ref()?.list.by_name(name)
    }

    /// Returns true if a listed client may ask only so often.
    pub fn has_rates(&self) -> bool {
        self.clients.as_ref().is_some_and(|clients| clients.list.has_rates())
    }

    /// Decides on who has shown that key.
    pub fn decide(
        &self,
        domain: &[u8],
        key: &PublicKey,
        address: Option<IpAddr>,
        now: SystemTime,
    ) -> Decision {
        let guards = [(CLIENTS, &self.clients), (WORKERS, &self.workers)];
        let guard = guards.into_iter().find(|(name, _)| name.as_bytes() == domain);
        let Some(guard) = guard.and_then(|(_, guard)| guard.as_ref()) else {
            return Decision::Refused("refused a peer: no list says who may connect there".into());
        };
        let (refusal, entry) = match guard.list.find(key, address, now) {
            Ok(entry) => return Decision::LetIn(Arc::clone(&entry.name)),
            Err(refusal) => refusal,
        };
        if self.was_told(*key, address, now) {
            return Decision::RefusedAgain;
        }
        let who = entry.map_or("a client", |entry| &entry.name);
        let from = address.map_or("elsewhere".into(), |address| address.to_canonical().to_string());
        let file = guard.path.display();
        Decision::Refused(match refusal {
            Refusal::Unknown => format!(
                "refused {who} from {from}: its key is not listed; to let it in, add to {file} the \
                 line: NAME {key}"
            ),
            Refusal::Elsewhere => {
                format!("refused {who} from {from}: {file} says that it may not connect from there")
            }
            Refusal::Expired => {
                format!("refused {who} from {from}: by {file} its key is no longer valid")
            }
        })
    }

    /// Returns true if the log was told of them within [`QUIET`], and remembers them if not.
    fn was_told(&self, key: PublicKey, address: Option<IpAddr>, now: SystemTime) -> bool {
        let is_recent = |time: &SystemTime| {
            // A clock that was set back is no reason to be silent for long.
            now.duration_since(*time).is_ok_and(|passed| passed < QUIET)
        };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(&(key, address)).is_some_and(is_recent) {
            return true;
        }
        if told.len() >= MAX_REMEMBERED {
            told.retain(|_, time| is_recent(time));
        }
        // Of more than that nothing is remembered: the log leaves lines out that repeat.
        if told.len() < MAX_REMEMBERED {
            told.insert((key, address), now);
        }
        false
    }
}

impl Guard {
    fn open(path: PathBuf) -> Result<Guard, Error> {
        let list = List::read(&path)?;
        Ok(Guard { path, list })
    }
}
