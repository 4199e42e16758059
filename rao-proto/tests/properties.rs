//! What holds for every record and for every string of bytes.

mod common;

use common::{encoded, frame, record};
use proptest::prelude::*;
use rao_proto::*;

proptest! {
    #[test]
    fn what_was_written_is_read(owned in prop::collection::vec(record(), 0..8)) {
        let records: Vec<_> = owned.iter().map(|owned| owned.record()).collect();
        let bytes = common::encoded_all(&records);
        let read: Result<Vec<_>, _> = Frames::new(&bytes).collect();
        prop_assert_eq!(read.unwrap(), records);
    }

    #[test]
    fn a_decoded_record_encodes_to_the_same_bytes(owned in record()) {
        let bytes = encoded(&owned.record());
        let (decoded, len) = decode(&bytes).unwrap();
        prop_assert_eq!(len, bytes.len());
        prop_assert_eq!(encoded(&decoded), bytes);
    }

    #[test]
    fn a_decoded_view_counts_what_it_yields(owned in record()) {
        let bytes = encoded(&owned.record());
        if let Event::Act { tokens, logprobs, .. } = decode(&bytes).unwrap().0.event {
            prop_assert_eq!(tokens.iter().count(), tokens.len());
            prop_assert_eq!(logprobs.iter().count(), tokens.len());
            prop_assert_eq!(tokens.is_empty(), logprobs.is_empty());
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in any::<Vec<u8>>()) {
        let mut frames = Frames::new(&bytes);
        for _ in frames.by_ref() {}
        prop_assert!(frames.offset() <= bytes.len());
    }

    /// Past the checksum: every payload is refused, unknown, or the one encoding of what it decodes to.
    #[test]
    fn random_payloads_have_one_meaning(at_us in 0..128_u8, kind in 0..10_u8, rest in prop::collection::vec(small_byte(), 0..24)) {
        let bytes = frame(&[&[at_us, kind][..], &rest].concat());
        match decode(&bytes) {
            Ok((record, len)) => {
                prop_assert_eq!(len, bytes.len());
                prop_assert_eq!(encoded(&record), bytes);
            }
            Err(error) => prop_assert_eq!(error.frame_len(), Some(bytes.len())),
        }
    }

    /// A sound trace with a few bytes overwritten: what is read before the damage is what was written.
    #[test]
    fn damage_never_reaches_back(
        owned in prop::collection::vec(record(), 1..6),
        at in any::<prop::sample::Index>(),
        noise in any::<[u8; 8]>(),
    ) {
        let records: Vec<_> = owned.iter().map(|owned| owned.record()).collect();
        let mut bytes = common::encoded_all(&records);
        let at = at.index(bytes.len());
        for (byte, noise) in bytes[at..].iter_mut().zip(noise) {
            *byte = noise;
        }
        let mut end = 0;
        let before = records.iter().take_while(|record| {
            end += encoded(record).len();
            end <= at
        });
        let read: Vec<_> = Frames::new(&bytes).map_while(Result::ok).collect();
        let before: Vec<_> = before.copied().collect();
        prop_assert!(read.starts_with(&before));
    }
}

/// Mostly bytes that are plausible as counts and tags.
fn small_byte() -> impl Strategy<Value = u8> {
    prop_oneof![3 => 0..6_u8, 1 => any::<u8>()]
}
