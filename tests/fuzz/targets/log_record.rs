#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| rotel_fuzz::log_record(text));
