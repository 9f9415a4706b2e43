//! What has happened to a service that somebody may wait or search for in its log.

use log::kv::{ToValue, Value};

/// An event. In the journal its lines have a MESSAGE_ID (systemd.journal-fields(7)), which stays
/// the same whatever the line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Clients can connect.
    Start,
    Stopping,
    Stopped,
    /// The lists were read again, or could not be.
    Reload,
    /// A peer was not let in, or was disconnected for what it has sent.
    Refused,
    /// No worker or upstream can answer.
    NotReady,
    /// One can again.
    Ready,
}

/// The name of the field that says which event a line is about.
pub(super) const FIELD: &str = "event";

impl Event {
    const ALL: [Event; 7] = [
        Event::Start,
        Event::Stopping,
        Event::Stopped,
        Event::Reload,
        Event::Refused,
        Event::NotReady,
        Event::Ready,
    ];

    fn name(self) -> &'static str {
        match self {
            Event::Start => "start",
            Event::Stopping => "stopping",
            Event::Stopped => "stopped",
            Event::Reload => "reload",
            Event::Refused => "refused",
            Event::NotReady => "not-ready",
            Event::Ready => "ready",
        }
    }

    fn message_id(self) -> &'static str {
        match self {
            Event::Start => "df012abbfc144d3cb187a112ff16e832",
            Event::Stopping => "542169f22db840268d32beae0df29fc5",
            Event::Stopped => "c1b504c5180347918cbc94c578cbb8bb",
            Event::Reload => "17caa5a59b424246a55471febc282d70",
            Event::Refused => "2a28c256b1774469a8f02e7b52812694",
            Event::NotReady => "8c7e65b1cc574012903736b3b3d86108",
            Event::Ready => "fe99dbb41f1d47b1bba55b63f8cc0a55",
        }
    }
}

/// Returns the MESSAGE_ID of the event of that name; `None` if there is none.
pub(super) fn message_id(name: &str) -> Option<&'static str> {
    Event::ALL.into_iter().find(|event| event.name() == name).map(Event::message_id)
}

impl ToValue for Event {
    fn to_value(&self) -> Value<'_> {
        Value::from(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_event_has_an_id_of_its_own() {
        let ids = Event::ALL.map(|event| message_id(event.name()).unwrap());
        assert_eq!(BTreeSet::from(ids).len(), Event::ALL.len());
        assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())));
        assert_eq!(message_id("no event"), None);
    }
}
