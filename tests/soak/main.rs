//! A soak: all kinds of services under all kinds of clients, while everything that may go wrong does.
//! Every request is accounted for, and memory and descriptors are watched.
//!
//!     cargo test --locked --release --test soak -- --minutes 60
//!
//! Without arguments it takes a few seconds, and only shows that it runs.

#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code)]
#[path = "../fuzz/player.rs"]
mod player;
#[allow(dead_code)]
#[path = "../fuzz/script.rs"]
mod script;

mod account;
mod clients;
mod counters;
mod disturbances;
mod figures;
mod options;
mod report;
mod run;
mod services;
mod workers;

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::{scope, sleep};
use std::time::Duration;

use clients::Clients;
use common::keys::Keys;
use common::time_limit;
use disturbances::{
    LISTED, VISITOR, change_list, fail_programs, fail_upstreams, fuzz, restart, scrape,
};
use report::Ended;
use run::Run;
use services::{Restarted, Service, Upstreams};
use workers::Workers;

/// Time between two looks at the services.
const LOOK: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let time = match options::time(std::env::args().skip(1)) {
        Ok(Some(time)) => time,
        Ok(None) => return ExitCode::SUCCESS,
        Err(mistake) => {
            eprintln!("error: {mistake}");
            return ExitCode::from(2);
        }
    };
    let _limit = time_limit(60 + time.as_secs());
    let wrong = soak(time);
    wrong.iter().for_each(|what| println!("wrong: {what}"));
    println!("\ntest soak ... {}", if wrong.is_empty() { "ok" } else { "FAILED" });
    ExitCode::from(u8::from(!wrong.is_empty()))
}

/// Soaks for that time, and returns what was wrong, a line each.
fn soak(time: Duration) -> Vec<String> {
    let mut all = All::start();
    let run = Run::new(time);
    all.disturb(&run);
    let taken = run.elapsed();
    let ended = all.end(&run);
    let twice = all.workers.handled.count().1;
    report::print(&ended, twice, taken, &run.events());
    let mut wrong = run.wrong();
    wrong.extend(ended.iter().flat_map(Ended::wrong));
    if twice > 0 {
        wrong.push(format!("backend: requests handled twice: {twice}"));
    }
    wrong
}

/// All that is started.
struct All {
    keys: Keys,
    /// "keys", "open", "program", "backend" and "front".
    services: [Service; 5],
    restarted: Restarted,
    workers: Arc<Workers>,
    upstreams: Upstreams,
}

impl All {
    fn start() -> All {
        let keys = Keys::new("soak");
        keys.make(VISITOR);
        let (backend, workers) = services::with_backend();
        let (front, upstreams) = services::with_upstreams();
        let (with_keys, open) = (services::with_keys(&keys), services::open());
        let services = [with_keys, open, services::with_program(), backend, front];
        All { keys, services, restarted: Restarted::start(), workers, upstreams }
    }

    /// Has all clients ask while all goes wrong that may, until the time is up.
    fn disturb(&mut self, run: &Run) {
        let All { keys, services, restarted, workers, upstreams } = self;
        let services = services.each_ref();
        let [with_keys, open, program, backend, front] = services;
        let curve = keys.curve_of(LISTED);
        let clients = [
            (Clients::of(with_keys, run).with(&curve), 50),
            (Clients::of(open, run), 100),
            (Clients::of(program, run).one_slow_in(100), 8),
            (Clients::of(backend, run).one_slow_in(50).allowing(&[502]), 20),
            (Clients::of(front, run), 50),
        ];
        let insistent = Clients::new(run, &restarted.account, &restarted.endpoint);
        let insistent = insistent.allowing(&[503]);
        let (keys, restarted, workers) = (&*keys, &*restarted, &*workers);
        scope(|threads| {
            for ((clients, window), service) in clients.iter().zip(services) {
                clients.start(threads, service.name, *window);
            }
            for keeps in [true, true, false, false] {
                let insistent = &insistent;
                let ask = move || insistent.try_again(keeps);
                run.spawn(threads, "restarted: a client that tries again", ask);
            }
            for number in 1..=2 {
                let address = Ipv4Addr::new(127, 0, 0, number);
                run.spawn(threads, "open: the fuzzer", move || fuzz(open, run, address));
            }
            run.spawn(threads, "keys: the list", || change_list(with_keys, keys, run));
            run.spawn(threads, "program: failures", || fail_programs(program, run));
            run.spawn(threads, "backend: workers", || workers.come_and_go(run));
            run.spawn(threads, "front: upstreams", || fail_upstreams(front, upstreams, run));
            run.spawn(threads, "restarted: restarts", || restart(restarted, run));
            run.spawn(threads, "scrapes", || scrape(&services, run));
            run.spawn(threads, "figures", || look(&services, run));
        });
    }

    /// Ends all services, whose clients have left.
    fn end(&self, run: &Run) -> Vec<Ended> {
        let ended = |service: &Service| Ended {
            name: service.name,
            counters: run.guard(service.name, || service.end()),
            totals: service.account.totals(),
            has_strangers: service.has_strangers,
            samples: service.samples(),
        };
        let mut all: Vec<_> = self.services.iter().map(ended).collect();
        all.push(Ended {
            name: "restarted",
            counters: run.guard("restarted", || self.restarted.end()),
            totals: self.restarted.account.totals(),
            has_strangers: false,
            samples: Vec::new(),
        });
        all
    }
}

/// Takes a sample of each service, again and again, and prints the memory every minute.
fn look(services: &[&Service], run: &Run) {
    let mut minutes = 1;
    run.repeat(|| {
        services.iter().for_each(|service| service.look(run));
        if run.elapsed().as_secs() >= 60 * minutes {
            let memory = services.iter().map(|service| service.memory());
            println!("{minutes} min: {} MiB", memory.collect::<Vec<_>>().join(", "));
            minutes += 1;
        }
        sleep(LOOK);
    });
}
