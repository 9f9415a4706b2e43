//! Compares repd with other servers, or with another build of it, under the same loads. The servers
//! take turns in one run, so that disturbances of the machine meet all of them alike. Prints
//! Markdown.
//!
//!     cargo bench                      # everything; see benches/README.md
//!     cargo bench -- --quick           # only to see that it runs
//!     cargo bench -- --only mixed      # only the loads whose name contains that
//!     cargo bench -- --against BINARY  # another build of repd: does a rate fall?

mod against;
mod keys;
mod nats;
mod options;
mod overload;
mod peers;
mod statistics;

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use repd::Frame;
use repd::bench::{Body, Clients, End, Load, Outcome};

use keys::Keys;
use options::{Options, Plan};
use peers::{Kind, SLOW, Server};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The results of one load on one server.
#[derive(Clone, Copy)]
struct Figures {
    /// Replies per second.
    rate: f64,
    /// Median latency in microseconds, without the slow requests.
    p50: f64,
    /// 99th percentile of that latency.
    p99: f64,
    /// Processor time of the server for a request, in microseconds.
    processor: f64,
}

/// The figures of each round, by server.
type Rounds = Vec<(Kind, Vec<Figures>)>;

/// A load, and the servers that it is run on.
struct Case {
    name: String,
    clients: Clients,
    /// Bytes of a request's body.
    size: usize,
    /// Number of requests of which one, on average, takes 20 ms; `Option::None` if all are quick.
    slow_one_in: Option<u64>,
    workers: usize,
    /// Time after which a client gives a request up.
    patience: Duration,
    /// Those of the service and its clients, if they have keys.
    keys: Option<Keys>,
    /// Number of clients that are connected and send nothing.
    silent_connections: usize,
    /// True if the handler of repd is to be a program.
    has_program: bool,
    peers: Vec<Kind>,
}

impl Case {
    fn new(name: &str, clients: Clients, peers: &[Kind]) -> Case {
        Case {
            name: name.into(),
            clients,
            size: 64,
            slow_one_in: None,
            workers: 5,
            patience: Duration::from_secs(10),
            keys: None,
            silent_connections: 0,
            has_program: false,
            peers: peers.into(),
        }
    }
}

/// Returns all loads, in the order of the report.
fn cases() -> Result<Vec<Case>, Failure> {
    use Clients::{Pipeline, Req};
    use Kind::{Go, Nats, Rep, Repd, Single, ZmqProxy};
    let all = [Repd, ZmqProxy, Go, Nats, Single, Rep];
    let own = [Repd, ZmqProxy, Single, Rep];
    let pair = [Repd, ZmqProxy];
    let mut cases = vec![
        Case::new("one REQ client", Req(1), &all),
        Case::new("50 REQ clients", Req(50), &all),
        Case::new("pipelined 20", Pipeline(20), &all),
        Case::new("pipelined 200", Pipeline(200), &all),
    ];
    for (share, one_in) in [("1 %", 100), ("0.2 %", 500)] {
        for clients in [10, 20, 50] {
            let name = format!("mixed {share}, {clients} REQ clients");
            cases.push(Case { slow_one_in: Some(one_in), ..Case::new(&name, Req(clients), &pair) });
        }
    }
    for (name, size) in [("4 KiB", 4 << 10), ("64 KiB", 64 << 10), ("256 KiB", 256 << 10)] {
        for (clients_are, clients) in [
            ("one REQ client", Req(1)),
            ("20 REQ clients", Req(20)),
            ("pipelined 20", Pipeline(20)),
        ] {
            let title = format!("{name}, {clients_are}");
            cases.push(Case { size, ..Case::new(&title, clients, &own) });
        }
    }
    for (title, clients) in
        [("a program, one REQ client", Req(1)), ("a program, 20 REQ clients", Req(20))]
    {
        cases.push(Case { has_program: true, ..Case::new(title, clients, &[Repd]) });
    }
    for workers in [1, 16] {
        let workers_are =
            if workers == 1 { "1 worker".into() } else { format!("{workers} workers") };
        let title = format!("{workers_are}, 50 REQ clients");
        cases.push(Case { workers, ..Case::new(&title, Req(50), &pair) });
        let title = format!("{workers_are}, pipelined 200");
        cases.push(Case { workers, ..Case::new(&title, Pipeline(200), &pair) });
    }
    let title = "1,000 connections, 10 of them active";
    cases.push(Case { silent_connections: 990, ..Case::new(title, Req(10), &own) });
    let keys = Some(Keys::make()?);
    for (title, clients) in [
        ("keys, one REQ client", Req(1)),
        ("keys, 50 REQ clients", Req(50)),
        ("keys, pipelined 20", Pipeline(20)),
        ("keys, pipelined 200", Pipeline(200)),
    ] {
        cases.push(Case { keys: keys.clone(), ..Case::new(title, clients, &pair) });
    }
    Ok(cases)
}

fn main() -> ExitCode {
    let run = || match peers::serve_if_asked()? {
        true => Ok(ExitCode::SUCCESS),
        false => compare(),
    };
    run().unwrap_or_else(|error: Failure| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn compare() -> Result<ExitCode, Failure> {
    let options = match Options::parse() {
        Ok(options) => options,
        Err(code) => return Ok(code),
    };
    match &options.against {
        Some(binary) => against::compare(binary, options.bound(), &options.plan()),
        None => compare_with_others(&options.plan()).map(|()| ExitCode::SUCCESS),
    }
}

/// Runs each load on all of its servers and prints the tables.
fn compare_with_others(plan: &Plan) -> Result<(), Failure> {
    for kind in [Kind::ZmqProxy, Kind::Go, Kind::Nats] {
        if let Err(why) = kind.check_installed() {
            eprintln!("{} is skipped: {why}", kind.name());
        }
    }
    let mut measured = Vec::new();
    for case in cases()?.into_iter().filter(|case| plan.has(&case.name)) {
        let figures = measure(&case, plan)?;
        let seen: Vec<String> = figures
            .iter()
            .map(|(kind, rounds)| format!("{} {:.0}", kind.name(), median_of(rounds, |f| f.rate)))
            .collect();
        eprintln!("{}: {}", case.name, seen.join(", "));
        measured.push((case, figures));
    }
    println!("{}", table(&measured, Kind::Repd, Kind::ZmqProxy));
    println!("{}", table(&measured, Kind::Single, Kind::Rep));
    println!("{}", processor_times(&measured));
    println!("{}", others(&measured));
    println!("{}", overload::measure(plan)?);
    if plan.only.is_none() {
        println!("{}", footprint(plan.rounds)?);
    }
    Ok(())
}

/// Runs a load on each of its servers. Each round starts new processes: where a process happens to
/// lie in memory changes its rate by up to a tenth.
fn measure(case: &Case, plan: &Plan) -> Result<Rounds, Failure> {
    let kinds = case.peers.iter().copied().filter(|kind| kind.check_installed().is_ok());
    let mut measured: Rounds = kinds.map(|kind| (kind, Vec::new())).collect();
    for round in 0..plan.rounds {
        // Each round begins with another server.
        let first = round % measured.len();
        for turn in (first..measured.len()).chain(0..first) {
            let (kind, rounds) = &mut measured[turn];
            let server = Server::start(*kind, case)?;
            let _silent = connect_silent(&server, case)?;
            rounds.push(figures(&server, *kind, case, plan)?);
        }
    }
    Ok(measured)
}

/// Connects the clients that send nothing during the load.
fn connect_silent(server: &Server, case: &Case) -> zmq::Result<Vec<zmq::Socket>> {
    let context = zmq::Context::new();
    let connect = |_| {
        let socket = context.socket(zmq::REQ)?;
        socket.connect(&server.endpoint)?;
        // The reply shows that it is connected.
        socket.send("hello", 0)?;
        socket.recv_bytes(0)?;
        Ok(socket)
    };
    (0..case.silent_connections).map(connect).collect()
}

/// Runs a load on `server` once, of which nothing counts until it has warmed up and all clients have
/// shaken hands.
///
/// # Errors
/// Returns an error if a reply is missing, wrong or an error reply.
fn figures(server: &Server, kind: Kind, case: &Case, plan: &Plan) -> Result<Figures, Failure> {
    let (outcome, before) = thread::scope(|scope| {
        let warm = scope.spawn(|| {
            thread::sleep(plan.warmup);
            server.processor_time()
        });
        let outcome = load(kind, server, case, plan.warmup, plan.time);
        (outcome, warm.join().expect("it does not panic"))
    });
    let (outcome, spent) = (outcome?, server.processor_time()? - before?);
    if outcome.missing + outcome.missing_before + outcome.wrong > 0 || !outcome.errors.is_empty() {
        return Err(format!("{}: {} lost replies", case.name, kind.name()).into());
    }
    let latency = &outcome.latency[0];
    let micros = |quantile| latency.value_at_quantile(quantile) as f64 / 1e3;
    let processor = spent.as_secs_f64() * 1e6 / outcome.replies as f64;
    Ok(Figures { rate: outcome.rate(), p50: micros(0.5), p99: micros(0.99), processor })
}

/// Runs a load on `server` once and returns all results.
fn load(
    kind: Kind,
    server: &Server,
    case: &Case,
    warmup: Duration,
    time: Duration,
) -> Result<Outcome, Failure> {
    let text = |size: usize| (b'a'..=b'z').cycle().take(size).collect::<Vec<u8>>();
    let quick = text(case.size);
    if kind == Kind::Nats {
        return nats::load(&server.endpoint, case.clients, &quick, warmup, time);
    }
    let reversed = |bytes: &[u8]| Frame::from(bytes.iter().rev().copied().collect::<Vec<u8>>());
    let mut bodies = vec![Body {
        weight: case.slow_one_in.map_or(1, |one_in| one_in - 1),
        expected: Some(reversed(&quick)),
        bytes: quick,
    }];
    if case.slow_one_in.is_some() {
        let slow = [SLOW, &text(case.size - SLOW.len())[..]].concat();
        bodies.push(Body { weight: 1, expected: Some(reversed(&slow)), bytes: slow });
    }
    let load = Load {
        endpoint: server.endpoint.parse()?,
        keys: case.keys.as_ref().map(|keys| keys.client.clone()),
        clients: case.clients,
        threads: std::thread::available_parallelism()?.get(),
        bodies,
        warmup,
        end: End::After(time),
        timeout: case.patience,
    };
    // A pipe whose other end stays open never becomes readable.
    let (stop, _open) = std::io::pipe()?;
    Ok(repd::bench::run(&load, &stop, |_, _| ())?)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

/// Returns the median of one figure over the rounds.
fn median_of(rounds: &[Figures], figure: fn(&Figures) -> f64) -> f64 {
    median(rounds.iter().map(figure))
}

/// Returns the median over the rounds of one server's figure divided by the other's. The two
/// figures of a round were measured close together, under nearly the same conditions.
fn ratio(one: &[Figures], other: &[Figures], figure: fn(&Figures) -> f64) -> f64 {
    median(one.iter().zip(other).map(|(one, other)| figure(one) / figure(other)))
}

/// Returns the figures of one server, or `Option::None` if the load did not run on it.
fn figures_of(figures: &[(Kind, Vec<Figures>)], kind: Kind) -> Option<&[Figures]> {
    figures.iter().find(|(k, _)| *k == kind).map(|(_, rounds)| rounds.as_slice())
}

/// Returns the table of rates and latencies of two servers, and their ratios.
fn table(measured: &[(Case, Rounds)], one: Kind, other: Kind) -> String {
    let (a, b) = (one.name(), other.name());
    let mut text = format!(
        "| load | {a}, requests/s | {b} | ratio | {a}, p50 µs | {b} | ratio \
         | {a}, p99 µs | {b} | ratio |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
    );
    for (case, figures) in measured {
        let (Some(a), Some(b)) = (figures_of(figures, one), figures_of(figures, other)) else {
            continue;
        };
        let three = |figure| {
            let (one, other) = (median_of(a, figure), median_of(b, figure));
            format!("{one:.0} | {other:.0} | {:.2}×", ratio(a, b, figure))
        };
        text += &format!(
            "| {} | {} | {} | {} |\n",
            case.name,
            three(|f| f.rate),
            three(|f| f.p50),
            three(|f| f.p99)
        );
    }
    text
}

/// Returns the table of the processor time that a request takes, of each server.
fn processor_times(measured: &[(Case, Rounds)]) -> String {
    let kinds = [Kind::Repd, Kind::ZmqProxy, Kind::Single, Kind::Rep];
    let mut text = String::from("| load, processor time of a request in µs |");
    kinds.iter().for_each(|kind| text += &format!(" {} |", kind.name()));
    text += " repd to zmq_proxy |\n| --- | --- | --- | --- | --- | --- |\n";
    for (case, figures) in measured {
        text += &format!("| {} |", case.name);
        for kind in kinds {
            text += &figures_of(figures, kind).map_or(" – |".into(), |rounds| {
                format!(" {:.1} |", median_of(rounds, |f| f.processor))
            });
        }
        let pair = [Kind::Repd, Kind::ZmqProxy].map(|kind| figures_of(figures, kind));
        text += &match pair {
            [Some(repd), Some(other)] => {
                format!(" {:.2}× |\n", ratio(repd, other, |f| f.processor))
            }
            _ => " – |\n".into(),
        };
    }
    text
}

/// Returns the table of rates of the servers that run only some of the loads, beside repd's.
fn others(measured: &[(Case, Rounds)]) -> String {
    let mut text = String::from("| load | repd, requests/s |");
    let others = [Kind::Go, Kind::Nats];
    others.iter().for_each(|kind| text += &format!(" {} | repd's ratio |", kind.name()));
    text += "\n| --- | --- | --- | --- | --- | --- |\n";
    for (case, figures) in measured.iter().filter(|(case, _)| case.peers.contains(&Kind::Go)) {
        let Some(repd) = figures_of(figures, Kind::Repd) else { continue };
        text += &format!("| {} | {:.0} |", case.name, median_of(repd, |f| f.rate));
        for kind in others {
            text += &figures_of(figures, kind).map_or(" – | – |".into(), |other| {
                let rate = median_of(other, |f| f.rate);
                format!(" {rate:.0} | {:.2}× |", ratio(repd, other, |f| f.rate))
            });
        }
        text.push('\n');
    }
    text
}

/// Returns the table of the servers' memory and time to the first reply.
fn footprint(rounds: usize) -> Result<String, Failure> {
    let mut text = String::from(
        "| server | start to first reply, ms | RSS idle, MiB | RSS after pipelined 200, MiB \
         | binary, MB |\n\
         | --- | --- | --- | --- | --- |\n",
    );
    let after = Case::new("", Clients::Pipeline(200), &[]);
    let time = Duration::from_millis(500);
    for kind in [Kind::Repd, Kind::Single, Kind::ZmqProxy, Kind::Rep, Kind::Go] {
        if kind.check_installed().is_err() {
            continue;
        }
        let mut figures: [Vec<f64>; 3] = Default::default();
        for _ in 0..rounds.max(2) * 2 - 1 {
            let server = Server::start(kind, &after)?;
            let idle = server.resident_mebibytes()?;
            let first_reply = server.first_reply()?.as_secs_f64() * 1e3;
            load(kind, &server, &after, Duration::ZERO, time)?;
            let loaded = server.resident_mebibytes()?;
            figures.iter_mut().zip([first_reply, idle, loaded]).for_each(|(all, f)| all.push(f));
        }
        let [first_reply, idle, loaded] = figures.map(|all| median(all.into_iter()));
        let size = match kind {
            Kind::Repd | Kind::Single => {
                format!("{:.2}", std::fs::metadata(peers::REPD)?.len() as f64 / 1e6)
            }
            _ => "–".into(),
        };
        text +=
            &format!("| {} | {first_reply:.1} | {idle:.1} | {loaded:.1} | {size} |\n", kind.name());
    }
    Ok(text)
}
