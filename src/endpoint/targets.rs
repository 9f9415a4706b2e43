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

/// One address to which a name leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    /// It is used if none of a lower one can be; 0 without SRV records.
    pub priority: u16,
    pub address: SocketAddr,
    /// Its share among those of the same priority; 0 without SRV records.
    pub weight: u16,
}

impl Endpoint {
    /// Returns the addresses of the host, or those of the targets of SRV records: at least one. Those of
    /// the lowest priority come first, and of these those of the largest weight.
    ///
    /// # Errors
    /// The reason why there is none.
    pub(crate) fn addresses(&self) -> Result<Vec<SocketAddr>, String> {
        let (mut records, _) = match &self.address {
            Address::Tcp { host, port } => return host.addresses(*port),
            _ => self.records()?,
        };
        records.sort_by_key(|record| (record.priority, Reverse(record.weight)));
        let mut why = NO_SERVICE.into();
        let addresses = records
            .iter()
            .filter_map(|record| addresses_of(record).map_err(|error| why = error).ok());
        let addresses: Vec<SocketAddr> = addresses.flatten().collect();
        if addresses.is_empty() { Err(why) } else { Ok(addresses) }
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
