//! What tells vocabularies apart.

/// Offset and prime of the 64-bit FNV-1a hash (Fowler, Noll and Vo).
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// 16 hexadecimal digits for the texts of a vocabulary, in the order of their tokens: FNV-1a (64 bits) of all of them, with a NUL between
/// each two. Exported files hold it, so that a policy is not sampled with another's tokens.
pub fn fingerprint<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
    let mut hash = FNV_OFFSET;
    let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
    for (index, text) in texts.into_iter().enumerate() {
        if index > 0 {
            add(0);
        }
        text.as_ref().bytes().for_each(&mut add);
    }
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::fingerprint;

    #[test]
    fn it_is_fnv_1a() {
        // The published test vectors of the hash.
        assert_eq!(fingerprint::<&str>([]), "cbf29ce484222325");
        assert_eq!(fingerprint(["a"]), "af63dc4c8601ec8c");
        assert_eq!(fingerprint(["foobar"]), "85944171f73967e8");
        // Where one text ends and the next begins counts.
        assert_ne!(fingerprint(["ab", "c"]), fingerprint(["a", "bc"]));
    }
}
