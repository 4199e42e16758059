//! The checksum by tables: any processor, no unsafe.
//!
//! Our own rather than the crate `crc`: sixteen bytes at once wait for the four before them only, and what is left over goes four at a time,
//! which takes half the time on a frame of a hundred bytes, most of which are that short.

/// Lowest bit first.
const POLYNOMIAL: u32 = 0xEDB8_8320;

/// Sixteen tables (16 KiB) where memory is plenty, one (1 KiB) on devices.
const TABLES: usize = if cfg!(target_pointer_width = "64") { 16 } else { 1 };

/// What a byte adds to the register with so many zeros behind it.
static TABLE: [[u32; 256]; TABLES] = {
    let mut tables = [[0; 256]; TABLES];
    let mut byte = 0;
    while byte < 256 {
        let (mut register, mut bits) = (byte as u32, 8 * TABLES);
        while bits > 0 {
            register = (register >> 1) ^ (POLYNOMIAL & (register & 1).wrapping_neg());
            bits -= 1;
            if bits % 8 == 0 {
                tables[TABLES - 1 - bits / 8][byte] = register;
            }
        }
        byte += 1;
    }
    tables
};

/// The checksum of `bytes`.
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    let (register, rest) = by_words(u32::MAX, bytes);
    !rest.iter().fold(register, |register, byte| {
        (register >> 8) ^ TABLE[0][usize::from(register as u8 ^ byte)]
    })
}

/// The register after as many bytes as can be taken at once, and the others.
#[cfg(target_pointer_width = "64")]
fn by_words(register: u32, bytes: &[u8]) -> (u32, &[u8]) {
    let (blocks, rest) = bytes.as_chunks();
    let (words, rest) = rest.as_chunks();
    let register = blocks.iter().fold(register, block);
    (
        words.iter().fold(register, |register, bytes| word(register, bytes, 0)),
        rest,
    )
}

/// With one table, none of them.
#[cfg(not(target_pointer_width = "64"))]
const fn by_words(register: u32, bytes: &[u8]) -> (u32, &[u8]) {
    (register, bytes)
}

/// The register after sixteen more bytes.
#[cfg(target_pointer_width = "64")]
fn block(register: u32, bytes: &[u8; 16]) -> u32 {
    let words: [[u8; 4]; 4] = core::array::from_fn(|index| core::array::from_fn(|byte| bytes[4 * index + byte]));
    // The last three first: they do not wait for the register.
    let behind = word(0, &words[1], 8) ^ word(0, &words[2], 4) ^ word(0, &words[3], 0);
    behind ^ word(register, &words[0], 12)
}

/// What four bytes make of the register, with so many zeros behind them.
#[cfg(target_pointer_width = "64")]
fn word(register: u32, bytes: &[u8; 4], zeros: usize) -> u32 {
    let [a, b, c, d] = (register ^ u32::from_le_bytes(*bytes)).to_le_bytes().map(usize::from);
    (TABLE[zeros + 3][a] ^ TABLE[zeros + 2][b]) ^ (TABLE[zeros + 1][c] ^ TABLE[zeros][d])
}
