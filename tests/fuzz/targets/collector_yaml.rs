#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| rotel_fuzz::collector_yaml(text));
