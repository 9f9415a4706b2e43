//! What the loop tells who asks what the service is doing.

use std::time::Duration;

use super::Broker;
use crate::backend::{LaneReport, LaneState};
use crate::error::Error;
use crate::service::dispatcher::all_unavailable;
use crate::status::{Readiness, Snapshot, Stats};

impl Broker {
    /// Returns true if requests are measured.
    pub fn is_measured(&self) -> bool {
        self.figures.is_some()
    }

    /// Returns the number of requests that a lane has replied to, and the time that these took
    /// together, as far as that is measured.
    pub fn handled(&self, lane: usize) -> (u64, Duration) {
        self.figures.as_ref().map_or((0, Duration::ZERO), |figures| figures.handled(lane))
    }

    /// Returns what the service is doing. `reports` are those of its lanes.
    pub fn snapshot(
        &self,
        lanes: &[impl LaneState],
        reports: Vec<LaneReport>,
    ) -> Result<Snapshot, Error> {
        let (dispatcher, outbox) = (&self.dispatcher, self.frontend.outbox());
        let readiness = match all_unavailable(lanes, self.now) {
            _ if self.drain.has_begun() => Readiness::Draining,
            Some(why) => Readiness::Refusing(why),
            None => Readiness::Serving,
        };
        let mut refused = self.frontend.refused()?;
        refused.extend(self.access.iter().flat_map(|access| access.refused()));
        let latencies = self.figures.as_ref().map(|figures| figures.latencies.clone());
        Ok(Snapshot {
            taken: self.now,
            readiness,
            stats: Stats { withdrawn: dispatcher.withdrawn(), ..self.frontend.stats()? },
            latencies: latencies.unwrap_or_default(),
            in_flight: dispatcher.in_flight().len(),
            queued: dispatcher.queued(),
            held_bytes: dispatcher.bytes() + outbox.bytes(),
            unsent_bytes: outbox.bytes(),
            connections: self.frontend.connections()?,
            refused,
            lanes: reports,
            clients: dispatcher.usages(),
        })
    }
}
