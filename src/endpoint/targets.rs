//! Where a name leads: the addresses of a host, or the targets of SRV records (RFC 2782).

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::time::Duration;

use super::{Address, Endpoint, Host};
use crate::dns::{self, Srv};

/// How long SRV records are used, whatever they say: who changes them has not to wait for long, and
/// their name server is not asked all the time.
const LEAST_TTL: Duration = Duration::from_secs(1);
const MOST_TTL: Duration = Duration::from_secs(60);

/// Maximum number of addresses of a name that are used.
pub(crate) const MAX_TARGETS: usize = 64;

/// One address to which a name leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub address: SocketAddr,
    /// It is used if none of a lower one can be; 0 without SRV records.
    pub priority: u16,
    /// Its share among those of the same priority; 0 without SRV records.
    pub weight: u16,
}

impl Target {
    /// Puts it in order among others, and leaves out the last ones if they are too many: they are the
    /// same ones each time, though name servers give them in turns. An address that is there stays as
    /// it is.
    pub fn enter(self, targets: &mut Vec<Target>) {
        if targets.iter().any(|other| other.address == self.address) {
            return;
        }
        let key = |it: &Target| (it.priority, Reverse(it.weight), it.address);
        let place = targets.partition_point(|other| key(other) < key(&self));
        targets.insert(place, self);
        targets.truncate(MAX_TARGETS);
    }
}

impl Endpoint {
    /// Returns the addresses of the host, or those of the targets of SRV records: at least one. Those of
    /// the lowest priority come first, and of these those of the largest weight.
    ///
    /// # Errors
    /// The reason why there is none.
    pub(crate) fn addresses(&self) -> Result<Vec<SocketAddr>, String> {
        if let Address::Tcp { host, port } = &self.address {
            return host.addresses(*port);
        }
        let (mut targets, mut why) = (Vec::new(), NO_SERVICE.into());
        for record in self.records()?.0 {
            match addresses_of(&record) {
                Ok(addresses) => enter_all(&record, &addresses, &mut targets),
                Err(error) => why = error,
            }
        }
        if targets.is_empty() {
            return Err(why);
        }
        Ok(targets.iter().map(|target| target.address).collect())
    }

    /// Returns true if its places are told by SRV records.
    pub(crate) fn is_srv(&self) -> bool {
        matches!(self.address, Address::Srv { .. })
    }

    /// Returns its SRV records, and for how long they hold. No record says that there is no service.
    ///
    /// # Errors
    /// The reason why there are none.
    pub(crate) fn records(&self) -> Result<(Vec<Srv>, Duration), String> {
        let Address::Srv { name } = &self.address else { return Err("it is no name".into()) };
        let found = dns::look_up_srv(name)?;
        let ttl = Duration::from_secs(found.ttl.into()).clamp(LEAST_TTL, MOST_TTL);
        Ok((found.records, ttl))
    }
}

/// The reason why there is nowhere to connect to.
pub(crate) const NO_SERVICE: &str = "its SRV records say that there is no such service";

/// Returns the addresses of the target of a record.
///
/// # Errors
/// It has none.
pub(crate) fn addresses_of(record: &Srv) -> Result<Vec<SocketAddr>, String> {
    let host = Host::Named(record.target.clone());
    host.addresses(record.port).map_err(|_| format!("its target {} has no address", record.target))
}

/// Enters these addresses of the target of a record among others.
pub(crate) fn enter_all(record: &Srv, addresses: &[SocketAddr], targets: &mut Vec<Target>) {
    let Srv { priority, weight, .. } = *record;
    for &address in addresses {
        Target { address, priority, weight }.enter(targets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_is_used_once_with_its_lowest_priority_and_64_at_most() {
        let target = |priority, weight, port| Target {
            address: SocketAddr::from(([10, 0, 0, 1], port)),
            priority,
            weight,
        };
        let entered = |targets: &[Target]| {
            let mut entered = Vec::new();
            targets.iter().for_each(|target| target.enter(&mut entered));
            entered
        };
        let [first, second, third] = [target(1, 7, 9), target(1, 0, 1), target(2, 9, 2)];
        assert_eq!(entered(&[third, first, second, target(3, 0, 9)]), [first, second, third]);
        let many: Vec<_> = (1..=200).rev().map(|port| target(0, 0, port)).collect();
        assert_eq!(entered(&many), (1..=64).map(|port| target(0, 0, port)).collect::<Vec<_>>());
    }
}
