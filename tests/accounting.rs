//! What the soak makes of replies, of counters and of the memory that it sees: each fault is noticed.

#[allow(dead_code)]
#[path = "soak/account.rs"]
mod account;
mod common;
#[allow(dead_code)]
#[path = "soak/counters.rs"]
mod counters;
#[allow(dead_code)]
#[path = "soak/figures.rs"]
mod figures;
#[path = "soak/options.rs"]
mod options;

use std::time::Duration;

use account::{Account, Allowed, ECHO, Handled, Totals, number_of};
use counters::Counters;
use figures::{MAX_GROWTH, MIB, Sample, Slope, descriptor_slope, memory_slope};

fn fault(code: &str) -> Vec<Vec<u8>> {
    ["REPD-ERROR", code, "why"].map(Vec::from).into()
}

#[test]
fn a_request_has_one_outcome() {
    let account = Account::default();
    let asked: Vec<_> = (0..4).map(|_| account.ask(ECHO, Allowed::reply_or(&[502]))).collect();
    assert!(asked.iter().all(|(number, body)| number_of(body) == Some(*number)));
    account.note(0, &[asked[0].1.clone()]);
    account.note(1, &fault("502"));
    account.leave(2);
    assert_eq!(account.totals().wrong(), ["unanswered requests: 1"]);
    account.note(3, &[asked[3].1.clone()]);
    account.settle();
    let totals = account.totals();
    assert!(totals.is_complete() && totals.wrong().is_empty(), "{totals:?}");
    assert_eq!((totals.asked, totals.replies, totals.errors[&502], totals.left), (4, 2, 1, 1));
}

#[test]
fn a_reply_that_is_anothers_or_wrong_or_not_allowed_or_comes_twice_is_noticed() {
    type Reply = fn(&[u8], &[u8]) -> Vec<Vec<u8>>;
    let cases: [(&str, Reply); 7] = [
        ("swapped replies: 1", |_, other| vec![other.into()]),
        ("swapped replies: 1", |_, _| vec![]),
        ("swapped replies: 1", |_, _| vec![b"".into()]),
        ("wrong replies: 1", |own, _| vec![[own, b"x"].concat()]),
        ("wrong replies: 1", |own, _| vec![own.into(), b"".into()]),
        ("wrong replies: 1", |_, _| fault("503")),
        ("", |own, _| vec![own.into()]),
    ];
    for (what, reply) in cases {
        let account = Account::default();
        let (number, own) = account.ask(ECHO, Allowed::reply_or(&[502]));
        let (other, body) = account.ask(ECHO, Allowed::REPLY);
        account.note(other, std::slice::from_ref(&body));
        account.note(number, &reply(&own, &body));
        let wrong = account.totals().wrong();
        assert_eq!(wrong.first().map_or("", String::as_str), what, "{wrong:?}");
        account.note(number, &[own]);
        let wrong = account.totals().wrong();
        assert!(wrong.iter().any(|line| line == "replies that came twice: 1"), "{wrong:?}");
        assert!(account.totals().is_complete());
    }
    let account = Account::default();
    let (number, body) = account.ask(ECHO, Allowed::only(&[504]));
    account.note(number, &[body]);
    assert_eq!(account.totals().wrong()[0], "wrong replies: 1");
}

#[test]
fn a_request_that_is_handled_twice_is_noticed() {
    let handled = Handled::default();
    [0, 63, 64, 1000, 5].into_iter().for_each(|number| handled.mark(number));
    assert_eq!(handled.count(), (5, 0));
    [64, 6].into_iter().for_each(|number| handled.mark(number));
    assert_eq!(handled.count(), (6, 1));
}

#[test]
fn a_service_whose_counters_are_others_than_its_clients_count_is_noticed() {
    let line = "info: stopped: requests: 12, replies: 7, 502: 3, withdrawn: 2, retried: 4, \
                hedged: 5, of these, won: 1";
    let told = Counters::of_line(line).unwrap();
    assert_eq!((told.requests, told.errors[&502], told.retried, told.hedged), (12, 3, 4, 5));
    let errors = || [(502, 3)].into();
    let totals = Totals { asked: 13, replies: 6, errors: errors(), left: 4, ..Totals::default() };
    assert_eq!(told.disagreements(&totals, false), [""; 0]);
    let wrong = |told: Counters, totals: &Totals, has_strangers: bool, text: &str| {
        let wrong = told.disagreements(totals, has_strangers).join("\n");
        assert!(wrong.contains(text) && !text.is_empty(), "{wrong:?}");
    };
    let more = Totals { asked: 17, ..totals.clone() };
    wrong(told.clone(), &more, false, "requests: the service counts 12, its clients 13, and 4");
    wrong(told.clone(), &more, true, "requests: the service counts 12");
    let less = Totals { left: 0, asked: 9, ..totals.clone() };
    assert_eq!(told.disagreements(&less, true), [""; 0]);
    wrong(told.clone(), &less, false, "replies: the service counts 7, its clients 6, and 0");
    let other = Counters { withdrawn: 1, ..told.clone() };
    wrong(other, &totals, true, "do not add up");
    let mut twice = told.clone();
    twice.add(&told);
    assert_eq!((twice.requests, twice.errors[&502], twice.hedged), (24, 6, 10));
}

/// Looks at a service once a second: at memory that is `grown` after each, with bursts and noise.
fn samples(seconds: u64, grown: impl Fn(f64) -> f64) -> Vec<Sample> {
    let mut dice = fastrand::Rng::with_seed(seconds);
    let sample = |second: u64| {
        let burst = if dice.u32(..5) == 0 { 3.0 * MIB * dice.f64() } else { 0.0 };
        let noise = 0.05 * MIB * dice.f64();
        let memory = (6.0 * MIB + grown(second as f64) + burst + noise) as u64;
        Sample { at: Duration::from_secs(second), memory, descriptors: 20 + second }
    };
    (0..seconds).map(sample).collect()
}

#[test]
fn memory_that_grows_is_noticed_and_bursts_and_a_beginning_are_not() {
    let grows = |seconds, grown: &dyn Fn(f64) -> f64| {
        memory_slope(&samples(seconds, grown)).unwrap().rises_by_more_than(MAX_GROWTH)
    };
    for (seconds, requests_per_second) in [(180, 1000.0), (3600, 1000.0)] {
        assert!(!grows(seconds, &|_| 0.0));
        assert!(!grows(seconds, &|second| 2.0 * MIB * (second / 20.0).min(1.0)));
        // Of each request, some bytes.
        assert!(grows(seconds, &|second| 100.0 * requests_per_second * second));
    }
    assert!(grows(3600, &|second| 2.0 * MIB * second / 3600.0));
    assert!(!grows(3600, &|second| 0.5 * MIB * second / 3600.0));
    assert!(memory_slope(&samples(30, |_| 0.0)).is_none());
    let slope = descriptor_slope(&samples(60, |_| 0.0)).unwrap();
    assert!((slope.per_hour - 3600.0).abs() < 1e-6, "{slope:?}");
}

#[test]
fn a_slope_is_what_it_is_by_hand() {
    // Slope 0.6 a second, squares of the rest 2.4 in all, standard error 0.2828.
    let points = [(1.0, 2.0), (2.0, 4.0), (3.0, 5.0), (4.0, 4.0), (5.0, 5.0)];
    let slope = Slope::of(&points).unwrap();
    assert!((slope.per_hour / 3600.0 - 0.6).abs() < 1e-9, "{slope:?}");
    assert!((slope.error / 3600.0 - 0.28284).abs() < 1e-4, "{slope:?}");
    assert!((slope.growth - 2.4).abs() < 1e-9, "{slope:?}");
    assert!(Slope::of(&points[..2]).is_none());
}

#[test]
fn the_soak_is_as_long_as_it_is_told_and_does_not_run_for_others() {
    let time = |arguments: &str| {
        options::time(arguments.split_whitespace().map(String::from))
            .map(|time| time.map_or(0, |time| time.as_secs()))
    };
    assert_eq!(time("--minutes 60"), Ok(3600));
    for given in ["", "--nocapture", "so", "--test-threads 1", "--include-ignored", "other soak"] {
        assert_eq!(time(given), Ok(5), "{given}");
    }
    for given in ["other", "--list", "--ignored", "--skip soak", "--minutes 60 other"] {
        assert_eq!(time(given), Ok(0), "{given}");
    }
    for given in ["--minutes", "--minutes x", "--minutes 0", "--minutes -1", "--minutes inf"] {
        assert!(time(given).unwrap_err().contains("give a number"), "{given}");
    }
}
