//! CRC-32 as in Ethernet, gzip and PNG (ISO-HDLC): every burst of up to 32 bits is caught, and every language has it.

#[cfg(not(feature = "crc32fast"))]
mod tables;

#[cfg(not(feature = "crc32fast"))]
pub(crate) use tables::checksum;

/// The checksum of `bytes`, with the instructions of the processor where that crate finds them.
#[cfg(feature = "crc32fast")]
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_one_of_the_specification_at_any_length() {
        let bitwise = |bytes: &[u8]| {
            !bytes.iter().fold(u32::MAX, |crc, byte| {
                (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                    (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
                })
            })
        };
        let bytes: [u8; 300] = core::array::from_fn(|index| (index * index + 7) as u8);
        for len in 0..=bytes.len() {
            assert_eq!(checksum(&bytes[..len]), bitwise(&bytes[..len]), "{len} bytes");
        }
        assert_eq!(checksum(b"123456789"), 0xCBF4_3926);
    }
}
