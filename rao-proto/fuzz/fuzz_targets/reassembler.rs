#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    rao_fuzz::reassembler(bytes);
});
