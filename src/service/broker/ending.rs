//! The end of a service: what is in flight is answered, and nothing that was read is lost.

use std::time::Duration;

use super::{Broker, Received, Stopped};
use crate::error::Error;
use crate::fault::Fault;
use crate::service::clients::ClientId;
use crate::socket::wait;

impl Broker {
    /// Refuses what comes from now on, and what is in the queue; or does so later, if clients that
    /// connect from now on wait for the next service.
    pub fn begin_drain(&mut self) -> Result<(), Error> {
        self.frontend.begin_drain()?;
        self.manager.on_stopping(self.dispatcher.in_flight().len(), self.now);
        if self.frontend.is_inherited() {
            self.drain.begin(self.now);
            return Ok(());
        }
        self.begin_refusing()
    }

    fn begin_refusing(&mut self) -> Result<(), Error> {
        self.drain.begin_refusing(self.now);
        for ticket in self.dispatcher.begin_drain(self.now) {
            self.give_up(ticket, &Fault::stopping())?;
        }
        Ok(())
    }

    /// Ends the connection of a client that has just got its reply, so that it asks the next service:
    /// a REQ, which has sent nothing more.
    pub(super) fn let_go(&mut self, client: ClientId) -> Result<(), Error> {
        match self.dispatcher.idle_req(client) {
            Some(id) if !self.frontend.outbox().has(id) => self.frontend.end_peer(id),
            _ => Ok(()),
        }
    }

    /// Returns true if the drain is over; `is_answered` tells that everything that came was answered.
    pub fn is_drained(&mut self, is_answered: bool) -> Result<bool, Error> {
        if !self.drain.has_begun() {
            return Ok(false);
        }
        if self.drain.should_refuse(self.now) {
            self.begin_refusing()?;
        }
        let is_over = self.drain.is_over(self.now, is_answered);
        self.manager.on_drain(!is_over && !is_answered, self.now);
        Ok(is_over)
    }

    /// Answers the requests that are left with a 503, and closes the frontend.
    pub fn finish(mut self) -> Result<Stopped, Error> {
        self.frontend.stop_reading()?;
        self.refuse_rest()?;
        for ticket in self.dispatcher.in_flight().all() {
            self.frontend.stats.abandoned += 1;
            self.give_up(ticket, &Fault::stopping())?;
        }
        self.frontend.stats.withdrawn = self.dispatcher.withdrawn();
        self.frontend.close(self.drain.linger(self.now))
    }

    /// Answers what was read from clients with a 503.
    fn refuse_rest(&mut self) -> Result<(), Error> {
        /// Time after which libzmq has told what it has read of a client that asks for much.
        const MOMENT: Duration = Duration::from_millis(1);
        loop {
            let mut has_come = false;
            loop {
                match self.frontend.receive(&mut self.request)? {
                    Received::Nothing => break,
                    Received::Malformed => (),
                    Received::TooLarge(fault) => _ = self.refuse(&fault)?,
                    Received::Request => _ = self.refuse(&Fault::stopping())?,
                }
                has_come = true;
            }
            if !has_come {
                return Ok(());
            }
            wait(&mut [self.frontend.readable()], Some(MOMENT))?;
        }
    }
}
