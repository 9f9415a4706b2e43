//! The load and the responders for nats-server, by its text protocol (docs.nats.io, "Client
//! Protocol").

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::thread::{scope, spawn};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use repd::bench::{Clients, Outcome};

use crate::Failure;

const CLOSED: &str = "nats-server closed the connection";

struct Connection {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
    /// Bytes to be written before the next wait.
    out: Vec<u8>,
}

struct Message {
    subject: String,
    reply_to: Option<String>,
    body: Vec<u8>,
}

impl Connection {
    fn open(address: &str) -> Result<Connection, Failure> {
        let writer = TcpStream::connect(address)?;
        writer.set_nodelay(true)?;
        let reader = BufReader::with_capacity(1 << 16, writer.try_clone()?);
        let out = b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n".to_vec();
        Ok(Connection { reader, writer, out })
    }

    fn publish(&mut self, subject: &str, reply_to: &str, body: &[u8]) {
        self.out.extend(format!("PUB {subject} {reply_to} {}\r\n", body.len()).bytes());
        self.out.extend(body);
        self.out.extend(b"\r\n");
    }

    /// Returns the next message. Writes what is to be written before it waits for one.
    fn receive(&mut self) -> Result<Message, Failure> {
        loop {
            if !self.reader.buffer().contains(&b'\n') && !self.out.is_empty() {
                self.writer.write_all(&self.out)?;
                self.out.clear();
            }
            let mut line = String::new();
            if self.reader.read_line(&mut line)? == 0 {
                return Err(CLOSED.into());
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["MSG", subject, _, ref rest @ .., length] => {
                    let mut body = vec![0; length.parse::<usize>()? + 2];
                    self.reader.read_exact(&mut body)?;
                    body.truncate(body.len() - 2);
                    let reply_to = rest.first().map(|&subject| subject.into());
                    return Ok(Message { subject: subject.into(), reply_to, body });
                }
                ["PING"] => self.out.extend(b"PONG\r\n"),
                ["-ERR", ..] => return Err(line.into()),
                _ => (),
            }
        }
    }
}

/// Runs `workers` responders in a queue group, each of which replies with the request reversed.
pub fn respond(address: &str, workers: usize) -> Result<(), Failure> {
    let responders: Vec<_> =
        (0..workers).map(|_| subscribe(address)).collect::<Result<_, Failure>>()?;
    eprintln!("listening on {address}");
    let threads: Vec<_> =
        responders.into_iter().map(|connection| spawn(move || reverse(connection))).collect();
    threads.into_iter().for_each(|thread| drop(thread.join()));
    Ok(())
}

/// Returns the connection of a responder whose subscription nats-server has confirmed.
fn subscribe(address: &str) -> Result<Connection, Failure> {
    let mut connection = Connection::open(address)?;
    connection.out.extend(b"SUB reverse workers 1\r\nPING\r\n");
    connection.writer.write_all(&connection.out)?;
    connection.out.clear();
    let mut line = String::new();
    // INFO comes first. PONG comes after the subscription.
    while line.trim() != "PONG" {
        line.clear();
        if connection.reader.read_line(&mut line)? == 0 {
            return Err(CLOSED.into());
        }
    }
    Ok(connection)
}

/// Replies to each request with its body reversed.
fn reverse(mut connection: Connection) -> Result<(), Failure> {
    loop {
        let mut message = connection.receive()?;
        message.body.reverse();
        let reply_to = message.reply_to.unwrap_or_default();
        connection.publish(&reply_to, "", &message.body);
    }
}

/// Runs the load of `repd bench` with clients of nats-server, each a connection with an inbox of
/// its own.
pub fn load(
    address: &str,
    clients: Clients,
    body: &[u8],
    warmup: Duration,
    time: Duration,
) -> Result<Outcome, Failure> {
    let (connections, outstanding) = match clients {
        Clients::Req(clients) => (clients, 1),
        Clients::Pipeline(outstanding) => (1, outstanding),
        Clients::OpenLoop { .. } => return Err("its clients wait for their replies".into()),
    };
    let start = Instant::now() + warmup;
    let end = start + time;
    let histograms = scope(|scope| {
        let ask = |number| move || ask(address, number, outstanding, body, start..end);
        let threads: Vec<_> = (0..connections).map(|number| scope.spawn(ask(number))).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| "a client panicked")?).collect()
    });
    let histograms: Result<Vec<_>, Failure> = histograms;
    let mut latency = Histogram::new(3)?;
    for other in histograms? {
        latency.add(other)?;
    }
    Ok(Outcome {
        replies: latency.len(),
        elapsed: start.elapsed(),
        latency: vec![latency],
        ..Outcome::default()
    })
}

/// Keeps `outstanding` requests outstanding until the end of `measured`. Returns the latency of
/// those that were sent since its start.
fn ask(
    address: &str,
    number: usize,
    outstanding: usize,
    body: &[u8],
    measured: Range<Instant>,
) -> Result<Histogram<u64>, Failure> {
    let mut latency = Histogram::new(3)?;
    let mut connection = Connection::open(address)?;
    connection.out.extend(format!("SUB inbox.{number}.* 1\r\n").bytes());
    let mut sent = vec![Instant::now(); outstanding];
    let inbox = |slot| format!("inbox.{number}.{slot}");
    (0..outstanding).for_each(|slot| connection.publish("reverse", &inbox(slot), body));
    let mut busy = outstanding;
    while busy > 0 {
        let message = connection.receive()?;
        let now = Instant::now();
        if !message.body.iter().eq(body.iter().rev()) {
            return Err("a reply of NATS is not the one expected".into());
        }
        let slot: usize = message.subject.rsplit('.').next().unwrap_or_default().parse()?;
        if sent[slot] >= measured.start {
            latency.record((now - sent[slot]).as_nanos() as u64)?;
        }
        sent[slot] = now;
        if now < measured.end {
            connection.publish("reverse", &inbox(slot), body);
        } else {
            busy -= 1;
        }
    }
    Ok(latency)
}
