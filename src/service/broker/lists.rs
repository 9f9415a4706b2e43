//! Lists of clients that change: who is no longer listed is refused, and leaves.

use std::time::SystemTime;

use log::info;

use super::Broker;
use crate::auth::CLIENTS;
use crate::backend::Lane;
use crate::error::Error;
use crate::fault::Fault;
use crate::socket::Peer;

impl Broker {
    /// Takes account of a SIGHUP, which has the lists read again if there are some.
    pub fn on_hangup(&mut self) {
        self.manager.on_reloading(self.now);
        if !self.has_lists {
            self.manager.on_reloaded(self.now);
        }
    }

    /// Takes account of lists that have changed, or of keys whose time is over: the clients that
    /// would not be let in now are refused, and their connections end once what is in flight is
    /// answered. Lanes hear of the keys of upstreams.
    pub fn on_lists_changed(&mut self, lanes: &mut [Lane]) -> Result<(), Error> {
        self.manager.on_reloaded(self.now);
        let Some(access) = self.access.clone() else { return Ok(()) };
        lanes.iter_mut().for_each(|lane| lane.on_lists_changed(&access));
        self.dispatcher.set_limits(|name| access.by_name(name));
        self.has_listed_rate = access.has_rates();
        let (today, mut count) = (SystemTime::now(), 0);
        while let Some(Peer { routing_id, user_id }) = self.frontend.next_peer()? {
            if access.still_lets_in(CLIENTS, &user_id, today)
                || self.dismissed.contains(&routing_id)
            {
                continue;
            }
            count += 1;
            for ticket in self.dispatcher.dismiss(&routing_id, self.now) {
                self.give_up(ticket, &Fault::not_listed())?;
            }
            self.dismissed.push(routing_id);
        }
        if count > 0 {
            info!("connections of clients that are no longer listed: {count}; they end");
        }
        self.end_dismissed()
    }

    /// Ends the connections of clients that are no longer listed, and have their last replies.
    pub(super) fn end_dismissed(&mut self) -> Result<(), Error> {
        let mut left = Vec::new();
        for routing_id in std::mem::take(&mut self.dismissed) {
            let awaits = self.dispatcher.awaits_reply(&routing_id);
            if awaits || self.frontend.outbox().has(&routing_id) {
                left.push(routing_id);
            } else {
                self.frontend.end_peer(&routing_id)?;
            }
        }
        self.dismissed = left;
        Ok(())
    }
}
