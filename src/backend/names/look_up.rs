//! A name that is looked up again and again: when, and to which addresses it leads.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use log::{info, warn};

use super::Found;
use crate::dns::Srv;
use crate::endpoint::{Endpoint, NO_SERVICE, OwnAddresses, Target, addresses_of, enter_all};

/// Time between two look-ups of a host, for which the system does not tell how long its addresses
/// hold; and until the next one after one that has failed.
const INTERVAL: Duration = Duration::from_secs(5);

/// Least time between two look-ups, however long each takes.
const LEAST_PAUSE: Duration = Duration::from_secs(1);

pub(super) struct LookUp {
    number: usize,
    endpoint: Endpoint,
    own: Arc<OwnAddresses>,
    /// When it is to be repeated.
    pub due: Instant,
    /// The SRV records that were read last, each with the last addresses of its target.
    records: Vec<(Srv, Vec<SocketAddr>)>,
    /// For how long they hold.
    records_end: Instant,
    /// What was wrong last, as the log was told.
    trouble: Option<String>,
}

impl LookUp {
    pub fn new(number: usize, endpoint: Endpoint, own: Arc<OwnAddresses>) -> LookUp {
        let now = Instant::now();
        let (records, trouble) = (Vec::new(), None);
        LookUp { number, endpoint, own, due: now, records, records_end: now, trouble }
    }

    /// Looks the name up, and sends where it leads. While that fails, the last addresses hold.
    pub fn repeat(&mut self, found: &Sender<Found>) {
        let (mut trouble, mut pause) = (None, INTERVAL);
        let targets = match self.endpoint.is_srv() {
            true => self.srv_targets(&mut trouble),
            false => self.endpoint.addresses().map(plain_targets),
        };
        match targets {
            Ok(mut targets) => {
                let is_own = |target: &mut Target| self.own.are_reached_at(target.address);
                if let Some(own) = targets.extract_if(.., is_own).last() {
                    trouble = Some(format!("{} is this service itself: left out", own.address));
                }
                // Nobody hears of it once the service has ended.
                let _ = found.send(Found { name: self.number, targets });
                if self.endpoint.is_srv() {
                    let left = self.records_end.saturating_duration_since(Instant::now());
                    pause = left.clamp(LEAST_PAUSE, INTERVAL);
                }
            }
            Err(why) => trouble = Some(why),
        }
        if let Some(why) = trouble.as_ref().filter(|_| trouble != self.trouble) {
            warn!("upstream {}: {why}; retrying", self.endpoint);
        }
        if trouble.is_none() && self.trouble.is_some() {
            info!("upstream {}: its name leads somewhere again", self.endpoint);
        }
        self.trouble = trouble;
        self.due = Instant::now() + pause;
    }

    /// Returns the targets of the SRV records, which are asked for again once they do not hold any
    /// more. One whose addresses cannot be looked up has its last ones.
    fn srv_targets(&mut self, trouble: &mut Option<String>) -> Result<Vec<Target>, String> {
        let now = Instant::now();
        if now >= self.records_end {
            let (records, ttl) = self.endpoint.records()?;
            self.records_end = now + ttl;
            let last = std::mem::take(&mut self.records);
            let with_last = |record: Srv| {
                let is_it = |it: &Srv| (&it.target, it.port) == (&record.target, record.port);
                let known = last.iter().find(|(it, _)| is_it(it));
                let addresses = known.map(|(_, addresses)| addresses.clone());
                (record, addresses.unwrap_or_default())
            };
            self.records = records.into_iter().map(with_last).collect();
        }
        if self.records.is_empty() {
            *trouble = Some(NO_SERVICE.into());
        }
        let mut targets = Vec::new();
        for (record, addresses) in &mut self.records {
            match addresses_of(record) {
                Ok(new) => *addresses = new,
                Err(why) => *trouble = Some(why),
            }
            enter_all(record, addresses, &mut targets);
        }
        if targets.is_empty() && !self.records.is_empty() {
            return Err(trouble.take().unwrap_or_default());
        }
        Ok(targets)
    }
}

/// Returns the addresses of a host as targets: all are alike.
fn plain_targets(addresses: Vec<SocketAddr>) -> Vec<Target> {
    let mut targets = Vec::new();
    for address in addresses {
        Target { address, priority: 0, weight: 0 }.enter(&mut targets);
    }
    targets
}
