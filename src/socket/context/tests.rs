use std::ffi::c_int;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};

use crate::config::Config;
use crate::endpoint::Listener;
use crate::frame::Frame;
use crate::socket::curve::{ClientKeys, key_pair};
use crate::socket::{Context, Event, Monitored, ServerKeys, Socket, wait};

fn router(context: &Context, limits: &[(u32, c_int)]) -> Socket {
    let socket = context.router(&Config::default().peer_limits(), usize::MAX).unwrap();
    limits.iter().for_each(|&(option, limit)| socket.set_option(option, limit).unwrap());
    socket
}

fn listen(socket: &Socket) -> SocketAddrV4 {
    let listener =
        Listener::bind(&"tcp://127.0.0.1:*".parse().unwrap(), 10, &[]).unwrap().remove(0);
    listener.listen().unwrap();
    socket.listen(vec![listener], None).unwrap().0[0]
        .strip_prefix("tcp://")
        .unwrap()
        .parse()
        .unwrap()
}

/// Connects from 127.0.0.`host`. Returns the connection, or `None` if the service closes it
/// before it sends a greeting.
fn knock(host: u8, address: SocketAddrV4) -> Option<TcpStream> {
    let client = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
    let client = client.unwrap();
    bind(client.as_raw_fd(), &SockaddrIn::new(127, 0, 0, host, 0)).unwrap();
    connect(client.as_raw_fd(), &SockaddrIn::from(address)).unwrap();
    let mut client = TcpStream::from(client);
    client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    match client.read_exact(&mut [0; 10]) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("waited in vain"),
        greeted => greeted.is_ok().then_some(client),
    }
}

#[test]
fn where_keys_are_wanted_nobody_gets_in_if_no_handler_says_who() {
    let context = Context::new(1).unwrap();
    let socket = router(&context, &[]);
    let listener =
        Listener::bind(&"tcp://127.0.0.1:*".parse().unwrap(), 10, &[]).unwrap().remove(0);
    listener.listen().unwrap();
    let [(server, secret), (public, own)] = [key_pair().unwrap(), key_pair().unwrap()];
    let keys = ServerKeys { secret: &secret, domain: "clients", check: None };
    let endpoint = socket.listen(vec![listener], Some(keys)).unwrap().0[0].parse().unwrap();
    let keys = ClientKeys { public, secret: own, server };
    let wait_time = Duration::from_secs(60);
    let Monitored { socket: client, monitor } =
        context.monitored_req(&endpoint, wait_time, Some(&keys)).unwrap();
    client.send_frame(&mut Frame::from("let me in"), false).unwrap();
    loop {
        match monitor.next().unwrap() {
            Some(Event::Disconnected) => break,
            Some(event) => assert_ne!(event, Event::Ready),
            None => wait(&mut [monitor.readable()], Some(wait_time)).unwrap(),
        }
    }
    assert!(!socket.try_recv_frame(&mut Frame::default()).unwrap());
}

#[test]
fn connections_over_the_limit_are_closed_at_once() {
    let context = Context::new(1).unwrap();
    let socket = router(&context, &[(zmq_sys::ZMQ_MAX_CONNECTIONS, 2)]);
    // One limit for both endpoints together.
    let addresses = [listen(&socket), listen(&socket)];
    let held = addresses.map(|address| knock(1, address));
    assert!(held.iter().all(Option::is_some));
    (0..10).for_each(|n| assert!(knock(1, addresses[n % 2]).is_none()));
    drop(held);
    while knock(1, addresses[0]).is_none() {}
}

#[test]
fn handshakes_under_way_are_bounded_in_all_and_from_one_host() {
    let context = Context::new(1).unwrap();
    let limits = [(zmq_sys::ZMQ_MAX_HANDSHAKES, 16), (zmq_sys::ZMQ_MAX_HANDSHAKES_FROM, 8)];
    let socket = router(&context, &limits);
    let address = listen(&socket);
    // Near a limit one attempt in four is accepted, or one in eight.
    let all_from = |host| (0..500).filter_map(|_| knock(host, address)).collect::<Vec<_>>();
    let mut first = all_from(1);
    assert_eq!(first.len(), 8);
    let second = all_from(2);
    assert_eq!(second.len(), 8);
    assert_eq!(all_from(3).len(), 0);
    // A connection whose handshake is done does not count any more.
    let greeting = [b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01NULL".to_vec(), vec![0; 48]].concat();
    first[0].write_all(&greeting).unwrap();
    first[0].write_all(b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03REQ").unwrap();
    first[0].read_exact(&mut [0; 54 + 30]).unwrap();
    let mut third = all_from(3);
    assert_eq!(third.len(), 1);
    drop(second);
    while third.len() < 8 {
        third.extend(knock(3, address));
    }
    assert_eq!(all_from(3).len(), 0);
}
