//! What the fuzz targets in `fuzz` call, one function each: what must hold of whatever is read, from
//! a program, a person, a file or the network.

pub use crate::auth::{client_list, key_file, server_list};
#[cfg(feature = "cli")]
pub use crate::call::fuzz::call_reply;
pub use crate::dns::dns_reply;
pub use crate::endpoint::fuzz::endpoint;
pub use crate::handler::program_reply;
pub use crate::status::http_request;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Where the fuzzers begin. What one of them finds is added, and is a test from then on.
    #[test]
    fn what_fuzzers_begin_with_holds() {
        for (name, target) in [
            #[cfg(feature = "cli")]
            ("call_reply", call_reply as fn(&[u8])),
            ("client_list", client_list as fn(&[u8])),
            ("dns_reply", dns_reply),
            ("endpoint", endpoint),
            ("http_request", http_request),
            ("key_file", key_file),
            ("program_reply", program_reply),
            ("server_list", server_list),
        ] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
            let seeds: Vec<_> = fs::read_dir(&folder).unwrap().collect();
            assert!(!seeds.is_empty(), "{name}");
            for seed in seeds {
                let path = seed.unwrap().path();
                // This is shown if it fails.
                println!("{}", path.display());
                target(&fs::read(path).unwrap());
            }
        }
    }
}
