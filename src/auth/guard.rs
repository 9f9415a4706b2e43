//! A list, who is let in by it, and who is connected.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::SystemTime;

use log::warn;

use super::identity::Identity;
use super::key::PublicKey;
use super::list::{List, Refusal};
use super::told::Told;
use crate::error::Error;
use crate::logging::Event;
use crate::socket::UserCheck;

/// Lets in who is listed. libzmq's threads, the ZAP handler's and the service's own ask it.
#[derive(Debug)]
pub(crate) struct Guard {
    path: PathBuf,
    /// What the log calls somebody who is not listed.
    whom: &'static str,
    list: RwLock<Arc<List>>,
    /// Number of connections of each client that has some.
    connections: Mutex<HashMap<Arc<str>, usize>>,
    /// What the log was told of who was refused, and of who has as many connections as it may.
    told: Told,
    told_for_now: Told,
    refused: [AtomicU64; Reason::ALL.len()],
}

/// Why a client is refused that has shown a key.
#[derive(Clone, Copy)]
enum Reason {
    NotListed,
    Elsewhere,
    Expired,
    Connections,
}

impl Reason {
    const ALL: [(Reason, &'static str); 4] = [
        (Reason::NotListed, "not-listed"),
        (Reason::Elsewhere, "from"),
        (Reason::Expired, "expired"),
        (Reason::Connections, "connections"),
    ];
}

/// What becomes of a client that has shown its key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    LetIn(Identity),
    /// It is refused, and that is for the log.
    Refused(String),
    /// It is refused, and the log was told of it a little before.
    RefusedAgain,
}

impl Guard {
    /// Reads its list, of what the log calls `whom` if it does not know a name.
    ///
    /// # Errors
    /// Those of [`List::read`].
    pub fn open(path: PathBuf, whom: &'static str) -> Result<Guard, Error> {
        let list = RwLock::new(Arc::new(List::read(&path)?));
        let (told, told_for_now, refused) = Default::default();
        Ok(Guard { path, whom, list, connections: Mutex::default(), told, told_for_now, refused })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the list as it is now.
    pub fn list(&self) -> Arc<List> {
        Arc::clone(&self.list.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has another list decide from now on. Who is refused by it is told of anew.
    pub fn replace(&self, list: List) {
        self.told.forget();
        *self.list.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(list);
    }

    /// Decides on who has shown that key.
    pub fn decide(&self, key: &PublicKey, address: Option<IpAddr>, now: SystemTime) -> Decision {
        let list = self.list();
        let (refusal, entry) = match list.find(key, address, now) {
            Ok(entry) => {
                let name = Arc::clone(&entry.name);
                return Decision::LetIn(Identity { name, key: *key, address });
            }
            Err(refusal) => refusal,
        };
        self.count(match refusal {
            Refusal::Unknown => Reason::NotListed,
            Refusal::Elsewhere => Reason::Elsewhere,
            Refusal::Expired => Reason::Expired,
        });
        if self.told.is_recent((*key, address), now) {
            return Decision::RefusedAgain;
        }
        let who = entry.map_or(self.whom, |entry| &entry.name);
        let from = shown(address);
        let file = self.path.display();
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

    /// Returns true if who was let in would be let in now.
    pub fn still_lets_in(&self, identity: &Identity, now: SystemTime) -> bool {
        let list = self.list();
        let found = list.find(&identity.key, identity.address, now);
        found.is_ok_and(|entry| entry.name == identity.name)
    }

    fn count(&self, reason: Reason) {
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many clients were refused, by why.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let count = |reason| self.refused[reason as usize].load(Ordering::Relaxed);
        Reason::ALL.into_iter().map(move |(reason, name)| (name, count(reason)))
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<Arc<str>, usize>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns what the log calls an address.
fn shown(address: Option<IpAddr>) -> String {
    address.map_or("elsewhere".into(), |address| address.to_canonical().to_string())
}

/// Counts the connections of each client.
impl UserCheck for Arc<Guard> {
    fn came(&self, user_id: &str) -> bool {
        // Not what this guard has said: nobody's.
        let Ok(Identity { name, key, address }) = user_id.parse() else { return false };
        let most = self.list().by_name(&name).and_then(|listed| listed.limits.connections);
        let mut connections = self.connections();
        let count = connections.entry(Arc::clone(&name)).or_default();
        if most.is_some_and(|most| *count >= most) {
            let count = *count;
            drop(connections);
            self.count(Reason::Connections);
            if !self.told_for_now.is_recent((key, address), SystemTime::now()) {
                let from = shown(address);
                warn!(
                    event = Event::Refused, client = &*name, peer = &*from;
                    "refused {name} from {from} for now: it has {count} connections, and may have no \
                     more"
                );
            }
            return false;
        }
        *count += 1;
        true
    }

    fn gone(&self, user_id: &str) {
        let Ok(Identity { name, .. }) = user_id.parse() else { return };
        let mut connections = self.connections();
        match connections.get_mut(&name) {
            Some(count) if *count > 1 => *count -= 1,
            _ => _ = connections.remove(&name),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_client_has_no_more_connections_than_its_list_says() {
        let path = std::env::temp_dir().join(format!("repd-guard-{}", std::process::id()));
        let key = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID";
        fs::write(&path, format!("pump-7 {key} connections=2\n")).unwrap();
        let guard = Guard::open(path.clone(), "a client");
        let _ = fs::remove_file(&path);
        let guard = Arc::new(guard.unwrap());
        let id = format!("pump-7 {key} 10.0.0.1");
        assert!(guard.came(&id) && guard.came(&id) && !guard.came(&id));
        guard.gone(&id);
        assert!(guard.came(&id) && !guard.came(&id));
        guard.gone(&id);
        guard.gone(&id);
        assert!(guard.connections().is_empty());
        assert!(guard.came(&format!("other {key} 10.0.0.1")), "it has no limit");
        assert!(!guard.came("pump-7"), "not its word");
    }
}
