//! A tree of agents on a Cortex-M4, without an operating system and without an allocator.
//!
//! ```text
//! cargo run --release        in the emulator
//! ./run.sh                   the same, compared with the host, and with how much memory it takes
//! ```
//!
//! This file and `board.rs` are the device. What the agents do, and the loop that lets them, are in the library.
#![no_std]
#![no_main]

mod board;

use core::fmt::Write as _;
use cortex_m_rt::entry;
use rao_firmware::program::{self, Memory};

#[entry]
fn main() -> ! {
    // All that the agents, their tree and its trace will ever need. `entry` makes it a `&'static mut`.
    static mut MEMORY: Memory = Memory::new();

    let result = program::run(MEMORY, &mut board::stdout());
    if let Err(wrong) = &result {
        let _ = writeln!(board::stdout(), "WRONG: {wrong}");
    }
    let _ = writeln!(board::stderr(), "stack used {} bytes", board::stack_used());
    board::exit(result.is_ok())
}
