//! The device: what is printed goes to whoever debugs it (semihosting), and its end is an exit code of the emulator.
//!
//! A board in the field has no debugger and stops at the first such call: there, a serial port takes the place of this file.

use core::fmt::{self, Write as _};
use cortex_m_rt::{ExceptionFrame, STACK_PAINT_VALUE, exception};
use cortex_m_semihosting::debug::{self, EXIT_FAILURE, EXIT_SUCCESS};
use cortex_m_semihosting::hio::{self, HostStream};

/// Standard output of the debugger or emulator.
pub fn stdout() -> Stream {
    Stream(hio::hstdout().ok())
}

/// Its standard error.
pub fn stderr() -> Stream {
    Stream(hio::hstderr().ok())
}

/// Goes nowhere where the debugger has no such stream.
pub struct Stream(Option<HostStream>);

impl fmt::Write for Stream {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.as_mut().map_or(Ok(()), |stream| stream.write_str(text))
    }
}

/// The end of the program.
pub fn exit(right: bool) -> ! {
    debug::exit(if right { EXIT_SUCCESS } else { EXIT_FAILURE });
    loop {
        core::hint::spin_loop();
    }
}

/// Bytes of the stack that have been written since the start: cortex-m-rt paints all of it before `main`.
pub fn stack_used() -> usize {
    unsafe extern "C" {
        static _stack_end: u32;
        static _stack_start: u32;
    }
    let (mut at, start) = (&raw const _stack_end, &raw const _stack_start);
    // SAFETY: `memory.x` puts both at the ends of one region of RAM, aligned to words, that holds nothing else; `at` stays within it. It is
    // read as a debugger would: what is there is some integer, and nothing is done with it but to compare it.
    while at < start && unsafe { at.read_volatile() } == STACK_PAINT_VALUE {
        at = at.wrapping_add(1);
    }
    start as usize - at as usize
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let _ = writeln!(stderr(), "{info}");
    exit(false)
}

/// An access to memory that is not there, an instruction that is none, a stack that is too deep.
#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    let _ = writeln!(stderr(), "hard fault at {:#010x}", frame.pc());
    exit(false)
}
