#![no_main]

libfuzzer_sys::fuzz_target!(
    // A panic that is caught is none of the fuzzer's business.
    init: { drop(std::panic::take_hook()) },
    |bytes: &[u8]| uspark_fuzz::checks::frame(bytes)
);
