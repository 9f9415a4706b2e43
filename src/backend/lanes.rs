//! The lanes of a service. Those of its own workers are there from the start to the end; external
//! workers come and go, and so do the addresses of a name.

use std::ops::{Deref, DerefMut};
use std::time::Instant;

use super::{Lane, LaneEvent, Names, Onward, Router, Ticket};
use crate::error::Error;
use crate::frame::Frame;
use crate::socket::Watched;

pub(crate) struct Lanes {
    lanes: Vec<Lane>,
    /// Where workers connect.
    router: Option<Router>,
    /// Whose addresses come and go.
    names: Option<Names>,
}

impl Lanes {
    /// Makes a set of lanes that stay.
    pub fn fixed(lanes: Vec<Lane>) -> Lanes {
        Lanes { lanes, router: None, names: None }
    }

    /// Makes a set of lanes to the workers that connect.
    pub fn external(router: Router) -> Lanes {
        // For the first one, for which requests wait.
        Lanes { lanes: vec![Lane::Vacant(Instant::now())], router: Some(router), names: None }
    }

    /// Makes a set of lanes to upstreams: to these, and to the addresses of names.
    pub fn upstreams(mut lanes: Vec<Lane>, names: Option<Names>) -> Lanes {
        if names.is_some() {
            // For the first address.
            lanes.push(Lane::Vacant(Instant::now()));
        }
        Lanes { lanes, router: None, names }
    }

    /// Takes account of the workers and addresses that have come and gone since. Returns the lanes of
    /// those that have come, of which nothing is known yet.
    pub fn take_changes(&mut self, now: Instant) -> Result<Vec<usize>, Error> {
        let mut new = Vec::new();
        if let Some(names) = &mut self.names {
            new.extend(names.take_changes(&mut self.lanes));
        }
        if let Some(router) = &mut self.router {
            new.extend(router.take_changes(&mut self.lanes, now)?);
        }
        Ok(new)
    }

    /// Takes account of upstreams that others come before, by the priorities of SRV records.
    pub fn stand_by(&mut self, now: Instant) {
        self.names.iter().for_each(|names| names.stand_by(&mut self.lanes, now));
    }

    /// Sends the request of an assignment, whose body this is; returns false if its lane cannot take it
    /// after all.
    pub fn send(
        &mut self,
        lane: usize,
        ticket: Ticket,
        body: &mut [Frame],
        keep: bool,
        onward: Onward,
        now: Instant,
    ) -> Result<bool, Error> {
        let is_sent = self.lanes[lane].send(ticket, body, keep, onward, now)?;
        if is_sent && self.names.as_ref().is_some_and(Names::have_weights) {
            for (place, any) in self.lanes.iter_mut().enumerate() {
                if let Lane::Upstream(upstream) = any {
                    upstream.on_any_sent(place == lane);
                }
            }
        }
        Ok(is_sent)
    }

    /// Returns how many sources of events there are.
    pub fn sources(&self) -> usize {
        self.lanes.len() + usize::from(self.router.is_some())
    }

    /// Returns the next event of that source, if there is one, and its lane; puts the message that
    /// comes with it into `body`.
    pub fn next_event(
        &mut self,
        source: usize,
        body: &mut Vec<Frame>,
        now: Instant,
    ) -> Result<Option<(usize, LaneEvent)>, Error> {
        let Some(lane) = self.lanes.get_mut(source) else {
            let Some(router) = &mut self.router else { return Ok(None) };
            let Some(lane) = router.next_message(body)? else { return Ok(None) };
            let event = match &mut self.lanes[lane] {
                Lane::External(worker) => worker.on_message(body, now),
                _ => LaneEvent::Ignored,
            };
            return Ok(Some((lane, event)));
        };
        let event = lane.next_event(body, now)?;
        if event.is_none() && lane.has_ended() {
            *lane = Lane::Vacant(now);
        }
        Ok(event.map(|event| (source, event)))
    }

    /// Returns the poll items that tell of events.
    pub fn watched(&self) -> impl Iterator<Item = Watched<'_>> {
        let router = self.router.as_ref().map(Router::readable);
        let names = self.names.as_ref().map(Names::readable);
        self.lanes.iter().flat_map(Lane::watched).chain(router).chain(names)
    }

    /// Returns true if there may be events without another wait.
    pub fn may_have_more(&self) -> bool {
        self.lanes.iter().any(Lane::may_have_more)
            || self.router.as_ref().is_some_and(Router::may_have_more)
    }
}

/// Puts a lane in the place of the one that has gone the longest ago, or behind all others. Returns
/// its place.
pub(super) fn enter(lanes: &mut Vec<Lane>, lane: Lane) -> usize {
    let vacant = lanes.iter().enumerate().filter_map(|(place, lane)| match lane {
        Lane::Vacant(since) => Some((*since, place)),
        _ => None,
    });
    match vacant.min() {
        Some((_, place)) => {
            lanes[place] = lane;
            place
        }
        None => {
            lanes.push(lane);
            lanes.len() - 1
        }
    }
}

impl Deref for Lanes {
    type Target = [Lane];

    fn deref(&self) -> &[Lane] {
        &self.lanes
    }
}

impl DerefMut for Lanes {
    fn deref_mut(&mut self) -> &mut [Lane] {
        &mut self.lanes
    }
}
