//! Tests of what each client may have.

use std::time::Duration;

use super::*;
use crate::auth::Limits;

const MS: Duration = Duration::from_millis(1);

fn clients(outstanding: usize, rate: Option<u32>) -> Clients {
    Clients::new(ClientLimits { outstanding, rate })
}

fn enter(clients: &mut Clients, name: &str) -> ClientId {
    clients.insert(name.as_bytes(), Handshake::default())
}

#[test]
fn a_client_may_have_as_much_outstanding_as_its_limit_and_others_do_not_count() {
    let (mut clients, now) = (clients(2, None), Instant::now());
    let (one, other) = (enter(&mut clients, "one"), enter(&mut clients, "other"));
    assert!(clients.admit(one, 10, now).is_ok() && clients.admit(one, 20, now).is_ok());
    let refused = clients.admit(one, 30, now).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "429 the client has 2 requests outstanding, and may have no more"
    );
    assert!(clients.admit(other, 1, now).is_ok());
    assert_eq!((clients.bytes(), clients.bytes_of(one)), (31, 30));
    clients.on_ended(one, 10, false);
    assert!(clients.admit(one, 5, now).is_ok());
    assert_eq!((clients.bytes(), clients.bytes_of(one)), (26, 25));
}

#[test]
fn a_client_may_send_a_seconds_requests_at_once_and_then_at_its_rate() {
    let (mut clients, start) = (clients(1000, Some(10)), Instant::now());
    let one = enter(&mut clients, "one");
    let sends = |clients: &mut Clients, at| {
        (0..100).take_while(|_| clients.admit(one, 0, at).is_ok()).count()
    };
    assert_eq!(sends(&mut clients, start), 10);
    assert_eq!(sends(&mut clients, start + 99 * MS), 0);
    assert_eq!(sends(&mut clients, start + 100 * MS), 1);
    assert_eq!(sends(&mut clients, start + 600 * MS), 5);
    assert_eq!(sends(&mut clients, start + 60_000 * MS), 10);
    let text = clients.admit(one, 0, start + 60_000 * MS).unwrap_err().to_string();
    assert_eq!(text, "429 the client asks too often: its limit is 10 a second");
}

#[test]
fn what_a_lane_still_has_is_held_though_it_is_answered() {
    let (mut clients, now) = (clients(1, None), Instant::now());
    let one = enter(&mut clients, "one");
    clients.admit(one, 10, now).unwrap();
    clients.on_ended(one, 10, true);
    assert_eq!(clients.bytes(), 10);
    assert!(clients.admit(one, 5, now).is_ok(), "it has nothing outstanding");
    clients.release(one, 10);
    assert_eq!(clients.bytes(), 5);
}

#[test]
fn a_client_that_has_gone_is_forgotten_once_nothing_of_it_is_held() {
    let (mut clients, now) = (clients(9, None), Instant::now());
    let one = enter(&mut clients, "one");
    clients.admit(one, 10, now).unwrap();
    clients.on_gone(one);
    assert!(clients.is_gone(one) && clients.find(b"one").is_none());
    // Its place is not given away before.
    assert_ne!(enter(&mut clients, "other"), one);
    clients.on_ended(one, 10, false);
    assert_eq!(clients.find(b"one"), None);
    let req = Handshake { is_req: true, ..Handshake::default() };
    assert_eq!(clients.insert(b"another", req.clone()), one);
    assert!(*clients.handshake(one) == req && !clients.is_gone(one));
}

#[test]
fn who_comes_under_the_name_of_one_that_has_gone_is_another() {
    let (mut clients, now) = (clients(1, None), Instant::now());
    let one = enter(&mut clients, "one");
    clients.admit(one, 10, now).unwrap();
    clients.on_gone(one);
    assert_eq!(clients.find(b"one"), None);
    let other = enter(&mut clients, "one");
    assert!(other != one && clients.find(b"one") == Some(other));
    assert!(clients.admit(other, 5, now).is_ok());
    clients.on_ended(one, 10, false);
    assert_eq!((clients.bytes(), clients.find(b"one")), (5, Some(other)));
}

#[test]
fn a_listed_client_has_one_limit_for_all_its_connections() {
    let (mut clients, now) = (clients(9, None), Instant::now());
    let listed = |name: &str, outstanding| {
        let limits = Limits { outstanding, ..Limits::default() };
        Handshake { listed: Some(Listed { name: name.into(), limits }), ..Handshake::default() }
    };
    let one = clients.insert(b"1", listed("pump", Some(2)));
    let two = clients.insert(b"2", listed("pump", Some(2)));
    assert!(clients.admit(one, 0, now).is_ok() && clients.admit(two, 0, now).is_ok());
    assert!(clients.admit(one, 0, now).is_err() && clients.admit(two, 0, now).is_err());
    let other = clients.insert(b"3", listed("other", None));
    assert!((0..9).all(|_| clients.admit(other, 0, now).is_ok()));
    assert!(clients.admit(other, 0, now).is_err(), "the service's own limit");
    clients.on_gone(one);
    clients.on_ended(one, 0, false);
    let back = clients.insert(b"4", listed("pump", Some(2)));
    assert!(clients.admit(back, 0, now).is_ok() && clients.admit(two, 0, now).is_err());
}
