use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread::{self, JoinHandle};

use super::*;

const NAME: &str = "_repd._tcp.example.org";

/// What a name server answers over TCP.
type OverTcp = fn(&[u8]) -> Vec<u8>;

/// Returns a name server at a free port, over UDP and TCP, that answers one question there each with
/// what these make of it.
fn server(
    over_udp: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
    over_tcp: Option<OverTcp>,
) -> (SocketAddr, JoinHandle<()>) {
    let (tcp, udp) = loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()) {
            break (tcp, udp);
        }
    };
    let address = udp.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let mut query = [0; 512];
        let (length, from) = udp.recv_from(&mut query).unwrap();
        for reply in over_udp(&query[..length]) {
            udp.send_to(&reply, from).unwrap();
        }
        if let Some(over_tcp) = over_tcp {
            let mut stream = tcp.accept().unwrap().0;
            let mut query = [0; 512];
            let length = stream.read(&mut query).unwrap();
            // As slowly as it may come.
            for byte in over_tcp(&query[2..length]) {
                // Who is told that it is too long does not read it.
                if stream.write_all(&[byte]).is_err() {
                    break;
                }
            }
        }
    });
    (address, thread)
}

/// Returns the reply to a query with one record, at port 9 of the root's `a`.
fn answered(query: &[u8]) -> Vec<u8> {
    let mut reply = query.to_vec();
    reply[2] |= 0x80;
    reply[7] = 1;
    let record = b"\xc0\x0c\0\x21\0\x01\0\0\0\x1e\0\x09\0\x01\0\x02\0\x09\x01a\0";
    [&reply[..], record].concat()
}

fn cut(query: &[u8]) -> Vec<u8> {
    let mut reply = query.to_vec();
    reply[2] |= 0x82;
    reply
}

fn with_length(message: Vec<u8>) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], &message].concat()
}

fn servers(addresses: &[SocketAddr], timeout: u64) -> Servers {
    Servers { addresses: addresses.to_vec(), timeout: Duration::from_millis(timeout), attempts: 1 }
}

fn expected() -> SrvSet {
    let record = Srv { priority: 1, weight: 2, target: "a.".into(), port: 9 };
    SrvSet { records: vec![record], ttl: 30 }
}

#[test]
fn what_is_no_answer_is_passed_over_until_the_answer_comes() {
    let (address, thread) = server(
        |query| {
            let mut other = answered(query);
            other[0] ^= 1;
            let mut question = answered(query);
            question[14] ^= 1;
            vec![Vec::new(), b"garbage".into(), query.to_vec(), other, question, answered(query)]
        },
        None,
    );
    assert_eq!(ask_all(NAME, &servers(&[address], 60_000)), Ok(expected()));
    thread.join().unwrap();
}

#[test]
fn an_answer_that_is_cut_is_asked_for_over_tcp() {
    let over_tcp = |query: &[u8]| with_length(answered(query));
    let (address, thread) = server(|query| vec![cut(query)], Some(over_tcp));
    assert_eq!(ask_all(NAME, &servers(&[address], 60_000)), Ok(expected()));
    thread.join().unwrap();
}

#[test]
fn what_is_wrong_over_tcp_is_refused() {
    for over_tcp in [
        |query: &[u8]| with_length(cut(query)),
        |_: &[u8]| with_length(b"garbage".into()),
        |_: &[u8]| with_length(vec![0; MAX_MESSAGE + 1]),
        |query: &[u8]| with_length(answered(query))[..9].into(),
        |_: &[u8]| Vec::new(),
    ] {
        let (address, thread) = server(|query| vec![cut(query)], Some(over_tcp));
        let error = ask_all(NAME, &servers(&[address], 60_000)).unwrap_err();
        assert!(error.starts_with("the name server 127.0.0.1 does not answer: "), "{error}");
        thread.join().unwrap();
    }
}

#[test]
fn one_server_that_is_silent_refuses_or_is_not_there_leaves_it_to_the_next() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refusing = server(
        |query| {
            let mut reply = cut(query);
            (reply[2], reply[3]) = (0x80, 5);
            vec![reply]
        },
        None,
    );
    let good = server(|query| vec![answered(query)], None);
    assert_eq!(ask_all(NAME, &servers(&[gone, refusing.0, good.0], 60_000)), Ok(expected()));
    let silent = [silent.local_addr().unwrap()];
    let error = ask_all(NAME, &servers(&silent, 100)).unwrap_err();
    assert_eq!(error, "the name server 127.0.0.1 does not answer: timed out");
    [refusing.1, good.1].into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn each_question_has_an_id_of_its_own() {
    let ids: std::collections::HashSet<u64> =
        (0..100).map(|_| RandomState::new().hash_one(()) & 0xffff).collect();
    assert!(ids.len() > 90, "{}", ids.len());
}
