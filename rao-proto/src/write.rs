//! Values to bytes: postcard's encoding into a slice.

use postcard::ser_flavors::Flavor;
use postcard::{Error, Result};
use serde::Serialize;

/// Writes `value` to the front of `out` and returns its length; `None` where it does not fit.
pub(crate) fn write<T: Serialize + ?Sized>(value: &T, out: &mut [u8]) -> Option<usize> {
    postcard::serialize_with_flavor(value, Cursor { out, len: 0 }).ok()
}

/// What postcard's own slice does, but that the few bytes of a varint are stored one by one: to call a copy for each of the
/// dozen fields of a spawn takes longer than all the rest of them. Inlined where time is dearer than flash.
struct Cursor<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl Cursor<'_> {
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn room<const N: usize>(&mut self) -> Result<&mut [u8; N]> {
        let room = self.out.get_mut(self.len..).and_then(|rest| rest.first_chunk_mut());
        self.len += N;
        room.ok_or(Error::SerializeBufferFull)
    }
}

impl Flavor for Cursor<'_> {
    type Output = usize;

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn try_push(&mut self, byte: u8) -> Result<()> {
        *self.room()? = [byte];
        Ok(())
    }

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn try_extend(&mut self, bytes: &[u8]) -> Result<()> {
        match *bytes {
            [a] => *self.room()? = [a],
            [a, b] => *self.room()? = [a, b],
            [a, b, c] => *self.room()? = [a, b, c],
            _ => {
                let room = self
                    .out
                    .get_mut(self.len..)
                    .and_then(|rest| rest.get_mut(..bytes.len()));
                room.ok_or(Error::SerializeBufferFull)?.copy_from_slice(bytes);
                self.len += bytes.len();
            }
        }
        Ok(())
    }

    fn finalize(self) -> Result<usize> {
        Ok(self.len)
    }
}
