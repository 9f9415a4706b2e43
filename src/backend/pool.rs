//! The worker threads: started together, missed if one is lost, ended together.

use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::sync::{Arc, mpsc};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crate::backend::claim::Claim;
use crate::backend::credit::{Credit, Meter};
use crate::backend::worker::Worker;
use crate::backend::{Lane, WorkerLane};
use crate::error::{Error, plain};
use crate::handler::{Answers, Handler, kill_all};
use crate::socket::{Context, readable, wait};
use crate::sys::fd::unblock;

/// The REP workers of a service, each a thread behind a lane of its own.
pub(crate) struct Pool {
    /// Apart from the frontend's, so that a worker that never ends does not keep replies from
    /// leaving. Nothing but inproc is in it: it has no I/O thread.
    context: Context,
    threads: Vec<JoinHandle<Result<(), Error>>>,
    ended: PipeReader,
    news: PipeReader,
}

/// How long a worker has when its program was killed.
const LAST_MOMENT: Duration = Duration::from_millis(250);

/// Writes a byte when a worker's thread ends, however it ends.
struct Ending(Arc<PipeWriter>);

impl Drop for Ending {
    fn drop(&mut self) {
        // It fails only if the pool is gone already.
        let _ = (&*self.0).write_all(&[0]);
    }
}

impl Pool {
    /// Starts that many workers, and gives the lanes to them. They are numbered from 1.
    pub fn start<F, H>(workers: usize, new_handler: F) -> Result<(Pool, Vec<Lane>), Error>
    where
        F: Fn(usize) -> H + Clone + Send + 'static,
        H: Handler,
    {
        let context = Context::new(0)?;
        let cannot = |error| {
            Error::config("cannot start a worker")
                .because(plain(error))
                .remedy("give fewer --workers, or allow the process more memory and threads")
        };
        let (ended, ending) = pipe().map_err(cannot)?;
        let (news, tell) = pipe().map_err(cannot)?;
        unblock(&news).and(unblock(&tell)).map_err(cannot)?;
        let (ending, tell) = (Arc::new(ending), Arc::new(tell));
        let (ready, all_ready) = mpsc::channel();
        let mut pool = Pool { context: context.clone(), threads: Vec::new(), ended, news };
        let mut lanes = Vec::new();
        for number in 1..=workers {
            let endpoint = format!("inproc://worker-{number}");
            let (credit, claim) = (Credit::new(), Claim::default());
            let lane = WorkerLane::new(context.lane(&endpoint)?, credit.clone(), claim.clone());
            lanes.push(Lane::Worker(lane));
            let (context, ready, new_handler) =
                (context.clone(), ready.clone(), new_handler.clone());
            let ending = Ending(Arc::clone(&ending));
            let tell = Arc::clone(&tell);
            let body = move || {
                let _ending = ending;
                let socket = context.worker(&endpoint)?;
                let answers = Answers::new(number, new_handler);
                let tell = move || {
                    // A full pipe is news enough.
                    let _ = (&*tell).write(&[0]);
                };
                let worker = Worker::new(socket, answers, claim, Meter::new(credit), tell);
                // The service does not wait for it any more if another worker could not start.
                let _ = ready.send(());
                drop((context, ready));
                worker.run()
            };
            let thread = Builder::new().name(format!("worker-{number}")).spawn(body);
            pool.threads.push(thread.map_err(cannot)?);
        }
        drop((ready, context));
        match all_ready.iter().count() {
            started if started == workers => Ok((pool, lanes)),
            _ => {
                drop(lanes);
                let reasons = pool.end(Duration::MAX).err();
                Err(reasons.unwrap_or_else(|| Error::failed("a worker could not start")))
            }
        }
    }

    /// Becomes readable when a worker has ended.
    pub fn ended(&self) -> &PipeReader {
        &self.ended
    }

    /// Becomes readable, without an end, when a worker takes requests again or takes none any more.
    pub fn news(&self) -> &PipeReader {
        &self.news
    }

    /// Has the workers end, without waiting for it.
    pub fn begin_end(&self) {
        self.context.shutdown();
    }

    /// Ends the workers, which takes as long as the requests that they are in, but no longer than
    /// `limit`; then their programs are killed. Gives how many are still in one after that: these
    /// threads are left behind.
    ///
    /// # Errors
    /// The first failure of a worker that had failed.
    pub fn end(mut self, limit: Duration) -> Result<usize, Error> {
        self.begin_end();
        let mut running = self.wait_for(self.threads.len(), limit)?;
        if running > 0 {
            kill_all();
            running = self.wait_for(running, LAST_MOMENT)?;
        }
        if running > 0 {
            return Ok(running);
        }
        for thread in self.threads.drain(..) {
            thread.join().unwrap_or_else(|_| Err(Error::failed("a worker panicked")))?;
        }
        Ok(0)
    }

    /// Waits until that many threads have ended, and gives how many have not within that time.
    fn wait_for(&mut self, mut running: usize, limit: Duration) -> Result<usize, Error> {
        let start = Instant::now();
        while running > 0 {
            let left = limit.saturating_sub(start.elapsed());
            let mut ended = [readable(&self.ended)];
            wait(&mut ended, (limit != Duration::MAX).then_some(left))?;
            if ended[0].is_readable() {
                let mut endings = [0; 64];
                let read = self.ended.read(&mut endings);
                running -=
                    read.map_err(|error| Error::failed("cannot wait for workers").because(error))?;
            } else if left.is_zero() {
                break;
            }
        }
        Ok(running)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // The workers of a pool that came to nothing end too.
        self.context.shutdown();
    }
}
