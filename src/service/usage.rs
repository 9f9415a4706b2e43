//! How much each client asks for, over all its connections, for those who operate the service.

use std::collections::HashMap;

use crate::status::{Usage, Who};

/// Maximum number of clients that have a place of their own.
const MAX_PLACES: usize = 1000;

/// The place of all others.
const OTHERS: usize = 0;

/// What clients have asked for.
pub(super) struct Usages {
    all: Vec<Usage>,
    places: HashMap<Who, usize>,
}

impl Usages {
    pub fn new() -> Usages {
        Usages { all: vec![unused(Who::Others)], places: HashMap::new() }
    }

    /// Takes account of one more connection; returns the place of its client.
    pub fn enter(&mut self, who: &Who) -> usize {
        let place = self.places.get(who).copied().unwrap_or_else(|| self.place_for(who));
        self.all[place].connections += 1;
        place
    }

    /// Makes a place for a client that is new: if there are too many, that of one who has gone.
    fn place_for(&mut self, who: &Who) -> usize {
        if *who == Who::Others {
            return OTHERS;
        }
        let place = if self.all.len() <= MAX_PLACES {
            self.all.push(unused(who.clone()));
            self.all.len() - 1
        } else {
            let is_free = |usage: &Usage| usage.who != Who::Others && usage.connections == 0;
            let Some(place) = self.all.iter().position(is_free) else { return OTHERS };
            let before = std::mem::replace(&mut self.all[place], unused(who.clone()));
            self.places.remove(&before.who);
            // So that nothing that was asked for is missing.
            self.all[OTHERS].requests += before.requests;
            self.all[OTHERS].refused += before.refused;
            place
        };
        self.places.insert(who.clone(), place);
        place
    }

    /// Takes account of the end of a connection.
    pub fn leave(&mut self, place: usize) {
        self.all[place].connections -= 1;
    }

    /// Counts a request of the client that has this place; with `is_refused` as one too many.
    pub fn count(&mut self, place: usize, is_refused: bool) {
        let usage = &mut self.all[place];
        usage.requests += 1;
        usage.refused += u64::from(is_refused);
    }

    /// Returns what each client has asked for that has asked, or is connected.
    pub fn all(&self) -> Vec<Usage> {
        let is_used = |usage: &&Usage| usage.connections > 0 || usage.requests > 0;
        self.all.iter().filter(is_used).cloned().collect()
    }
}

fn unused(who: Who) -> Usage {
    Usage { who, connections: 0, requests: 0, refused: 0 }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn at(number: u32) -> Who {
        Who::Address(IpAddr::V4(Ipv4Addr::from(number)))
    }

    #[test]
    fn all_connections_of_a_client_count_together_and_stay_counted_when_they_end() {
        let mut usages = Usages::new();
        let (one, again, other) =
            (usages.enter(&at(1)), usages.enter(&at(1)), usages.enter(&at(2)));
        assert!(one == again && one != other);
        usages.count(one, false);
        usages.count(again, true);
        usages.leave(one);
        usages.leave(again);
        let all = usages.all();
        assert_eq!((all.len(), &all[0].who), (2, &at(1)));
        assert_eq!((all[0].connections, all[0].requests, all[0].refused), (0, 2, 1));
    }

    #[test]
    fn of_too_many_those_who_have_gone_make_place_and_the_rest_is_counted_together() {
        let mut usages = Usages::new();
        let places: Vec<usize> = (0..1000).map(|number| usages.enter(&at(number))).collect();
        assert!(!places.contains(&OTHERS));
        assert_eq!(usages.enter(&at(5000)), OTHERS);
        usages.count(places[7], false);
        usages.leave(places[7]);
        assert_eq!(usages.enter(&at(5001)), places[7]);
        assert_eq!(usages.enter(&at(7)), OTHERS, "its place is another's");
        assert_eq!(usages.all[OTHERS].requests, 1, "what it asked for is not forgotten");
        assert_eq!(usages.enter(&Who::Others), OTHERS);
        assert!(usages.all.len() == 1001 && usages.places.len() == 1000);
    }
}
