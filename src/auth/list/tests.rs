use proptest::prelude::*;

use super::*;
use crate::auth::KeyPair;

const KEY: &str = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID";
/// A key with a # in it, which none begins with.
const COMMENT_LIKE: &str = "Y#e@$w-vo<fVvi]a<NY6T1#d:M$fCG*[IaLV{hID";

fn key(text: &str) -> PublicKey {
    text.parse().unwrap()
}

#[test]
fn it_has_a_line_for_each_key() {
    let text = format!(
        "# the pumps\n\n  pump-7\t{KEY}   from=10.0.0.0/8,::1 rate=50 # east\r\n\
         pump_8@x.y {COMMENT_LIKE} #west\n\
         {} {:x} until=2026-12-31 outstanding=9",
        "o".repeat(64),
        KeyPair::new().unwrap().public
    );
    let list = List::parse(&text).unwrap();
    assert_eq!(list.len(), 3);
    let find = |key, address: &str, now| list.find(&key, address.parse().ok(), now);
    let now = SystemTime::UNIX_EPOCH;
    let pump = find(key(KEY), "10.1.1.1", now).unwrap();
    assert_eq!(&*pump.name, "pump-7");
    assert_eq!(pump.limits, Limits { rate: Some(50), ..Limits::default() });
    assert_eq!(find(key(KEY), "::1", now), Ok(pump));
    assert_eq!(find(key(KEY), "11.0.0.1", now), Err((Refusal::Elsewhere, Some(pump))));
    assert_eq!(list.find(&key(KEY), None, now), Err((Refusal::Elsewhere, Some(pump))));
    assert_eq!(&*find(key(COMMENT_LIKE), "::2", now).unwrap().name, "pump_8@x.y");
    let stranger = KeyPair::new().unwrap().public;
    assert_eq!(find(stranger, "10.1.1.1", now), Err((Refusal::Unknown, None)));
}

#[test]
fn a_key_is_valid_to_the_end_of_its_last_day() {
    assert!(List::parse(&format!("a {KEY} until=9999-12-31")).is_ok());
    for (wrong, why) in [
        ("2027-02-29", "a day that this year does not have"),
        ("2027-13-01", "a month too many"),
        ("2027-00-10", "no month"),
        ("2027-01-00", "no day"),
        ("1969-12-31", "before 1970"),
        ("2027-1-001", "digits elsewhere"),
        ("2027-01-1", "too few digits"),
        ("2027-01-011", "too many digits"),
        ("+027-01-01", "a sign"),
        ("2027/01/01", "no hyphens"),
        ("202\u{e9}-01-01", "no digits"),
    ] {
        assert!(List::parse(&format!("a {KEY} until={wrong}")).is_err(), "{why}");
    }
    let list = List::parse(&format!("a {KEY} until=1970-02-28")).unwrap();
    let at = |time| list.find(&key(KEY), None, SystemTime::UNIX_EPOCH + time).map(|_| ());
    let end = 59 * DAY;
    assert_eq!(at(end - Duration::from_secs(1)), Ok(()));
    assert_eq!(at(end).map_err(|(why, _)| why), Err(Refusal::Expired));
}

/// Each day of 1,600 years, in order.
#[test]
fn a_date_is_the_day_that_is_written_so() {
    for days in 0..584_388 {
        let begin = SystemTime::UNIX_EPOCH + DAY * days;
        let text = humantime::format_rfc3339_seconds(begin).to_string();
        assert_eq!(super::parse_date(&text[..10]), Ok(begin + DAY), "{text}");
    }
}

#[test]
fn who_changes_his_key_has_two_for_a_while() {
    let other = KeyPair::new().unwrap().public;
    let list = format!("a {KEY} until=2030-01-01 rate=5\na {other} rate=5");
    assert_eq!(List::parse(&list).unwrap().len(), 2);
    let mistake = List::parse(&list.replace("\na", "\n\n# new\na").replace("=5\n", "=6\n"));
    assert_eq!(mistake.unwrap_err().0, 4);
}

#[test]
fn a_client_is_found_by_its_name_with_its_limits() {
    let list = List::parse(&format!("a {KEY} rate=5 outstanding=9")).unwrap();
    let limits = Limits { rate: Some(5), outstanding: Some(9), ..Limits::default() };
    let found = list.by_name("a").unwrap();
    assert_eq!((&*found.name, found.limits), ("a", limits));
    assert!(list.by_name("b").is_none());
    assert!(list.has_rates());
    assert!(!List::parse(&format!("a {KEY} outstanding=9")).unwrap().has_rates());
}

#[test]
fn the_next_key_to_expire_is_the_first_that_is_still_valid() {
    let [other, third] = [(); 2].map(|()| KeyPair::new().unwrap().public);
    let text = format!("a {KEY} until=1970-01-03\nb {other} until=1970-01-02\nc {third}");
    let list = List::parse(&text).unwrap();
    let [begin, second, third] = [0, 2, 3].map(|days| SystemTime::UNIX_EPOCH + DAY * days);
    assert_eq!(list.next_expiry(begin), Some(second));
    assert_eq!(list.next_expiry(second), Some(third), "it is not valid any more");
    assert_eq!(list.next_expiry(third), None);
}

#[test]
fn what_has_changed_in_a_list_is_counted_by_key_and_client() {
    let other = KeyPair::new().unwrap().public;
    let parse = |text: &str| List::parse(text).unwrap();
    let one = parse(&format!("a {KEY}"));
    for (text, changed) in [
        (format!("a {KEY} rate=5"), "1 (+0 -0)"),
        (format!("a {KEY}\nb {other}"), "2 (+1 -0)"),
        (format!("b {KEY}"), "1 (+1 -1)"),
        (String::new(), "0 (+0 -1)"),
    ] {
        assert_eq!(parse(&text).compared_with(&one), changed, "{text}");
    }
}

#[test]
fn a_mistake_is_quoted_unless_it_may_be_a_secret_key() {
    for (word, shown) in [
        ("Rate=5", "\"Rate=5\" is no option"),
        ("rate=\u{1b}", r#""rate=\u{1b}" is out of range"#),
        (&"+".repeat(39), &format!("\"{}\" is no option", "+".repeat(39))),
        (&"+".repeat(40), "a word that looks like a key is no option"),
        (&"f".repeat(40), "a word that looks like a key is no option"),
        (&format!("from={KEY}"), "a word that looks like a key is no network"),
        (&format!("'{KEY}'"), "a word that looks like a key is no option"),
    ] {
        let (_, what) = List::parse(&format!("a {KEY} {word}")).unwrap_err();
        assert!(what.starts_with(shown), "{word:?}: {what}");
    }
}

#[test]
fn an_empty_list_lets_nobody_in() {
    for empty in ["", "\n", "# nobody\n", " \t \r\n"] {
        let list = List::parse(empty).unwrap();
        assert_eq!(list.len(), 0);
        let found = list.find(&key(KEY), None, SystemTime::UNIX_EPOCH);
        assert_eq!(found, Err((Refusal::Unknown, None)));
    }
}

#[test]
fn each_mistake_is_refused_with_its_line() {
    let long = "a".repeat(65);
    let line = |words: &str| words.replace("KEY", KEY);
    for (text, why) in [
        ("a", "a key is missing"),
        ("a\t", "a key is missing"),
        ("KEY", "a key is missing"),
        ("KEY a", "a name is missing"),
        ("KEY KEY", "a name is missing"),
        ("a # KEY", "the key of a is none"),
        ("a key", "the key of a is none"),
        ("a \"KEY\"", "the key of a is none"),
        ("a KEYa", "the key of a is none"),
        ("a 0123456789abcdef", "the key of a is none"),
        ("ä KEY", "is no name"),
        ("a:b KEY", "is no name"),
        ("a/b KEY", "is no name"),
        ("a\u{0}b KEY", "is no name"),
        ("\u{feff}a KEY", "is no name"),
        ("a\u{a0}b KEY", "is no name"),
        (&format!("{long} KEY"), "is no name"),
        ("a KEY rate", "is no option"),
        ("a KEY Rate=5", "is no option"),
        ("a KEY rates=5", "is no option"),
        ("a KEY =5", "is no option"),
        ("a KEY b KEY", "is no option"),
        ("a KEY rate=", "is out of range"),
        ("a KEY rate=0", "is out of range"),
        ("a KEY rate=-1", "is out of range"),
        ("a KEY rate=+1", "is out of range"),
        ("a KEY rate=1.5", "is out of range"),
        ("a KEY rate=5/s", "is out of range"),
        ("a KEY rate=1000001", "is out of range"),
        ("a KEY outstanding=0", "is out of range"),
        ("a KEY outstanding=99999999999999999999", "is out of range"),
        ("a KEY connections=0", "out of range"),
        ("a KEY connections=1 connections=1", "given twice"),
        ("a KEY rate=5 rate=5", "given twice"),
        ("a KEY from=::1 from=::2", "given twice"),
        ("a KEY until=2030-01-01 until=2030-01-01", "given twice"),
        ("a KEY from=", "is no network"),
        ("a KEY from=::1,", "is no network"),
        ("a KEY from=10.0.0.0/33", "is no network"),
        ("a KEY from=10.0.0.1/8", "give 10.0.0.0/8"),
        ("a KEY from=::1,010.0.0.0/8", "has leading zeros: give 10.0.0.0/8"),
        ("a KEY from=localhost", "is no network"),
        ("a KEY until=", "is no date"),
        ("a KEY until=tomorrow", "is no date"),
        ("a KEY until=2030-02-30", "is no date"),
        ("a KEY until=2030-1-1", "is no date"),
        ("a KEY until=1969-01-01", "is no date"),
        ("a KEY until=2030-01-01T00:00", "is no date"),
        ("b KEY", "has this key already"),
    ] {
        let text = format!("first {KEY}\n\n{}\n", line(text));
        // Of the same key twice only the last one is about.
        let text = if why.contains("already") {
            text
        } else {
            text.replacen(KEY, &KeyPair::new().unwrap().public.to_string(), 1)
        };
        let (number, what) = List::parse(&text).expect_err(&text);
        assert!(number == 3 && what.contains(why), "{text:?}: {number}: {what}");
        assert!(!what.contains(char::is_control), "{what:?}");
    }
}

proptest! {
    #[test]
    fn whatever_is_written_is_a_list_or_a_mistake(text in "[ \\ta#=\\n\\PC]{0,200}") {
        if let Err((line, what)) = List::parse(&text) {
            prop_assert!((1..=text.lines().count()).contains(&line), "{line}");
            prop_assert!(!what.is_empty() && !what.contains('\n'));
        }
    }

    #[test]
    fn what_is_right_with_one_byte_changed_lets_in_no_other(at in 0..44_usize, byte in 32..127_u8) {
        let right = format!("ab {KEY}");
        let mut changed = right.clone().into_bytes();
        let at = at.min(changed.len() - 1);
        changed[at] = byte;
        let changed = String::from_utf8(changed).unwrap();
        if let Ok(list) = List::parse(&changed) {
            let is_let_in = list.find(&key(KEY), None, SystemTime::UNIX_EPOCH).is_ok();
            prop_assert_eq!(is_let_in, changed[3..] == *KEY && !changed.starts_with('#'));
        }
    }
}
