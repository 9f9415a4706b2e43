//! The lanes of a service. Those of its own workers are there from the start to the end; external
//! workers come and go, and so do the addresses of a name.

use std::ops::{Deref, DerefMut};
use std::time::Instant;

use super::names::Step;
use super::{Door, Lane, LaneEvent, Names};
use crate::error::Error;
use crate::frame::Frame;
use crate::socket::Watched;

pub(crate) struct Lanes {
    lanes: Vec<Lane>,
    /// Where workers connect.
    door: Option<Door>,
    /// Whose addresses come and go.
    names: Option<Names>,
}

impl Lanes {
    /// Makes a set of lanes that stay.
    pub fn fixed(lanes: Vec<Lane>) -> Lanes {
        Lanes { lanes, door: None, names: None }
    }

    /// Makes a set of lanes to the workers that connect.
    pub fn external(door: Door) -> Lanes {
        // For the first one, for which requests wait.
        Lanes { lanes: vec![Lane::Vacant(Instant::now())], door: Some(door), names: None }
    }

    /// Makes a set of lanes to upstreams: to these, and to the addresses of names.
    pub fn upstreams(mut lanes: Vec<Lane>, names: Option<Names>) -> Lanes {
        if names.is_some() {
            // For the first address.
            lanes.push(Lane::Vacant(Instant::now()));
        }
        Lanes { lanes, door: None, names }
    }

    /// Takes account of the workers and addresses that have come and gone since. Returns the lanes of
    /// those that have come, of which nothing is known yet.
    pub fn take_changes(&mut self, now: Instant) -> Result<Vec<usize>, Error> {
        let mut new = Vec::new();
        while let Some(step) = self.names.as_mut().and_then(Names::next_step) {
            match step {
                Step::Enter(upstream, place) => {
                    let lane = vacancy(&mut self.lanes, now);
                    self.lanes[lane] = Lane::Upstream(upstream);
                    self.names.iter_mut().for_each(|names| names.enter(place, lane));
                    new.push(lane);
                }
                Step::Leave(lane) => {
                    if let Lane::Upstream(upstream) = &mut self.lanes[lane] {
                        upstream.leave();
                    }
                }
            }
        }
        let Some(door) = &mut self.door else { return Ok(new) };
        while let Some(worker) = door.next_come(now)? {
            let lane = vacancy(&mut self.lanes, now);
            door.enter(&worker, lane);
            self.lanes[lane] = Lane::External(Box::new(worker));
            new.push(lane);
        }
        while let Some(lane) = door.next_gone()? {
            if let Lane::External(worker) = &mut self.lanes[lane] {
                worker.on_gone();
            }
        }
        door.log_refusals(now)?;
        Ok(new)
    }

    /// Returns how many sources of events there are.
    pub fn sources(&self) -> usize {
        self.lanes.len() + usize::from(self.door.is_some())
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
            let Some(door) = &mut self.door else { return Ok(None) };
            let Some(lane) = door.next_message(body)? else { return Ok(None) };
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
        let door = self.door.as_ref().map(Door::readable);
        let names = self.names.as_ref().map(Names::readable);
        self.lanes.iter().flat_map(Lane::watched).chain(door).chain(names)
    }

    /// Returns true if there may be events without another wait.
    pub fn may_have_more(&self) -> bool {
        self.lanes.iter().any(Lane::may_have_more)
            || self.door.as_ref().is_some_and(Door::may_have_more)
    }
}

/// Returns the place where a worker has gone the longest ago, or a new one behind all lanes.
fn vacancy(lanes: &mut Vec<Lane>, now: Instant) -> usize {
    let vacant = lanes.iter().enumerate().filter_map(|(place, lane)| match lane {
        Lane::Vacant(since) => Some((*since, place)),
        _ => None,
    });
    vacant.min().map(|(_, place)| place).unwrap_or_else(|| {
        lanes.push(Lane::Vacant(now));
        lanes.len() - 1
    })
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
