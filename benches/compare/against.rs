//! Compares the rates of this build of repd with those of another build under the same loads.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::options::Plan;
use crate::peers::{Kind, REPD, Server};
use crate::statistics::Estimate;
use crate::{Case, Failure, cases, connect_silent, figures, median};

/// Number of parts in which a load is run on each build. The builds take turns, so that both meet
/// the same disturbances of the machine.
const PARTS: u32 = 4;

/// Estimated time to start a server and its clients, for each part.
const START_TIME: Duration = Duration::from_millis(30);

/// Maximum number of times that a load is run without a reply: other processes may take the
/// machine.
const MAX_TRIES: usize = 3;

/// A load on one kind of server.
struct Row {
    name: String,
    case: Case,
    kind: Kind,
    /// Rates of this build and of the other one, in requests per second, by round.
    rates: Vec<[f64; 2]>,
}

impl Row {
    /// Returns the natural logarithms of this build's rate divided by the other's, by round.
    fn logarithms(&self) -> Vec<f64> {
        self.rates.iter().map(|[this, other]| (this / other).ln()).collect()
    }
}

/// Returns the rows that `plan` selects.
fn rows(plan: &Plan) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for kind in [Kind::Repd, Kind::Single] {
        for case in cases()?.into_iter().filter(|case| case.peers.contains(&kind)) {
            // An older build may have no keys.
            if case.keys.is_some() {
                continue;
            }
            let suffix = if kind == Kind::Single { ", --workers 0" } else { "" };
            let name = format!("{}{suffix}", case.name);
            rows.push(Row { name, case, kind, rates: Vec::new() });
        }
    }
    rows.retain(|row| plan.has(&row.name));
    Ok(rows)
}

/// Runs each load on this build of repd and on `binary`, in turns, and prints the ratios of their
/// rates. Returns failure if the mean ratio over all loads may be at or below `bound`, or if the
/// ratio of one load is certainly below it.
pub fn compare(binary: &Path, bound: f64, plan: &Plan) -> Result<ExitCode, Failure> {
    let binaries = [Path::new(REPD), &binary.canonicalize()?];
    let mut rows = rows(plan)?;
    if rows.is_empty() {
        return Err("no load has that in its name; give --only a part of a name".into());
    }
    let part = Plan { time: plan.time / PARTS, warmup: plan.warmup / PARTS, ..plan.clone() };
    let parts = 2 * PARTS * (rows.len() * plan.rounds) as u32;
    let minutes = ((part.warmup + part.time + START_TIME) * parts).as_secs().div_ceil(60);
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

/// Returns the rates of both builds in one round. Neither is 0, since their logarithms are taken.
fn rates(row: &Row, binaries: [&Path; 2], first: usize, part: &Plan) -> Result<[f64; 2], Failure> {
    for _ in 0..MAX_TRIES {
        let rates = try_rates(row, binaries, first, part)?;
        if rates.iter().all(|rate| *rate > 0.0) {
            return Ok(rates);
        }
        eprintln!("{}: no request was answered; trying again", row.name);
    }
    Err(format!("{}: no request was answered in {MAX_TRIES} tries", row.name).into())
}

/// Runs a load on both builds, in turns like A B B A A B B A, of which A is the build at `first`
/// modulo 2. Returns their mean rates.
fn try_rates(
    Row { case, kind, .. }: &Row,
    binaries: [&Path; 2],
    first: usize,
    part: &Plan,
) -> Result<[f64; 2], Failure> {
    let start = |binary| {
        let server = Server::start_repd(binary, *kind, case)?;
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

/// Prints the table of all rows, and what fell below `bound`.
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
        eprintln!("error: the ratio over all loads may be {:.3}; the bound is {bound}", all.low);
    }
    if !below.is_empty() {
        eprintln!("error: below {bound}: {}", below.join("; "));
    }
    if all.is_above(bound) && below.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Returns the table's cells for an estimate.
fn ratio(estimate: &Estimate) -> String {
    format!("{:.3} | {:.3} to {:.3}", estimate.mean, estimate.low, estimate.high)
}
