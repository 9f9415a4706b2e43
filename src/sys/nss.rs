//! How a static glibc looks names up.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int};
use std::sync::Once;

use log::debug;

/// Has names looked up in hosts(5) and by DNS alone, both of which a static glibc has inside. The other
/// modules that nsswitch.conf(5) may name are loaded from the system, with the system's own libc, and
/// where that is of another version the process crashes.
pub(crate) fn use_files_and_dns() {
    unsafe extern "C" {
        /// `nss.h` of glibc: which services a database is looked up in, whatever the file says.
        fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: both are strings that end with a zero and live for ever, and this is before the first
        // lookup.
        if unsafe { __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr()) } != 0 {
            debug!("cannot say how names are looked up: {}", std::io::Error::last_os_error());
        }
    });
}
