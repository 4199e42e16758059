//! The checksum by tables: any processor, no unsafe.

/// Sixteen tables (16 KiB) where memory is plenty, one (1 KiB) on devices.
#[cfg(target_pointer_width = "64")]
static CRC: crc::Crc<u32, crc::Table<16>> = crc::Crc::<u32, crc::Table<16>>::new(&crc::CRC_32_ISO_HDLC);
#[cfg(not(target_pointer_width = "64"))]
static CRC: crc::Crc<u32, crc::Table<1>> = crc::Crc::<u32, crc::Table<1>>::new(&crc::CRC_32_ISO_HDLC);

/// The checksum of `bytes`.
#[cfg(not(target_pointer_width = "64"))]
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    CRC.checksum(bytes)
}

/// The checksum of `bytes`.
///
/// The tables take sixteen bytes at once, but what is left over one by one, which would be half the time of a short frame. So the odd
/// bytes go first, as a block with zeros before them, and the register begins with what these zeros turn into the usual initial value.
#[cfg(target_pointer_width = "64")]
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    let (odd, blocks) = bytes.split_at(bytes.len() % 16);
    let (zeros, Some(first)) = (16 - odd.len(), bytes.first_chunk()) else {
        return CRC.checksum(bytes);
    };
    if odd.is_empty() {
        return CRC.checksum(bytes);
    }
    let block = u128::from_le_bytes(*first) << (8 * zeros);
    let mut digest = CRC.digest_with_initial(BEFORE_ZEROS[zeros]);
    digest.update(&block.to_le_bytes());
    digest.update(blocks);
    digest.finalize()
}

/// Initial values, by the number of zeros that make the usual one of them. The digest takes them with the highest bit first.
#[cfg(target_pointer_width = "64")]
const BEFORE_ZEROS: [u32; 16] = {
    let mut values = [u32::MAX; 16];
    let (mut register, mut zeros) = (u32::MAX, 1);
    while zeros < values.len() {
        let mut bits = 0;
        while bits < 8 {
            // A zero bit shifts the register right and, where a one falls out, adds the polynomial, whose highest bit is set: undone.
            register = if register >> 31 == 1 {
                ((register ^ POLYNOMIAL) << 1) | 1
            } else {
                register << 1
            };
            bits += 1;
        }
        values[zeros] = register.reverse_bits();
        zeros += 1;
    }
    values
};

/// Lowest bit first.
#[cfg(target_pointer_width = "64")]
const POLYNOMIAL: u32 = 0xEDB8_8320;
