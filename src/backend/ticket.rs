//! The name of a request in flight.

/// Names a request in flight. A ticket is never used twice (its generation counts modulo 2^32), so
/// that a reply which comes too late is known as such.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket {
    pub slot: u32,
    pub generation: u32,
}

impl Ticket {
    /// Returns the eight bytes that stand for it on the wire.
    pub fn to_bytes(self) -> [u8; 8] {
        (u64::from(self.slot) << 32 | u64::from(self.generation)).to_be_bytes()
    }

    /// Returns the ticket that these bytes stand for; `None` unless they are eight.
    pub fn from_bytes(bytes: &[u8]) -> Option<Ticket> {
        let number = u64::from_be_bytes(bytes.try_into().ok()?);
        Some(Ticket { slot: (number >> 32) as u32, generation: number as u32 })
    }
}
