//! Name look-ups in a binary with a static glibc.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int};
use std::sync::Once;

use log::debug;

/// Has names looked up only in hosts(5) and by DNS, both of which a static glibc contains. Other
/// modules that nsswitch.conf(5) may name are loaded from the system with the system's own libc; if
/// that is of another version, the process crashes.
pub(crate) fn use_files_and_dns() {
    unsafe extern "C" {
        /// Sets the services that a database is looked up in, whatever nsswitch.conf says: `nss.h`
        /// of glibc.
        fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: both are static strings that end with a zero, and this is before the first
        // look-up.
        if unsafe { __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr()) } != 0 {
            debug!("cannot configure name look-ups: {}", std::io::Error::last_os_error());
        }
    });
}
