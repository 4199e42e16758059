//! One function per fuzz target: whatever the bytes, it must not panic. libFuzzer calls them (`fuzz_targets/`), and so does `examples/hunt.rs`, which
//! needs no special toolchain. Each returns how many frames it has decoded, or calls it has made, so that a run can say what it did.

mod decode;
mod driver;
mod fold;
mod reassembler;

pub use decode::decode;
pub use driver::driver;
pub use fold::fold;
pub use reassembler::reassembler;

/// What the bytes are given to.
pub type Target = fn(&[u8]) -> u64;

/// All of them, by name.
pub const TARGETS: [(&str, Target); 4] = [
    ("decode", decode),
    ("reassembler", reassembler),
    ("fold", fold),
    ("driver", driver),
];

/// A sound frame around any payload: chance does not find a checksum.
pub fn frame(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(payload.len() + 9);
    bytes.push(rao_proto::VERSION);
    bytes.extend((payload.len() as u32).to_le_bytes());
    bytes.extend(payload);
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

/// Gives the frames at the front of `bytes` right checksums, as far as their lengths lead.
pub fn mend(bytes: &mut [u8]) {
    let mut rest = bytes;
    while let Some((&[rao_proto::VERSION, a, b, c, d], _)) = rest.split_first_chunk() {
        let len = 5 + u32::from_le_bytes([a, b, c, d]) as usize;
        let Some((frame, behind)) = rest.split_at_mut_checked(len + 4) else {
            return;
        };
        let checksum = crc32fast::hash(&frame[..len]);
        frame[len..].copy_from_slice(&checksum.to_le_bytes());
        rest = behind;
    }
}
