#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rotel_fuzz::telemetry_body(bytes));
