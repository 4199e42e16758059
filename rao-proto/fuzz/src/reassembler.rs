//! Bytes that arrive in pieces.

use rao_proto::{DecodeError, Reassembler, Record, encode, encoded_len};

/// Gives a reassembler `bytes` whole and in pieces, and asserts that it finds what the plain rule of `SPEC.md` finds: from every position
/// the sound frame that begins there, or else the next byte. The first four bytes say how the pieces are cut.
pub fn reassembler(bytes: &[u8]) -> u64 {
    let (cuts, stream) = bytes.split_at(bytes.len().min(4));
    compare::<16>(stream, cuts) + compare::<96>(stream, cuts) + compare::<4096>(stream, cuts)
}

/// What was found in a stream.
#[derive(Debug, Default, PartialEq)]
struct Found {
    /// Each record as the bytes of its frame, one after the other.
    records: Vec<u8>,
    count: u64,
    skipped: u64,
    /// Bytes that gave no record.
    passed: u64,
}

impl Found {
    fn take(&mut self, record: &Record<'_>) {
        let start = self.records.len();
        self.records
            .resize(start + encoded_len(record).expect("it was decoded"), 0);
        encode(record, &mut self.records[start..]).expect("room for it");
        self.count += 1;
    }
}

/// An error as far as it must not depend on the pieces: where, how long, what.
type Stretch = (u64, u64, String);

fn compare<const N: usize>(stream: &[u8], cuts: &[u8]) -> u64 {
    let (whole, stretches) = in_pieces::<N>(stream, &[]);
    assert_eq!(whole, by_the_rule(stream, N));
    let (pieces, again) = in_pieces::<N>(stream, cuts);
    assert_eq!((&pieces, &again), (&whole, &stretches));
    // Stretches lie one behind the other and account for every byte that gave no record.
    let mut end = 0;
    for (offset, passed, _) in &stretches {
        assert!(*offset >= end && *passed > 0);
        end = offset + passed;
    }
    assert!(end <= stream.len() as u64);
    assert_eq!(stretches.iter().map(|(_, passed, _)| passed).sum::<u64>(), whole.passed);
    2 * (whole.count + whole.skipped)
}

fn in_pieces<const N: usize>(stream: &[u8], cuts: &[u8]) -> (Found, Vec<Stretch>) {
    let mut reassembler = Box::new(Reassembler::<N>::new());
    let (mut found, mut stretches) = (Found::default(), Vec::new());
    let mut lengths = cuts.iter().map(|cut| usize::from(*cut) + 1).cycle();
    let mut rest = stream;
    loop {
        let piece = lengths.next().unwrap_or(rest.len()).min(rest.len());
        let taken = reassembler.push(&rest[..piece]);
        assert!(
            taken > 0 || piece == 0,
            "it takes something once it has nothing more to give"
        );
        rest = &rest[taken..];
        if rest.is_empty() {
            reassembler.finish();
        }
        while let Some(next) = reassembler.next_record() {
            match next {
                Ok(record) => found.take(&record),
                Err(error) => stretches.push((error.offset, error.len, error.kind.to_string())),
            }
        }
        if rest.is_empty() {
            assert_eq!(reassembler.offset(), stream.len() as u64);
            (found.skipped, found.passed) = (reassembler.skipped(), reassembler.passed_over());
            return (found, stretches);
        }
    }
}

fn by_the_rule(stream: &[u8], capacity: usize) -> Found {
    let (mut found, mut rest) = (Found::default(), stream);
    while !rest.is_empty() {
        let len = match rao_proto::decode(rest) {
            Ok((record, len)) if len <= capacity => {
                found.take(&record);
                len
            }
            Err(DecodeError::UnknownEvent { frame_len, .. }) if frame_len <= capacity => {
                found.skipped += 1;
                frame_len
            }
            Err(DecodeError::Malformed { frame_len, .. }) if frame_len <= capacity => {
                found.passed += frame_len as u64;
                frame_len
            }
            _ => {
                found.passed += 1;
                1
            }
        };
        rest = &rest[len..];
    }
    found
}
