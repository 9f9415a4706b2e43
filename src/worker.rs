//! The REP loop: a request, the handler, its reply.

use std::time::Instant;

use crate::claim::Claim;
use crate::credit::Meter;
use crate::error::Error;
use crate::frame::Frame;
use crate::socket::Socket;

/// Answers what comes over `socket`, a REP that is connected to a lane, until its context is shut
/// down. `claim` and `meter` are the worker's sides of what it shares with the lane.
pub(crate) fn run(
    socket: &Socket,
    claim: &Claim,
    mut meter: Meter,
    mut answer: impl FnMut(Vec<Frame>) -> Vec<Frame>,
) -> Result<(), Error> {
    let mut number: u32 = 0;
    loop {
        let mut request = Vec::new();
        if !socket.receive(&mut request)? {
            return Ok(());
        }
        if claim.begin(number) {
            let begun = Instant::now();
            let mut reply = answer(request);
            meter.record(begun.elapsed());
            socket.send_all(&mut reply)?;
        } else {
            // A REP must reply before it may receive again; the proxy drops this.
            socket.send(&mut Frame::default(), false)?;
        }
        number = number.wrapping_add(1);
    }
}
