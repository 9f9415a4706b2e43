//! Keeps what this process knows from others.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::prctl::{set_dumpable, set_no_new_privs};

/// True once [`begin`] was called.
static HAS_BEGUN: AtomicBool = AtomicBool::new(false);

/// From now on the system writes no core of this process, other processes of its user do not look
/// into it (prctl(2), PR_SET_DUMPABLE), and neither it nor its programs gain privileges
/// (PR_SET_NO_NEW_PRIVS). Programs that start later are not told where credentials are.
pub(crate) fn begin() -> io::Result<()> {
    set_dumpable(false)?;
    set_no_new_privs()?;
    HAS_BEGUN.store(true, Ordering::Relaxed);
    Ok(())
}

pub(super) fn has_begun() -> bool {
    HAS_BEGUN.load(Ordering::Relaxed)
}
