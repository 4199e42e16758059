//! The host: two functions of the C library, and the only `unsafe` of the proof.

use core::fmt;

#[link(name = "c")]
unsafe extern "C" {
    fn write(descriptor: i32, bytes: *const u8, len: usize) -> isize;
    fn _exit(status: i32) -> !;
}

/// Standard output.
pub struct Out;

impl fmt::Write for Out {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            // SAFETY: the pointer and the length are those of one live slice, which `write` only reads.
            let written = unsafe { write(1, rest.as_ptr(), rest.len()) };
            let written = usize::try_from(written).map_err(|_| fmt::Error)?;
            rest = rest.get(written..).ok_or(fmt::Error)?;
        }
        Ok(())
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    use fmt::Write as _;
    let _ = writeln!(Out, "{info}");
    // SAFETY: `_exit` takes any status and does not return.
    unsafe { _exit(101) }
}

#[cfg(feature = "negative-control")]
extern crate alloc;

#[cfg(feature = "negative-control")]
pub fn allocate() {
    core::hint::black_box(alloc::vec![1_u8; core::hint::black_box(16)]);
}
