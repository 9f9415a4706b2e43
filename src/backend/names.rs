//! Upstreams by name: each address of a name is a lane of its own. Each name is looked up again and
//! again by a thread, since its name server may take its time.

use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::Builder;
use std::time::Instant;

use log::{info, warn};

use super::lanes::enter;
use super::{Lane, Upstream};
use crate::auth::Access;
use crate::config::Config;
use crate::endpoint::{Endpoint, OwnAddresses, Target};
use crate::error::{Error, plain};
use crate::socket::{Context, Watched, readable, wait};
use crate::sys::fd::set_nonblocking;

use look_up::LookUp;

mod look_up;

/// The part of an upstream whose weight is 0, where others have one: RFC 2782 wants it to be small.
const LEAST_PART: f64 = 0.01;

/// Stack of a thread, in bytes: the system's look-up takes more than a thread's least.
const STACK: usize = 512 << 10;

/// The names of upstreams, and the lanes to their addresses.
pub(crate) struct Names {
    names: Vec<Name>,
    /// What a lane is made of.
    context: Context,
    access: Option<Arc<Access>>,
    config: Config,
    found: Receiver<Found>,
    waking: PipeReader,
    /// Some have other weights than others of the same name.
    have_weights: bool,
    /// Its end is that of the threads.
    _running: PipeWriter,
}

struct Name {
    endpoint: Endpoint,
    /// The addresses that it has, with their lanes.
    lanes: Vec<(Target, usize)>,
    /// They differ.
    has_priorities: bool,
}

/// Where a name leads.
struct Found {
    name: usize,
    targets: Vec<Target>,
}

impl Names {
    /// Looks these names up again and again, from now on. None of their addresses is used that is one
    /// of this service's `own`.
    ///
    /// # Errors
    /// Too few threads or descriptors.
    pub fn start(
        context: &Context,
        endpoints: Vec<Endpoint>,
        own: OwnAddresses,
        access: Option<Arc<Access>>,
        config: &Config,
    ) -> Result<Names, Error> {
        let cannot = |error| Error::config("cannot look up names").with_cause(plain(error));
        let (waking, wake) = pipe().map_err(cannot)?;
        let (stopped, running) = pipe().map_err(cannot)?;
        set_nonblocking(&waking).and(set_nonblocking(&wake)).map_err(cannot)?;
        let (send, found) = channel();
        let (stopped, wake, own) = (Arc::new(stopped), Arc::new(wake), Arc::new(own));
        for (number, endpoint) in endpoints.iter().cloned().enumerate() {
            let mut look_up = LookUp::new(number, endpoint, Arc::clone(&own));
            let (send, stopped, wake) = (send.clone(), Arc::clone(&stopped), Arc::clone(&wake));
            let body = move || {
                loop {
                    look_up.repeat(&send);
                    // A full pipe tells as much.
                    let _ = (&*wake).write(&[0]);
                    let time = look_up.due.saturating_duration_since(Instant::now());
                    let mut end = [readable(&*stopped)];
                    if wait(&mut end, Some(time)).is_err() || end[0].is_readable() {
                        return;
                    }
                }
            };
            // It is not waited for in the end: it may be in a look-up.
            Builder::new().name("names".into()).stack_size(STACK).spawn(body).map_err(cannot)?;
        }
        let names = endpoints.into_iter().map(|endpoint| Name {
            endpoint,
            lanes: Vec::new(),
            has_priorities: false,
        });
        Ok(Names {
            names: names.collect(),
            context: context.clone(),
            access,
            config: config.clone(),
            found,
            waking,
            have_weights: false,
            _running: running,
        })
    }

    pub fn readable(&self) -> Watched<'_> {
        readable(&self.waking)
    }

    /// Takes account of the addresses that were found since. Returns the lanes of those that are new.
    pub fn take_changes(&mut self, lanes: &mut Vec<Lane>) -> Vec<usize> {
        // Whatever is in the pipe says that there is something in the channel.
        let _ = (&self.waking).read(&mut [0; 64]);
        let mut new = Vec::new();
        while let Ok(Found { name, targets }) = self.found.try_recv() {
            let Name { endpoint, lanes: known, .. } = &mut self.names[name];
            let is_at = |it: &Target, target: &Target| it.address == target.address;
            let is_gone = |(it, _): &mut (Target, usize)| !targets.iter().any(|to| is_at(it, to));
            for (Target { address, .. }, lane) in known.extract_if(.., is_gone) {
                let address = shown(endpoint, address);
                info!("upstream {endpoint}: {address} is no longer an address of it");
                if let Lane::Upstream(upstream) = &mut lanes[lane] {
                    upstream.leave();
                }
            }
            for target in targets {
                if let Some((it, _)) = known.iter_mut().find(|(it, _)| is_at(it, &target)) {
                    *it = target;
                    continue;
                }
                if let Some(lane) = stays(lanes, endpoint, target.address) {
                    known.push((target, lane));
                    continue;
                }
                let (context, access) = (&self.context, self.access.as_deref());
                match Upstream::new(context, endpoint, Some(target.address), access, &self.config) {
                    Ok(upstream) => {
                        let lane = enter(lanes, Lane::Upstream(upstream.into()));
                        known.push((target, lane));
                        new.push(lane);
                    }
                    // It is tried again with the next look-up.
                    Err(error) => warn!("upstream {endpoint}: {error:#}"),
                }
            }
            self.names[name].rank(lanes);
            self.share(lanes);
        }
        new
    }

    /// Tells the lanes their parts of the load, if weights differ.
    fn share(&mut self, lanes: &mut [Lane]) {
        let parts: Vec<(usize, f64)> = self.names.iter().flat_map(Name::parts).collect();
        self.have_weights = parts.iter().any(|(_, part)| *part != 1.0);
        // Upstreams that have no weight are beside those.
        let all = (0..lanes.len()).map(|lane| (lane, 1.0));
        for (lane, part) in all.chain(parts) {
            if let Lane::Upstream(upstream) = &mut lanes[lane] {
                upstream.set_part(self.have_weights.then_some(part));
            }
        }
    }

    /// Returns true if requests are shared by weight.
    pub fn have_weights(&self) -> bool {
        self.have_weights
    }

    /// Has those lanes stand by for which another one of their name is available that has a lower
    /// priority.
    pub fn stand_by(&self, lanes: &mut [Lane], now: Instant) {
        for name in self.names.iter().filter(|name| name.has_priorities) {
            name.stand_by(lanes, now);
        }
    }
}

impl Name {
    /// Takes account of its priorities, which may have changed.
    fn rank(&mut self, lanes: &mut [Lane]) {
        let first = self.lanes.first().map(|(target, _)| target.priority);
        self.has_priorities = self.lanes.iter().any(|(it, _)| Some(it.priority) != first);
        for (_, lane) in &self.lanes {
            if let Lane::Upstream(upstream) = &mut lanes[*lane] {
                upstream.stand_by(false);
            }
        }
    }

    fn stand_by(&self, lanes: &mut [Lane], now: Instant) {
        let is_available = |(_, lane): &&(Target, usize)| match &lanes[*lane] {
            Lane::Upstream(upstream) => upstream.is_available(now),
            _ => false,
        };
        let available = self.lanes.iter().filter(is_available);
        let lowest = available.map(|(target, _)| target.priority).min().unwrap_or(u16::MAX);
        for (target, lane) in &self.lanes {
            if let Lane::Upstream(upstream) = &mut lanes[*lane] {
                upstream.stand_by(target.priority > lowest);
            }
        }
    }

    /// Returns its lanes, each with its part among those of the same priority: 1 on average, so that it
    /// fits upstreams that have no weight.
    fn parts(&self) -> impl Iterator<Item = (usize, f64)> {
        self.lanes.iter().map(|(target, lane)| {
            let like_it = self.lanes.iter().filter(|(it, _)| it.priority == target.priority);
            let weights = like_it.map(|(it, _)| f64::from(it.weight));
            let (count, sum) = weights.fold((0.0, 0.0), |(count, sum), it| (count + 1.0, sum + it));
            let part = if sum == 0.0 { 1.0 } else { f64::from(target.weight) * count / sum };
            (*lane, if target.weight == 0 { part.max(LEAST_PART) } else { part })
        })
    }
}

/// Has the lane to that address stay that is about to end, and returns it, if there is one: no two are
/// to have the same name.
fn stays(lanes: &mut [Lane], endpoint: &Endpoint, address: SocketAddr) -> Option<usize> {
    for (place, lane) in lanes.iter_mut().enumerate() {
        if let Lane::Upstream(upstream) = lane
            && upstream.is_leaving_at(endpoint, address)
        {
            info!("upstream {endpoint}: {} is an address of it again", shown(endpoint, address));
            upstream.stay();
            return Some(place);
        }
    }
    None
}

/// Returns what of an address is shown beside its name: of SRV records the port too.
pub(super) fn shown(endpoint: &Endpoint, address: SocketAddr) -> String {
    if endpoint.is_srv() { address.to_string() } else { address.ip().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the parts of targets of these priorities and weights.
    fn parts(targets: &[(u16, u16)]) -> Vec<f64> {
        let target = |(lane, &(priority, weight)): (usize, &(u16, u16))| {
            let address = SocketAddr::from(([10, 0, 0, 1], 1 + lane as u16));
            (Target { priority, address, weight }, lane)
        };
        let lanes = targets.iter().enumerate().map(target).collect();
        let endpoint = "tcp://_repd._tcp.example.org".parse().unwrap();
        let name = Name { endpoint, lanes, has_priorities: false };
        name.parts().map(|(_, part)| part).collect()
    }

    #[test]
    fn a_part_is_the_weight_against_the_average_of_its_priority() {
        assert_eq!(parts(&[(1, 3), (1, 1), (2, 7)]), [1.5, 0.5, 1.0]);
        assert_eq!(parts(&[(1, 0), (1, 0)]), [1.0, 1.0]);
        assert_eq!(parts(&[(1, 65535); 3]), [1.0; 3]);
        // Small, but not nothing.
        assert_eq!(parts(&[(1, 0), (1, 10)]), [0.01, 2.0]);
        assert_eq!(parts(&[(1, 1), (1, 9999)]), [0.0002, 1.9998]);
    }
}
