use proptest::collection::vec;
use proptest::prelude::*;
use simple_dns::rdata::{A, CNAME, RData, SRV, TXT};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};

use super::*;

const NAME: &str = "_repd._tcp.example.org";

fn query() -> Query {
    Query::new("_Repd._tcp.example.org.", 7)
}

/// Returns the reply of a name server to the query, with these records.
fn reply(records: &[(&str, u32, RData<'static>)]) -> Packet<'static> {
    let asked = query().bytes().to_vec().leak();
    let mut packet = Packet::parse(asked).unwrap().into_reply();
    let record = |(name, ttl, data): &(&str, u32, RData<'static>)| {
        let name = Name::new(name.to_string().leak()).unwrap();
        ResourceRecord::new(name, CLASS::IN, *ttl, data.clone())
    };
    packet.answers.extend(records.iter().map(record));
    packet
}

fn srv(priority: u16, weight: u16, port: u16, target: &'static str) -> RData<'static> {
    RData::SRV(SRV { priority, weight, port, target: Name::new(target).unwrap() })
}

fn read(packet: &Packet<'_>) -> Option<Reply> {
    let (plain, compressed) =
        (packet.build_bytes_vec().unwrap(), packet.build_bytes_vec_compressed().unwrap());
    let read = query().read(&plain);
    assert_eq!(read, query().read(&compressed));
    read
}

fn records(packet: &Packet<'_>) -> (Vec<(u16, u16, String, u16)>, u32) {
    let Some(Reply::Records(set)) = read(packet) else { panic!("no records: {:?}", read(packet)) };
    let records = set.records.into_iter().map(|it| (it.priority, it.weight, it.target, it.port));
    (records.collect(), set.ttl)
}

#[test]
fn the_question_is_that_for_the_srv_records_of_the_name() {
    let query = query();
    let packet = Packet::parse(query.bytes()).unwrap();
    assert_eq!((packet.id(), packet.questions.len()), (7, 1));
    assert!(packet.has_flags(PacketFlag::RECURSION_DESIRED));
    assert_eq!(packet.questions[0].qname, Name::new(NAME).unwrap());
    assert_eq!(packet.questions[0].qtype, QTYPE::TYPE(TYPE::SRV));
}

#[test]
fn records_come_by_priority_with_the_least_time_for_which_all_hold() {
    let packet = reply(&[
        (NAME, 300, srv(20, 0, 2, "b.example.org")),
        ("_REPD._tcp.Example.org", 30, srv(10, 3, 1, "A.example.org")),
        (NAME, 60, srv(10, 1, 3, "a.example.org")),
        (NAME, 5, RData::A(A { address: 1 })),
        ("other.example.org", 1, srv(1, 1, 1, "c.example.org")),
    ]);
    let (a, b) = ("a.example.org.".to_string(), "b.example.org.".to_string());
    let expected = vec![(10, 1, a.clone(), 3), (10, 3, a, 1), (20, 0, b, 2)];
    assert_eq!(records(&packet), (expected, 30));
}

#[test]
fn a_name_may_stand_for_another_but_not_for_ever() {
    let alias = |to| RData::CNAME(CNAME(Name::new(to).unwrap()));
    let own = ("x.example.net", 60, srv(1, 1, 1, "a.example.org"));
    let packet = reply(&[
        own.clone(),
        ("y.example.net", 9, alias("x.example.net")),
        (NAME, 30, alias("y.example.net")),
    ]);
    assert_eq!(records(&packet), (vec![(1, 1, "a.example.org.".into(), 1)], 9));
    let circle =
        reply(&[(NAME, 30, alias("y.example.net")), ("y.example.net", 9, alias(NAME)), own]);
    assert_eq!(read(&circle), Some(Reply::None));
}

#[test]
fn what_says_that_there_is_nothing_is_told_apart() {
    assert_eq!(read(&reply(&[])), Some(Reply::None));
    // There is no such service, says its owner: RFC 2782.
    assert_eq!(records(&reply(&[(NAME, 30, srv(0, 0, 0, "."))])), (Vec::new(), 30));
    let with_code = |code| {
        let mut packet = reply(&[]);
        *packet.rcode_mut() = code;
        read(&packet)
    };
    assert_eq!(with_code(RCODE::NameError), Some(Reply::None));
    assert_eq!(with_code(RCODE::ServerFailure), Some(Reply::Refused(RCODE::ServerFailure)));
    let mut cut = reply(&[]);
    cut.set_flags(PacketFlag::TRUNCATION);
    assert_eq!(read(&cut), Some(Reply::Truncated));
}

#[test]
fn what_cannot_be_used_is_left_out_and_of_too_many_records_the_rest() {
    let packet = reply(&[
        (NAME, 30, srv(1, 1, 0, "a.example.org")),
        (NAME, 30, srv(1, 1, 1, r"a\.b.example.org")),
        (NAME, 30, srv(1, 1, 1, r"a\032b.example.org")),
        (NAME, 30, srv(1, 1, 1, r"a\010b.example.org")),
        (NAME, u32::MAX, srv(1, 1, 2, "a.example.org")),
        (NAME, 30, srv(1, 1, 2, "a.example.org")),
    ]);
    // A time that would be negative is none.
    assert_eq!(records(&packet), (vec![(1, 1, "a.example.org.".into(), 2)], 0));
    let many: Vec<_> = (1..=300).map(|port| (NAME, 30, srv(1, 1, port, "a.example.org"))).collect();
    assert_eq!(records(&reply(&many)).0.len(), 64);
}

#[test]
fn what_answers_no_or_another_question_is_no_reply() {
    let packet = reply(&[(NAME, 30, srv(1, 1, 1, "a.example.org"))]);
    let good = packet.build_bytes_vec().unwrap();
    assert!(query().read(&good).is_some());
    assert_eq!(Query::new(NAME, 8).read(&good), None);
    assert_eq!(Query::new("_repd._tcp.example.com", 7).read(&good), None);
    assert_eq!(query().read(query().bytes()), None);
    for (at, what) in
        [(2, "the kind of question"), (5, "the number of questions"), (35, "the type")]
    {
        let mut wrong = good.clone();
        wrong[at] ^= 0b0000_1000;
        assert_eq!(query().read(&wrong), None, "{what}");
    }
    // Cut anywhere, it is none.
    (0..good.len()).for_each(|length| assert_eq!(query().read(&good[..length]), None, "{length}"));
}

#[test]
fn names_that_lead_to_themselves_or_forward_are_refused() {
    let header = query().bytes().to_vec();
    let question = 12..header.len();
    for name in [[0xc0, 12], [0xc0, 14], [0xff, 0xff], [0x40, 0], [0x80, 0]] {
        let mut message = header.clone();
        message[2] |= 0x80;
        message.splice(question.clone(), name.into_iter().chain([0, 33, 0, 1]));
        assert_eq!(query().read(&message), None, "{name:?}");
        let mut message = header.clone();
        message[2] |= 0x80;
        message[7] = 1;
        // That of the question, to which it may lead, is in front of this one.
        let name = if name == [0xc0, 12] { [0xc0, header.len() as u8] } else { name };
        message.extend(name.into_iter().chain([0, 33, 0, 1, 0, 0, 0, 9, 0, 0]));
        assert_eq!(query().read(&message), None, "{name:?}");
    }
    // As long as names get: its labels are used again and again.
    let mut message = header.clone();
    message[2] |= 0x80;
    message[7] = 1;
    message.extend([b"\x3f".as_slice(), &[b'a'; 63], b"\xc0\x0c\0"].concat());
    message.extend([0, 33, 0, 1, 0, 0, 0, 9, 0, 0]);
    assert_eq!(query().read(&message), None);
}

#[test]
fn only_names_that_can_be_asked_for_are_names() {
    for name in [NAME, "_a._b.c.", &format!("_a._b.{}", "c".repeat(63))] {
        assert!(is_name(name), "{name}");
    }
    let long = ["a"; 127].join(".");
    assert!(is_name(&long) && !is_name(&format!("{long}.a")));
    for wrong in ["", ".", "a..b", "a..", ".a", "a b", "a\\.b", "ä.b", &"a".repeat(64)] {
        assert!(!is_name(wrong), "{wrong:?}");
    }
}

fn any_record() -> impl Strategy<Value = (&'static str, u32, RData<'static>)> {
    let name = prop_oneof![Just(NAME), Just("x.example.net"), Just("_REPD._tcp.example.org")];
    let target = prop_oneof![Just("a.example.org"), Just("."), Just("B.example.org")];
    let data = prop_oneof![
        (any::<(u16, u16, u16)>(), target).prop_map(|((a, b, c), to)| srv(a, b, c, to)),
        Just(RData::CNAME(CNAME(Name::new("x.example.net").unwrap()))),
        Just(RData::TXT(TXT::new().with_string("text").unwrap())),
    ];
    (name, any::<u32>(), data)
}

proptest! {
    #[test]
    fn any_bytes_are_read_to_an_end(bytes in vec(any::<u8>(), 0..600)) {
        let _ = query().read(&bytes);
        let start = query().bytes().to_vec();
        let reply = [&start[..2], b"\x81\x80\0\x01\xff\xff\0\0\0\0", &start[12..], &bytes].concat();
        let _ = query().read(&reply);
    }

    #[test]
    fn a_reply_that_was_changed_somewhere_is_read_to_an_end(
        records in vec(any_record(), 0..9),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = reply(&records).build_bytes_vec_compressed().unwrap();
        prop_assert!(query().read(&bytes).is_some());
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(Reply::Records(set)) = query().read(&bytes) {
            prop_assert!(set.records.len() <= MAX_RECORDS);
            prop_assert!(set.records.iter().all(|it| is_name(&it.target) && it.port != 0));
        }
    }
}
