//! What must hold of what a name server answers, whatever it is.

use simple_dns::rdata::SRV;

use super::*;

/// Reads a message, as the answer to the question of that number for these records.
pub fn dns_reply(bytes: &[u8]) {
    let query = Query::new("_repd._tcp.example.org", 7);
    let reply = query.read(bytes);
    if let [high, low, rest @ ..] = bytes {
        let other = [&[*high, low ^ 1], rest].concat();
        assert!(reply.is_none() || query.read(&other).is_none(), "it answers another question");
    }
    let Some(Reply::Records(set)) = reply else { return };
    let SrvSet { records, ttl } = &set;
    assert!(records.len() <= MAX_RECORDS && *ttl <= i32::MAX as u32);
    assert!(records.is_sorted_by(|one, next| one < next), "each once, in order");
    for Srv { target, port, .. } in records {
        assert!(*port > 0 && is_name(target) && target.ends_with('.'));
        assert_eq!(target.to_ascii_lowercase(), *target);
    }
    if !records.is_empty() {
        assert_eq!(query.read(&written(&query, &set)), Some(Reply::Records(set)));
    }
}

/// Returns the message that answers a question with these records.
fn written(query: &Query, set: &SrvSet) -> Vec<u8> {
    let mut packet = Packet::parse(query.bytes()).expect("a question is a message").into_reply();
    for Srv { priority, weight, target, port } in &set.records {
        let target = Name::new_unchecked(target.trim_end_matches('.'));
        let srv = SRV { priority: *priority, weight: *weight, port: *port, target };
        let name = Name::new_unchecked(&query.name);
        packet.answers.push(ResourceRecord::new(name, CLASS::IN, set.ttl, RData::SRV(srv)));
    }
    packet.build_bytes_vec_compressed().expect("it is written to memory")
}
