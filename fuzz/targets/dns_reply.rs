#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| repd::fuzzing::dns_reply(bytes));
