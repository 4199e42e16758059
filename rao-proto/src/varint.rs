//! LEB128 varints: seven bits to a byte, lowest first, the highest bit of a byte says that more follow.

/// Takes a varint of at most `BITS` bits (7 to 64) off the front; `None` where it is torn, longer than it need be, or above them.
pub(crate) fn split<const BITS: u32>(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let len_max = BITS.div_ceil(7);
    // What the last byte that there can be has room for.
    let last_max = (1 << (BITS - 7 * (len_max - 1))) - 1;
    let mut value = 0;
    for (index, &byte) in (0..len_max).zip(bytes) {
        value |= u64::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let overlong = byte == 0 && index > 0;
            let overflow = index + 1 == len_max && byte > last_max;
            return if overlong || overflow {
                None
            } else {
                Some((value, &bytes[index as usize + 1..]))
            };
        }
    }
    None
}

/// Reads the varint at the front of eight bytes without a branch for each of them: value and length; `None` where it is longer than that
/// or longer than it need be.
#[cfg(target_pointer_width = "64")]
#[inline(always)]
pub(crate) fn from_window(window: [u8; 8]) -> Option<(u64, usize)> {
    let bytes = u64::from_le_bytes(window);
    // The last byte is the first without the highest bit.
    let ends = !bytes & 0x8080_8080_8080_8080;
    if ends == 0 {
        return None;
    }
    let len = ends.trailing_zeros() / 8 + 1;
    let groups = bytes & (u64::MAX >> (64 - 8 * len)) & 0x7F7F_7F7F_7F7F_7F7F;
    // Gathers 7 bits of a byte to 14 of two, these to 28 of four, these to 56.
    let pairs = groups & 0x007F_007F_007F_007F | (groups & 0x7F00_7F00_7F00_7F00) >> 1;
    let fours = pairs & 0x0000_3FFF_0000_3FFF | (pairs & 0x3FFF_0000_3FFF_0000) >> 2;
    let value = fours & 0x0FFF_FFFF | fours >> 32 << 28;
    let shortest = len == 1 || value >> (7 * (len - 1)) > 0;
    shortest.then_some((value, len as usize))
}

/// The varint of a `value` below 2^56, zeros behind it, and its length.
#[cfg(target_pointer_width = "64")]
#[inline(always)]
pub(crate) fn to_window(value: u64) -> ([u8; 8], usize) {
    let bits = 64 - (value | 1).leading_zeros();
    // A seventh, rounded up: exact up to 63.
    let len = (bits * 9).div_ceil(64);
    // The way back of `from_window`.
    let fours = value & 0x0FFF_FFFF | value >> 28 << 32;
    let pairs = fours & 0x0000_3FFF_0000_3FFF | (fours & 0x0FFF_C000_0FFF_C000) << 2;
    let groups = pairs & 0x007F_007F_007F_007F | (pairs & 0x3F80_3F80_3F80_3F80) << 1;
    let continued = 0x8080_8080_8080_8080 & !(u64::MAX << (8 * (len - 1)));
    ((groups | continued).to_le_bytes(), len as usize)
}

/// The varint of `value`, zeros behind it, and its length. For many in a row: comparisons rather than leading zeros, which processors do
/// for several numbers at once.
pub(crate) fn short(value: u32) -> ([u8; 8], usize) {
    let value = u64::from(value);
    // Seven bits to a byte, in halves: 14 bits to two bytes, then 7 to one.
    let halves = value & 0x3FFF | (value & 0x0FFF_C000) << 2;
    let groups = halves & 0x007F_007F | (halves & 0x3F80_3F80) << 1 | (value & 0xF000_0000) << 4;
    let above = |max| u64::from(value > max);
    let more = [above(0x7F), above(0x3FFF), above(0x1F_FFFF), above(0x0FFF_FFFF)];
    let continued = more[0] << 7 | more[1] << 15 | more[2] << 23 | more[3] << 31;
    let len = 1 + more[0] + more[1] + more[2] + more[3];
    ((groups | continued).to_le_bytes(), len as usize)
}

/// Bytes of `value` as a varint: 7 bits each, at least one.
pub(crate) const fn short_len(value: u32) -> usize {
    1 + (value > 0x7F) as usize
        + (value > 0x3FFF) as usize
        + (value > 0x1F_FFFF) as usize
        + (value > 0x0FFF_FFFF) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_change_where_seven_bits_run_out() {
        for (value, len) in [
            (0, 1),
            (127, 1),
            (128, 2),
            (16_383, 2),
            (16_384, 3),
            (2_097_151, 3),
            (2_097_152, 4),
            ((1 << 28) - 1, 4),
            (1 << 28, 5),
            (u32::MAX, 5),
        ] {
            assert_eq!(short_len(value), len, "{value}");
            let (bytes, written) = short(value);
            assert_eq!(written, len, "{value}");
            assert_eq!(split::<32>(&bytes[..len]), Some((value.into(), &[][..])));
        }
    }

    #[test]
    fn there_is_one_form() {
        assert_eq!(split::<32>(&[0x00]), Some((0, &[][..])));
        assert_eq!(split::<32>(&[0xAC, 0x02, 0x07]), Some((300, &[0x07][..])));
        assert_eq!(split::<16>(&[0xFF, 0xFF, 0x03]), Some((0xFFFF, &[][..])));
        assert_eq!(
            split::<32>(&[0xFF, 0xFF, 0xFF, 0xFF, 0x0F]),
            Some((0xFFFF_FFFF, &[][..]))
        );
        let most = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01];
        assert_eq!(split::<64>(&most), Some((u64::MAX, &[][..])));
        let refused: [&[u8]; 6] = [
            &[],
            &[0x80],
            &[0x80, 0x00],
            &[0xFF, 0xFF, 0xFF, 0xFF, 0x1F],
            &[0x80, 0x80, 0x80, 0x80, 0x00],
            &[0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
        ];
        for bytes in refused {
            assert_eq!(split::<32>(bytes), None, "{bytes:02x?}");
        }
        assert_eq!(split::<16>(&[0xFF, 0xFF, 0x04]), None);
        assert_eq!(
            split::<64>(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02]),
            None
        );
        assert_eq!(split::<64>(&[0x80; 11]), None);
    }

    /// The windows against the way byte by byte: every length, both sides of every step, and bytes behind that are none of theirs.
    #[cfg(target_pointer_width = "64")]
    #[test]
    fn windows_hold_what_is_read_byte_by_byte() {
        for bits in 0..56 {
            for value in [(1 << bits) - 1, 1 << bits, (1 << bits) | 0x55, (2 << bits) - 1] {
                let (mut window, len) = to_window(value);
                assert_eq!(split::<64>(&window), Some((value, &window[len..])));
                assert!(window[len..].iter().all(|byte| *byte == 0));
                window[len..].fill(0xFF);
                assert_eq!(from_window(window), Some((value, len)), "{value:#x}");
            }
        }
        assert_eq!(from_window([0xFF; 8]), None);
        assert_eq!(from_window([0x80, 0x00, 1, 1, 1, 1, 1, 1]), None);
        assert_eq!(from_window([0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00]), None);
    }
}
