//! Another build of repd under the same loads: does a rate fall?

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::options::Plan;
use crate::peers::{Kind, REPD, Server};
use crate::statistics::Estimate;
use crate::{Case, Failure, cases, connect_silent, figures, median};

/// In how many parts a load is run on each build, so that both meet the same moods of the machine.
const PARTS: u32 = 4;

/// What starting the servers and their clients takes of a part, about.
const BESIDE: Duration = Duration::from_millis(30);

/// How often a load is tried that ends before its first reply, as when other processes have the machine.
const TRIES: usize = 3;

/// A load, on the one or the other kind of server, and the rates of both builds in each round.
struct Row {
    name: String,
    case: Case,
    kind: Kind,
    rates: Vec<[f64; 2]>,
}

impl Row {
    /// The natural logarithms of this build's rate by the other's.
    fn logarithms(&self) -> Vec<f64> {
        self.rates.iter().map(|[this, other]| (this / other).ln()).collect()
    }
}

fn rows(plan: &Plan) -> Vec<Row> {
    let mut rows = Vec::new();
    for kind in [Kind::Repd, Kind::Single] {
        for case in cases().into_iter().filter(|case| case.peers.contains(&kind)) {
            let suffix = if kind == Kind::Single { ", --workers 0" } else { "" };
            let name = format!("{}{suffix}", case.name);
            rows.push(Row { name, case, kind, rates: Vec::new() });
        }
    }
    rows.retain(|row| plan.has(&row.name));
    rows
}

/// Runs each load on this build of repd and on `binary`, in turns, and prints the ratios of their
/// rates. Fails if the mean over all loads may be at or below `bound`, or one load's own is below it.
pub fn compare(binary: &Path, bound: f64, plan: &Plan) -> Result<ExitCode, Failure> {
    let binaries = [Path::new(REPD), &binary.canonicalize()?];
    let mut rows = rows(plan);
    if rows.is_empty() {
        return Err("no load has that name: cargo bench -- --only takes a part of one".into());
    }
    let part = Plan { time: plan.time / PARTS, warmup: plan.warmup / PARTS, ..plan.clone() };
    let parts = 2 * PARTS * (rows.len() * plan.rounds) as u32;
    let minutes = ((part.warmup + part.time + BESIDE) * parts).as_secs().div_ceil(60);
    eprintln!("{} loads, {} rounds: about {minutes} minutes", rows.len(), plan.rounds);
    let start = Instant::now();
    for round in 0..plan.rounds {
        for (place, row) in rows.iter_mut().enumerate() {
            row.rates.push(rates(row, binaries, round + place, &part)?);
        }
        let logarithms = rows.iter().map(|row| row.logarithms()[round]).sum::<f64>();
        let ratio = (logarithms / rows.len() as f64).exp();
        eprintln!("round {}, {} s: {ratio:.3}", round + 1, start.elapsed().as_secs());
    }
    Ok(report(&rows, bound))
}

/// Returns the rates of both builds, which are never 0: their logarithms are to be taken.
fn rates(row: &Row, binaries: [&Path; 2], first: usize, part: &Plan) -> Result<[f64; 2], Failure> {
    for _ in 0..TRIES {
        let rates = try_rates(row, binaries, first, part)?;
        if rates.iter().all(|rate| *rate > 0.0) {
            return Ok(rates);
        }
        eprintln!("{}: nothing was answered, as if the machine stood still; once more", row.name);
    }
    Err(format!("{}: nothing was answered, {TRIES} times", row.name).into())
}

/// Runs a load on both builds, in turns like A B B A A B B A; the build at `first` is A.
fn try_rates(
    Row { case, kind, .. }: &Row,
    binaries: [&Path; 2],
    first: usize,
    part: &Plan,
) -> Result<[f64; 2], Failure> {
    let start = |binary| {
        let server = Server::of(binary, *kind, case.workers, case.slow_one_in.is_some())?;
        let silent = connect_silent(&server, case)?;
        Ok::<_, Failure>((server, silent))
    };
    let servers = [start(binaries[0])?, start(binaries[1])?];
    let mut rates = [0.0; 2];
    for turn in 0..2 * PARTS as usize {
        let place = (first + turn.div_ceil(2)) % 2;
        rates[place] += figures(&servers[place].0, *kind, case, part)?.rate / f64::from(PARTS);
    }
    Ok(rates)
}

fn report(rows: &[Row], bound: f64) -> ExitCode {
    println!(
        "| load | this build, requests/s | the other | ratio | 95 % interval |\n\
         | --- | --- | --- | --- | --- |"
    );
    let (mut logarithms, mut below) = (Vec::new(), Vec::new());
    for row in rows {
        let estimate = Estimate::of(&row.logarithms());
        let [this, other] = [0, 1].map(|place| median(row.rates.iter().map(|rates| rates[place])));
        println!("| {} | {this:.0} | {other:.0} | {} |", row.name, ratio(&estimate));
        if estimate.is_below(bound) {
            below.push(row.name.as_str());
        }
        logarithms.push(row.logarithms());
    }
    let all = Estimate::of_all(&logarithms);
    println!("| **all** | | | {} |", ratio(&all));
    if !all.is_above(bound) {
        eprintln!("error: the rates may have fallen to {:.3}, and {bound} is the bound", all.low);
    }
    if !below.is_empty() {
        eprintln!("error: below {bound}: {}", below.join("; "));
    }
    if all.is_above(bound) && below.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn ratio(estimate: &Estimate) -> String {
    format!("{:.3} | {:.3} to {:.3}", estimate.mean, estimate.low, estimate.high)
}
