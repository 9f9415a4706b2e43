//! Request and reply over nats-server, by its text protocol (docs.nats.io, "Client Protocol"): the
//! responders and the load.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread::{scope, spawn};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use repd::bench::{Clients, Outcome};

use crate::Failure;

struct Connection {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
    /// What is to be written before the next wait.
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

    /// The next message; what is to be written goes out first, if it is not here already.
    fn receive(&mut self) -> Result<Message, Failure> {
        loop {
            if !self.reader.buffer().contains(&b'\n') && !self.out.is_empty() {
                self.writer.write_all(&self.out)?;
                self.out.clear();
            }
            let mut line = String::new();
            if self.reader.read_line(&mut line)? == 0 {
                return Err("nats-server closed the connection".into());
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

/// That many responders in a queue group, which reverse what they get.
pub fn respond(address: &str, workers: usize) -> Result<(), Failure> {
    let responders: Vec<_> = (0..workers)
        .map(|_| {
            let mut connection = Connection::open(address)?;
            connection.out.extend(b"SUB reverse workers 1\r\nPING\r\n");
            connection.writer.write_all(&connection.out)?;
            connection.out.clear();
            // INFO, then PONG: the subscription is known from here on.
            while !matches!(next_line(&mut connection)?.trim(), "PONG") {}
            Ok(connection)
        })
        .collect::<Result<_, Failure>>()?;
    eprintln!("listening on {address}");
    let threads: Vec<_> = responders
        .into_iter()
        .map(|mut connection| {
            spawn(move || -> Result<(), Failure> {
                loop {
                    let mut message = connection.receive()?;
                    message.body.reverse();
                    let reply_to = message.reply_to.unwrap_or_default();
                    connection.publish(&reply_to, "", &message.body);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| drop(thread.join()));
    Ok(())
}

fn next_line(connection: &mut Connection) -> Result<String, Failure> {
    let mut line = String::new();
    connection.reader.read_line(&mut line)?;
    Ok(line)
}

/// The load of `repd bench`, from clients of nats-server: each a connection with its own inbox.
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
    };
    let start = Instant::now() + warmup;
    let end = start + time;
    let histograms = scope(|scope| {
        let threads: Vec<_> = (0..connections)
            .map(|number| {
                scope.spawn(move || -> Result<Histogram<u64>, Failure> {
                    let mut latency = Histogram::new(3)?;
                    let mut connection = Connection::open(address)?;
                    connection.out.extend(format!("SUB inbox.{number}.* 1\r\n").bytes());
                    let mut sent = vec![Instant::now(); outstanding];
                    let inbox = |place| format!("inbox.{number}.{place}");
                    (0..outstanding)
                        .for_each(|place| connection.publish("reverse", &inbox(place), body));
                    let mut busy = outstanding;
                    while busy > 0 {
                        let message = connection.receive()?;
                        let now = Instant::now();
                        if !message.body.iter().eq(body.iter().rev()) {
                            return Err("a reply of NATS is not the one expected".into());
                        }
                        let place: usize =
                            message.subject.rsplit('.').next().unwrap_or_default().parse()?;
                        if sent[place] >= start {
                            latency.record((now - sent[place]).as_nanos() as u64)?;
                        }
                        sent[place] = now;
                        if now < end {
                            connection.publish("reverse", &inbox(place), body);
                        } else {
                            busy -= 1;
                        }
                    }
                    Ok(latency)
                })
            })
            .collect();
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
