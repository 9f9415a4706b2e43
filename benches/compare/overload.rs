//! Loads of more than a server can do, by clients that give up: how many replies still come in time.

use std::time::Duration;

use repd::bench::Clients::{OpenLoop, Req};

use crate::options::Plan;
use crate::peers::{Kind, Server};
use crate::{Case, Failure, load, median};

const PEERS: [Kind; 2] = [Kind::Repd, Kind::ZmqProxy];

/// Times of `plan`, in which a queue has grown and is looked at for longer than the clients wait.
const WARMUPS: u32 = 5;
const TIMES: u32 = 8;

/// Returns the loads. Each request takes 20 ms, so that five workers can do 250 a second.
fn cases() -> Vec<Case> {
    let case = |name: &str, clients| Case {
        slow_one_in: Some(1),
        patience: Duration::from_millis(400),
        ..Case::new(name, clients, &PEERS)
    };
    vec![
        case("overload: 300 REQ clients that ask again", Req(300)),
        case("overload: 500 requests/s", OpenLoop { clients: 50, rate: 500 }),
        case("overload: 2,500 requests/s", OpenLoop { clients: 300, rate: 2500 }),
    ]
}

/// Runs each load on both servers in turn, and returns the table of their replies in time.
pub fn measure(plan: &Plan) -> Result<String, Failure> {
    if PEERS.iter().any(|kind| kind.check_installed().is_err()) {
        return Ok(String::new());
    }
    let mut table = format!(
        "| load | {}, replies in time/s | {} |\n| --- | --- | --- |\n",
        PEERS[0].name(),
        PEERS[1].name(),
    );
    let [warmup, time] = [plan.warmup * WARMUPS, plan.time * TIMES];
    for case in cases().into_iter().filter(|case| plan.has(&case.name)) {
        let mut goodput = [Vec::new(), Vec::new()];
        for round in 0..plan.rounds {
            for turn in [round % 2, 1 - round % 2] {
                let server = Server::start(PEERS[turn], &case)?;
                goodput[turn].push(load(PEERS[turn], &server, &case, warmup, time)?.goodput());
            }
        }
        let [one, other] = goodput.map(|all| median(all.into_iter()));
        eprintln!("{}: {one:.1}, {other:.1}", case.name);
        table += &format!("| {} | {one:.0} | {other:.0} |\n", case.name);
    }
    Ok(table)
}
