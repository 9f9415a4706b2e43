//! The worker threads of a service: started together, ended together.

use std::io::{self, PipeReader, PipeWriter, Read, Write, pipe};
use std::sync::{Arc, mpsc};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crate::backend::arrivals::Arrivals;
use crate::backend::claim::Claim;
use crate::backend::credit::{Credit, Meter};
use crate::backend::worker::Worker;
use crate::backend::{Lane, WorkerLane};
use crate::error::{Error, plain};
use crate::handler::{NewHandler, WorkerHandler, kill_all};
use crate::socket::{Context, readable, wait};
use crate::sys::fd::set_nonblocking;
use crate::sys::sched;

/// The REP workers, each a thread behind a lane of its own.
pub(crate) struct Pool {
    /// Not the frontend's, so that a worker that never ends does not keep replies from leaving. It
    /// has only inproc sockets, and so no I/O thread.
    context: Context,
    threads: Vec<JoinHandle<Result<(), Error>>>,
    ended: PipeReader,
    changed: PipeReader,
}

/// Time that workers have to end after their programs were killed: they do so at once, but once 250 ms
/// were too little, on a machine that was very busy.
const TIME_AFTER_KILL: Duration = Duration::from_secs(2);
/// The same where no program was left: one may have ended a moment ago.
const LAST_MOMENT: Duration = Duration::from_millis(250);

/// Writes a byte when a worker's thread ends, however it ends.
struct EndNotifier(Arc<PipeWriter>);

impl Drop for EndNotifier {
    fn drop(&mut self) {
        // It fails only if the pool is gone already.
        let _ = (&*self.0).write_all(&[0]);
    }
}

/// What each worker gets.
#[derive(Clone)]
struct Common {
    context: Context,
    new_handler: NewHandler,
    names_clients: bool,
    ending: Arc<PipeWriter>,
    change: Arc<PipeWriter>,
    /// Told of once the worker has its handler.
    ready: mpsc::Sender<()>,
}

impl Common {
    /// Starts the worker of that number; returns the lane to it too.
    fn start_worker(
        self,
        number: usize,
    ) -> Result<(JoinHandle<Result<(), Error>>, WorkerLane), Error> {
        let Common { context, new_handler, names_clients, ending, change, ready } = self;
        let endpoint = format!("inproc://worker-{number}");
        let (credit, claim) = (Credit::new(), Claim::default());
        let arrivals = new_handler.times_requests().then(Arrivals::default);
        let socket = context.lane(&endpoint)?;
        let lane = WorkerLane::new(socket, credit.clone(), claim.clone(), arrivals.clone());
        let ending = EndNotifier(ending);
        let body = move || {
            let _ending = ending;
            sched::use_batch_policy();
            let socket = context.worker(&endpoint)?;
            let handler = WorkerHandler::new(number, new_handler, names_clients)?;
            let on_change = move || {
                // A full pipe tells as much.
                let _ = (&*change).write(&[0]);
            };
            let meter = Meter::new(credit);
            let worker = Worker::new(socket, handler, claim, meter, arrivals, on_change);
            // If another worker could not start, nothing waits for this any more.
            let _ = ready.send(());
            drop((context, ready));
            worker.run()
        };
        let thread = Builder::new().name(format!("worker-{number}")).spawn(body);
        Ok((thread.map_err(cannot_start)?, lane))
    }
}

fn cannot_start(error: io::Error) -> Error {
    Error::config("cannot start a worker")
        .with_cause(plain(error))
        .with_remedy("start fewer workers, or allow the process more memory and threads")
}

impl Pool {
    /// Starts that many workers, numbered from 1; returns the lanes to them too.
    ///
    /// # Errors
    /// Too few threads, descriptors or memory.
    pub fn start(
        workers: usize,
        new_handler: &NewHandler,
        names_clients: bool,
    ) -> Result<(Pool, Vec<Lane>), Error> {
        let context = Context::new(0)?;
        let (ended, ending) = pipe().map_err(cannot_start)?;
        let (changed, change) = pipe().map_err(cannot_start)?;
        set_nonblocking(&changed).and(set_nonblocking(&change)).map_err(cannot_start)?;
        let (ready, all_ready) = mpsc::channel();
        let common = Common {
            context: context.clone(),
            new_handler: new_handler.clone(),
            names_clients,
            ending: Arc::new(ending),
            change: Arc::new(change),
            ready,
        };
        let mut pool = Pool { context, threads: Vec::new(), ended, changed };
        let mut lanes = Vec::new();
        for number in 1..=workers {
            let (thread, lane) = common.clone().start_worker(number)?;
            pool.threads.push(thread);
            lanes.push(Lane::Worker(lane));
        }
        drop(common);
        match all_ready.iter().count() {
            started if started == workers => Ok((pool, lanes)),
            _ => {
                drop(lanes);
                let reasons = pool.end(Duration::MAX).err();
                Err(reasons.unwrap_or_else(|| Error::failed("a worker could not start")))
            }
        }
    }

    /// Returns what becomes readable when a worker has ended.
    pub fn ended(&self) -> &PipeReader {
        &self.ended
    }

    /// Returns what becomes readable when a worker takes requests again, or none any more.
    pub fn changed(&self) -> &PipeReader {
        &self.changed
    }

    /// Tells the workers to end, and does not wait for it.
    pub fn begin_end(&self) {
        self.context.shutdown();
    }

    /// Ends the workers: each as soon as its request has ended. After `limit` their programs are
    /// killed. Returns how many are still in a request after that: their threads are left behind.
    ///
    /// # Errors
    /// The first failure of a worker that had failed.
    pub fn end(mut self, limit: Duration) -> Result<usize, Error> {
        self.begin_end();
        let mut running = self.wait_for(self.threads.len(), limit)?;
        if running > 0 {
            let time = if kill_all() { TIME_AFTER_KILL } else { LAST_MOMENT };
            running = self.wait_for(running, time)?;
        }
        if running > 0 {
            return Ok(running);
        }
        for thread in self.threads.drain(..) {
            thread.join().unwrap_or_else(|_| Err(Error::failed("a worker panicked")))?;
        }
        Ok(0)
    }

    /// Waits until that many threads have ended; returns how many have not within `limit`.
    fn wait_for(&mut self, mut running: usize, limit: Duration) -> Result<usize, Error> {
        let start = Instant::now();
        while running > 0 {
            let left = limit.saturating_sub(start.elapsed());
            let mut ended = [readable(&self.ended)];
            wait(&mut ended, (limit != Duration::MAX).then_some(left))?;
            if ended[0].is_readable() {
                let mut endings = [0; 64];
                let read = self.ended.read(&mut endings);
                running -= read
                    .map_err(|error| Error::failed("cannot wait for workers").with_cause(error))?;
            } else if left.is_zero() {
                break;
            }
        }
        Ok(running)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // The workers of a pool that could not be started whole end too.
        self.context.shutdown();
    }
}
