//! The order of requests that wait, with clients that are named by a letter.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::*;
use crate::service::account::ClientLimits;
use crate::service::clients::Clients;
use crate::service::handshake::Handshake;

const MS: Duration = Duration::from_millis(1);

/// A queue, and clients that are named by a letter. A request is named by its number.
struct Harness {
    queue: Queue,
    clients: Clients,
    now: Instant,
    asked: u32,
}

impl Harness {
    fn new() -> Harness {
        let now = Instant::now();
        let clients = Clients::new(ClientLimits { outstanding: 1, rate: None });
        Harness { queue: Queue::new(now), clients, now, asked: 0 }
    }

    fn client(&mut self, name: char) -> ClientId {
        let name = name.to_string();
        self.clients.find(name.as_bytes()).unwrap_or_else(|| {
            let client = self.clients.insert(name.as_bytes(), Handshake::default());
            self.queue.enter(client);
            self.queue.set_prefers_newest(client, true);
            client
        })
    }

    /// Queues a request of each of these clients, one after the other.
    fn push(&mut self, names: &str) {
        for name in names.chars() {
            let client = self.client(name);
            let ticket = Ticket { slot: self.asked, generation: 0 };
            self.queue.push(client, ticket, self.now);
            self.asked += 1;
        }
    }

    /// Takes that many requests, if there are as many; returns their numbers.
    fn pop(&mut self, most: usize) -> Vec<u32> {
        let mut popped = Vec::new();
        while popped.len() < most
            && let Some((client, ticket)) = self.queue.peek(self.now)
        {
            assert_eq!(self.queue.pop(client, self.now), Some(ticket));
            popped.push(ticket.slot);
        }
        popped
    }
}

/// A harness whose queue stands, with a request of each of these clients, of whom the first
/// `served` were served before.
fn standing(names: &str, served: usize) -> Harness {
    let mut harness = Harness::new();
    harness.push(&names[..served]);
    harness.pop(served);
    harness.asked = 0;
    harness.push(names);
    harness.now += INTERVAL;
    harness
}

#[test]
fn clients_take_turns_and_the_requests_of_each_stay_in_order() {
    let mut harness = Harness::new();
    harness.push("aaaabbc");
    assert_eq!(harness.pop(9), [0, 4, 6, 1, 5, 2, 3]);
    assert!(harness.queue.is_empty() && harness.queue.peek(harness.now).is_none());
}

#[test]
fn who_was_served_least_recently_comes_first_even_if_he_did_not_wait_then() {
    let mut harness = Harness::new();
    harness.push("ab");
    harness.pop(2);
    let a = harness.client('a');
    harness.queue.on_served(a);
    harness.push("ab");
    assert_eq!(harness.pop(2), [3, 2]);
}

#[test]
fn while_it_stands_the_newest_of_those_who_are_new_comes_first() {
    let mut harness = standing("abcdefghij", 6);
    let popped = harness.pop(10);
    let fresh: Vec<u32> = popped.iter().copied().filter(|asked| *asked >= 6).collect();
    assert_eq!(fresh, [9, 8, 7, 6]);
}

#[test]
fn while_it_stands_neither_those_who_are_new_nor_the_others_wait_for_all_of_the_others() {
    for (served, fresh, least) in [(500, 1, 10), (1, 500, 2), (250, 250, 25)] {
        let mut harness = Harness::new();
        let name = |number: usize| char::from_u32(0x4e00 + number as u32).unwrap();
        let names: String = (0..served + fresh).map(name).collect();
        let known: String = names.chars().take(served).collect();
        harness.push(&known);
        harness.pop(served);
        harness.asked = 0;
        harness.push(&names);
        harness.now += INTERVAL;
        let mut turns = [0, 0];
        for number in 0..100 {
            let popped = harness.pop(1)[0] as usize;
            let is_fresh = popped >= served;
            turns[usize::from(is_fresh)] += 1;
            // Another new one comes, or the same one again.
            let next = if is_fresh { name(served + fresh + number) } else { name(popped) };
            let asked = std::mem::replace(&mut harness.asked, popped as u32);
            harness.push(&next.to_string());
            harness.asked = asked;
        }
        assert!(turns.iter().all(|turns| *turns >= least), "{turns:?}");
    }
}

#[test]
fn while_it_stands_who_is_about_to_give_up_is_passed_over() {
    let names = "abcdefgh";
    let mut harness = standing(names, 8);
    // Two of them have given up after that time, and the others are as old.
    let (a, b) = (harness.client('a'), harness.client('b'));
    harness.queue.give_up(a, harness.now);
    harness.queue.give_up(b, harness.now);
    // But for one who has just asked anew, and who was served last.
    let h = harness.client('h');
    harness.queue.remove_all(h, harness.now);
    harness.push("h");
    let throws = (0..20).filter_map(|_| {
        let queue = &mut harness.queue;
        queue.thrown = std::array::from_fn(|_| queue.dice.f64());
        queue.peek(harness.now).map(|(_, ticket)| ticket.slot)
    });
    let firsts: Vec<u32> = throws.collect();
    let of_h = firsts.iter().filter(|slot| **slot == 8).count();
    assert!(of_h >= 10, "{firsts:?}");
}

#[test]
fn while_it_stands_nobody_is_served_much_more_often_than_another() {
    let names = "abcdefghijklmnopqrstuvwxyz";
    let mut harness = standing(names, names.len());
    let mut served = [0; 26];
    for _ in 0..26 * 30 {
        let client = harness.pop(1)[0] as usize % names.len();
        served[client] += 1;
        // It asks again, after all others have.
        harness.asked = (harness.asked / 26 + 1) * 26 + client as u32;
        harness.push(&names[client..=client]);
    }
    let (least, most) = (served.iter().min().unwrap(), served.iter().max().unwrap());
    assert!(most <= &(2 * least), "{served:?}");
}

#[test]
fn while_it_stands_a_clients_newest_request_comes_first_unless_it_waits_for_all() {
    let mut harness = standing("aa", 1);
    assert_eq!(harness.pop(1), [1]);
    harness.push("a");
    assert_eq!(harness.pop(9), [2, 0]);
    let mut harness = standing("aab", 2);
    for client in ['a', 'b'] {
        let client = harness.client(client);
        harness.queue.set_prefers_newest(client, false);
    }
    harness.push("a");
    assert!(harness.queue.stands(harness.now));
    let of_a: Vec<u32> = harness.pop(9).into_iter().filter(|asked| *asked != 2).collect();
    assert_eq!(of_a, [0, 1, 3]);
}

#[test]
fn it_stands_if_waits_are_above_the_target_for_an_interval_and_until_it_is_empty() {
    let mut harness = Harness::new();
    let stands = |harness: &Harness| harness.queue.stands(harness.now);
    harness.push("aaaa");
    harness.now += TARGET - MS;
    assert_eq!(harness.pop(1), [0]);
    harness.now += INTERVAL - MS;
    assert!(!stands(&harness));
    harness.now += MS;
    assert!(stands(&harness));
    harness.push("a");
    assert_eq!(harness.pop(1), [4], "that it has not waited says nothing");
    assert!(stands(&harness));
    harness.pop(3);
    assert!(!stands(&harness));
    // It was empty until now, for however long.
    harness.now += 10 * INTERVAL;
    harness.push("a");
    assert!(!stands(&harness));
}

#[test]
fn what_is_removed_has_no_turn() {
    let mut harness = Harness::new();
    harness.push("abab");
    let (a, b) = (harness.client('a'), harness.client('b'));
    harness.queue.remove(a, Ticket { slot: 0, generation: 0 }, harness.now);
    assert_eq!(harness.queue.oldest(a).map(|ticket| ticket.slot), Some(2));
    let removed = harness.queue.remove_all(b, harness.now);
    assert_eq!(removed.iter().map(|ticket| ticket.slot).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(harness.queue.clients().collect::<Vec<_>>(), [a]);
    harness.push("c");
    let mut all: Vec<u32> = harness.queue.drain(harness.now).iter().map(|it| it.slot).collect();
    all.sort();
    assert_eq!(all, [2, 4]);
    assert!(harness.queue.is_empty() && harness.pop(1).is_empty());
}

/// Clients that ask again when they have their reply or have given up, at workers who can answer a
/// tenth of that, for ten minutes.
#[test]
fn while_it_stands_what_is_done_is_of_use_and_nobody_has_much_more_of_it_than_another() {
    const CLIENTS: usize = 1000;
    const PATIENCE: Duration = Duration::from_secs(2);
    const HANDLING: Duration = Duration::from_millis(100);
    const WORKERS: u32 = 5;
    let mut harness = Harness::new();
    let names: Vec<char> = (0x4e00..).filter_map(char::from_u32).take(CLIENTS).collect();
    let clients: Vec<ClientId> = names.iter().map(|name| harness.client(*name)).collect();
    let start = harness.now;
    let mut replies = vec![0_u32; CLIENTS];
    // Who asks when, if nothing has happened since the request of that number.
    let mut asks: BinaryHeap<Reverse<(Instant, usize, u32)>> =
        (0..CLIENTS).map(|client| Reverse((start, client, 0))).collect();
    let mut latest = vec![0; CLIENTS];
    // Of each request, whose it is and until when he waits.
    let mut asked: HashMap<u32, (usize, Instant)> = HashMap::new();
    let (mut done, mut turn_at) = (0, start);
    while turn_at < start + Duration::from_secs(600) {
        while let Some(Reverse((at, client, number))) = asks.peek().copied()
            && at <= turn_at
        {
            asks.pop();
            if latest[client] != number {
                continue;
            }
            harness.now = at;
            harness.queue.give_up(clients[client], at);
            latest[client] = harness.asked;
            asked.insert(harness.asked, (client, at + PATIENCE));
            asks.push(Reverse((at + PATIENCE, client, harness.asked)));
            harness.push(&names[client].to_string());
        }
        harness.now = turn_at;
        for number in harness.pop(1) {
            let (client, gives_up_at) = asked[&number];
            done += 1;
            if turn_at + HANDLING < gives_up_at {
                replies[client] += 1;
                asks.push(Reverse((turn_at + HANDLING, client, number)));
            }
        }
        turn_at += HANDLING / WORKERS;
    }
    let of_use: u32 = replies.iter().sum();
    assert!(10 * of_use >= 9 * done, "{of_use} of {done}");
    let (least, most) = (replies.iter().min().unwrap(), replies.iter().max().unwrap());
    assert!(*most <= 3 * least, "{least} to {most}");
}
