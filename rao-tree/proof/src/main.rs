//! rao-proto and rao-tree without std and without an allocator, on the host: the program of `examples/firmware` (events out and in, the
//! driver over a recursive task, credit).
//!
//! Exits with 0 only where every result is right. `run.sh` builds it, runs it, and looks into its symbol table.
#![no_std]
#![no_main]

mod host;

use core::fmt::Write as _;
use host::Out;
use rao_firmware::program::{self, Memory};

/// What the C library calls once it has set itself up.
#[unsafe(no_mangle)]
extern "C" fn main() -> i32 {
    #[cfg(feature = "negative-control")]
    host::allocate();
    match program::run(&mut Memory::new(), &mut Out) {
        Ok(()) => 0,
        Err(what) => {
            // Writing to the terminal does not fail, and there is nobody to tell.
            let _ = writeln!(Out, "WRONG: {what}");
            1
        }
    }
}
