//! Upstreams by name: each address of a name is a lane of its own. The names are looked up again and
//! again by a thread, since a name server may take its time.

use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Builder;
use std::time::Duration;

use log::{info, warn};

use super::lanes::enter;
use super::{Lane, Upstream};
use crate::auth::Access;
use crate::config::Config;
use crate::endpoint::Endpoint;
use crate::error::{Error, plain};
use crate::socket::{Context, Watched, readable, wait};
use crate::sys::fd::set_nonblocking;

/// Time between two look-ups of a name.
const INTERVAL: Duration = Duration::from_secs(5);

/// Maximum number of addresses of a name that are used.
const MAX_ADDRESSES: usize = 64;

/// Stack of the thread, in bytes: the system's look-up takes more than a thread's least.
const STACK: usize = 512 << 10;

/// The names of upstreams, and the lanes to their addresses.
pub(crate) struct Names {
    names: Vec<Name>,
    /// What a lane is made of.
    context: Context,
    access: Option<Arc<Access>>,
    config: Config,
    found: Receiver<Found>,
    waking: PipeReader,
    /// Its end is that of the thread.
    _running: PipeWriter,
}

struct Name {
    endpoint: Endpoint,
    /// The addresses that it has, with their lanes.
    lanes: Vec<(SocketAddr, usize)>,
}

/// The addresses of a name.
struct Found {
    name: usize,
    addresses: Vec<SocketAddr>,
}

impl Names {
    /// Looks these names up again and again, from now on.
    ///
    /// # Errors
    /// Too few threads or descriptors.
    pub fn start(
        context: &Context,
        endpoints: Vec<Endpoint>,
        access: Option<Arc<Access>>,
        config: &Config,
    ) -> Result<Names, Error> {
        let cannot = |error| Error::config("cannot look up names").with_cause(plain(error));
        let (waking, wake) = pipe().map_err(cannot)?;
        let (stopped, running) = pipe().map_err(cannot)?;
        set_nonblocking(&waking).and(set_nonblocking(&wake)).map_err(cannot)?;
        let (send, found) = channel();
        let mut look_ups: Vec<_> = endpoints.iter().cloned().enumerate().map(LookUp::new).collect();
        let body = move || {
            loop {
                for look_up in &mut look_ups {
                    look_up.repeat(&send);
                    // A full pipe tells as much.
                    let _ = (&wake).write(&[0]);
                }
                let mut end = [readable(&stopped)];
                if wait(&mut end, Some(INTERVAL)).is_err() || end[0].is_readable() {
                    return;
                }
            }
        };
        // It is not waited for in the end: it may be in a look-up.
        Builder::new().name("names".into()).stack_size(STACK).spawn(body).map_err(cannot)?;
        let names = endpoints.into_iter().map(|endpoint| Name { endpoint, lanes: Vec::new() });
        Ok(Names {
            names: names.collect(),
            context: context.clone(),
            access,
            config: config.clone(),
            found,
            waking,
            _running: running,
        })
    }

    pub fn readable(&self) -> Watched<'_> {
        readable(&self.waking)
    }

    /// Takes account of the addresses that were found since. Returns the lanes of those that are new.
    pub fn take_changes(&mut self, lanes: &mut Vec<Lane>) -> Vec<usize> {
        // Whatever is in the pipe says that there is something in the channel.
        let _ = (&self.waking).read(&mut [0; 64]);
        let mut new = Vec::new();
        while let Ok(Found { name, addresses }) = self.found.try_recv() {
            let Name { endpoint, lanes: known } = &mut self.names[name];
            for (address, lane) in known.extract_if(.., |(it, _)| !addresses.contains(it)) {
                info!("upstream {endpoint}: {} is no longer an address of it", address.ip());
                if let Lane::Upstream(upstream) = &mut lanes[lane] {
                    upstream.leave();
                }
            }
            for address in addresses {
                if known.iter().any(|(it, _)| *it == address) {
                    continue;
                }
                let (context, access) = (&self.context, self.access.as_deref());
                match Upstream::new(context, endpoint, Some(address), access, &self.config) {
                    Ok(upstream) => {
                        let lane = enter(lanes, Lane::Upstream(upstream.into()));
                        known.push((address, lane));
                        new.push(lane);
                    }
                    // It is tried again with the next look-up.
                    Err(error) => warn!("upstream {endpoint}: {error:#}"),
                }
            }
        }
        new
    }
}

/// A name that is looked up again and again.
struct LookUp {
    number: usize,
    endpoint: Endpoint,
    /// Why there were no addresses, as the log was told.
    trouble: Option<String>,
}

impl LookUp {
    fn new((number, endpoint): (usize, Endpoint)) -> LookUp {
        LookUp { number, endpoint, trouble: None }
    }

    /// Looks the name up, and sends its addresses. While that fails, the last ones hold.
    fn repeat(&mut self, found: &Sender<Found>) {
        match self.endpoint.addresses() {
            Ok(mut addresses) => {
                self.trouble = None;
                // Name servers give them in turns: of too many the same ones each time.
                addresses.sort();
                addresses.truncate(MAX_ADDRESSES);
                // Nobody hears of it once the service has ended.
                let _ = found.send(Found { name: self.number, addresses });
            }
            Err(why) if self.trouble.as_ref() != Some(&why) => {
                warn!("upstream {}: {why}; retrying", self.endpoint);
                self.trouble = Some(why);
            }
            Err(_) => (),
        }
    }
}
