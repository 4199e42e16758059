//! Bytes that arrive in pieces, garbage among them: nothing sound is lost, and the pieces do not matter.

mod common;

use common::{Item, encoded, encoded_all, frame, items, record};
use proptest::prelude::*;
use rao_proto::testing::RECORDS;
use rao_proto::*;

/// Above every frame that `record()` makes.
const N: usize = 2048;

#[test]
fn a_trace_byte_by_byte() {
    let bytes = encoded_all(RECORDS);
    let mut reassembler = Reassembler::<N>::new();
    let mut ends = RECORDS.iter().scan(0, |end, record| {
        *end += encoded(record).len();
        Some(*end as u64)
    });
    let mut expected = RECORDS.iter();
    for (at, byte) in (1..).zip(&bytes) {
        assert_eq!(reassembler.push(&[*byte]), 1);
        if let Some(record) = reassembler.next_record() {
            assert_eq!(
                record,
                Ok(*expected.next().unwrap()),
                "as soon as its last byte is there"
            );
            assert_eq!((reassembler.offset(), ends.next()), (at, Some(at)));
            assert_eq!(reassembler.next_record(), None);
        }
    }
    reassembler.finish();
    assert_eq!(reassembler.next_record(), None);
    assert_eq!(
        (expected.next(), reassembler.passed_over(), reassembler.skipped()),
        (None, 0, 0)
    );
}

#[test]
fn a_torn_tail_is_named_once_no_more_bytes_come() {
    let [one, two] = [0, 1].map(|index| encoded(&RECORDS[index]));
    for cut in 1..two.len() {
        let mut reassembler = Reassembler::<N>::new();
        reassembler.push(&[&one[..], &two[..cut]].concat());
        assert!(reassembler.next_record().unwrap().is_ok());
        assert_eq!(reassembler.next_record(), None, "it may still come");
        reassembler.finish();
        let error = reassembler.next_record().unwrap().unwrap_err();
        let needed = if cut < 5 { 9 } else { two.len() };
        let kind = DecodeError::Torn { needed, available: cut }.into();
        let (offset, len) = (one.len() as u64, cut as u64);
        assert_eq!(error, StreamError { offset, len, kind });
        assert_eq!(reassembler.next_record(), None);

        // The line speaks again: another stretch of the same stream.
        let (head, tail) = two.split_at(cut);
        reassembler.push(head);
        assert_eq!(reassembler.next_record(), None, "it may come again");
        reassembler.push(tail);
        assert_eq!(reassembler.next_record(), Some(Ok(RECORDS[1])));
        assert_eq!(reassembler.offset(), (one.len() + cut + two.len()) as u64);
    }
}

/// A version byte and a length that could be true, before sound frames: they wait at most until the claim can be judged.
#[test]
fn a_false_claim_delays_but_hides_nothing() {
    let sound = encoded(&RECORDS[1]);
    for payload_len in [
        0,
        1,
        40,
        100,
        246,
        247,
        248,
        10_000,
        FRAME_MAX as u32 - 9,
        FRAME_MAX as u32,
        u32::MAX,
    ] {
        let mut bytes = vec![VERSION];
        bytes.extend(payload_len.to_le_bytes());
        for copies in [1, 20] {
            let mut stream = bytes.clone();
            stream.extend(sound.repeat(copies));
            for piece in [1, 7, stream.len()] {
                let items = items::<256>(stream.chunks(piece), true);
                let records = items
                    .iter()
                    .filter(|item| matches!(item, Item::Record(record) if *record == sound));
                assert_eq!(records.count(), copies, "claim of {payload_len}, pieces of {piece}");
                let Item::Error(error) = &items[0] else {
                    panic!("the claim is reported first: {items:?}")
                };
                assert_eq!((error.offset, error.len), (0, 5));
            }
            // Without the end of the stream: all but what could still be inside of the claimed frame.
            let waiting = items::<256>([&stream[..]], false);
            let decided = payload_len > 247 || stream.len() >= 9 + payload_len as usize;
            assert_eq!(
                waiting.len(),
                if decided { 1 + copies } else { 0 },
                "claim of {payload_len}"
            );
        }
    }
}

#[test]
fn a_frame_that_does_not_fit_is_named_and_passed_over() {
    let short = encoded(&RECORDS[7]);
    let value = [7; 100];
    let event = Event::Return {
        node: NodeId::ROOT,
        status: NodeStatus::Finished,
        value: &value,
    };
    let long = encoded(&Record { at_us: 0, event });
    let stream = [&short[..], &long, &long, &short].concat();
    for piece in [1, 10, 64, 1000] {
        let error = |offset: usize| {
            Item::Error(StreamError {
                offset: offset as u64,
                len: long.len() as u64,
                kind: StreamErrorKind::Capacity {
                    needed: long.len(),
                    capacity: 64,
                },
            })
        };
        assert_eq!(
            items::<64>(stream.chunks(piece), true),
            [
                Item::Record(short.clone()),
                error(short.len()),
                error(short.len() + long.len()),
                Item::Record(short.clone()),
            ]
        );
    }
    let error = items::<64>([&long[..]], true).remove(0);
    let Item::Error(error) = error else { panic!("too long") };
    assert_eq!(
        error.to_string(),
        "at byte 0: frame takes 114 bytes, the buffer has 64; 114 bytes passed over"
    );
}

#[test]
fn a_frame_as_long_as_the_buffer_fits() {
    let bytes = encoded(&RECORDS[1]);
    assert_eq!(bytes.len(), 37);
    for piece in [1, 5, 37, 74] {
        let twice = bytes.repeat(2);
        assert_eq!(
            items::<37>(twice.chunks(piece), true),
            [Item::Record(bytes.clone()), Item::Record(bytes.clone())]
        );
        assert_eq!(items::<36>(twice.chunks(piece), true).len(), 2);
        assert!(
            items::<36>(twice.chunks(piece), true)
                .iter()
                .all(|item| matches!(item, Item::Error(_)))
        );
    }
}

/// A payload that holds a whole frame: the outer frame is the record, whatever the pieces.
#[test]
fn what_lies_inside_a_sound_frame_is_not_read_as_frames() {
    let inner = encoded_all(RECORDS);
    let event = Event::Return {
        node: NodeId::ROOT,
        status: NodeStatus::Finished,
        value: &inner,
    };
    let outer = encoded(&Record { at_us: 0, event });
    for piece in [1, 64, outer.len()] {
        assert_eq!(items::<N>(outer.chunks(piece), true), [Item::Record(outer.clone())]);
        let after_noise = [&[0xEE, VERSION][..], &outer].concat();
        let read = items::<N>(after_noise.chunks(piece), true);
        assert!(
            matches!(read[0], Item::Error(StreamError { offset: 0, len: 2, .. })),
            "{read:?}"
        );
        assert_eq!(read[1..], [Item::Record(outer.clone())]);
    }
}

#[test]
fn every_cause_is_named_where_it_begins() {
    let sound = encoded(&RECORDS[6]);
    let version = [&[3][..], &sound[1..]].concat();
    let mut checksum = sound.clone();
    checksum[6] ^= 1;
    let (malformed, unknown) = (frame(&[0, 7, 0]), frame(&[0, 99, 1, 2, 3]));
    let stream = [&version[..], &sound, &checksum, &malformed, &unknown, &sound].concat();
    let mut reassembler = Reassembler::<64>::new();
    let (mut rest, mut lines) = (&stream[..], Vec::new());
    while !rest.is_empty() {
        rest = &rest[reassembler.push(rest)..];
        while let Some(next) = reassembler.next_record() {
            lines.push(next.map_or_else(|error| error.to_string(), |record| format!("{:?}", record.event)));
        }
    }
    insta::assert_snapshot!(lines.join("\n"), @r"
    at byte 0: version 3, expected 1; 14 bytes passed over
    Cancel { node: NodeId(2), reason: ParentEnded }
    at byte 28: checksum 4683fbf8, computed fe3f9c9d; 14 bytes passed over
    at byte 42: malformed payload: a field runs past the end; 12 bytes passed over
    Cancel { node: NodeId(2), reason: ParentEnded }
    ");
    assert_eq!(reassembler.skipped(), 1);
    assert_eq!(
        reassembler.passed_over(),
        (version.len() + checksum.len() + malformed.len()) as u64
    );
}

proptest! {
    #[test]
    fn any_split_of_any_trace_gives_the_records_of_frames(
        owned in prop::collection::vec(record(), 0..8),
        cuts in prop::collection::vec(1..200_usize, 1..20),
    ) {
        let records: Vec<_> = owned.iter().map(|owned| owned.record()).collect();
        let bytes = encoded_all(&records);
        let whole: Vec<_> = Frames::new(&bytes).map(|record| Item::Record(encoded(&record.unwrap()))).collect();
        prop_assert_eq!(items::<N>(pieces(&bytes, &cuts), true), whole);
    }

    #[test]
    fn garbage_between_frames_loses_none(
        owned in prop::collection::vec((garbage(), record()), 1..8),
        cuts in prop::collection::vec(1..200_usize, 1..20),
    ) {
        let sound: Vec<_> = owned.iter().map(|(_, owned)| encoded(&owned.record())).collect();
        let stream: Vec<_> = owned.iter().zip(&sound).flat_map(|((garbage, _), sound)| [&garbage[..], sound].concat()).collect();
        let items = items::<N>(pieces(&stream, &cuts), true);
        let records: Vec<_> = items.iter().filter_map(|item| match item { Item::Record(bytes) => Some(bytes), _ => None }).collect();
        prop_assert!(records.iter().copied().eq(&sound));
        let passed: u64 = items.iter().map(|item| match item { Item::Error(error) => error.len, _ => 0 }).sum();
        prop_assert_eq!(passed, owned.iter().map(|(garbage, _)| garbage.len() as u64).sum::<u64>());
    }

    /// Whatever the bytes and the pieces: what a plain loop over the whole stream finds, for buffers of three sizes.
    #[test]
    fn any_bytes_are_read_by_the_rule(
        parts in prop::collection::vec(part(), 0..12),
        cuts in prop::collection::vec(1..200_usize, 1..20),
    ) {
        let stream = parts.concat();
        prop_assert_eq!(items::<9>(pieces(&stream, &cuts), true), by_the_rule(&stream, 9));
        prop_assert_eq!(items::<64>(pieces(&stream, &cuts), true), by_the_rule(&stream, 64));
        prop_assert_eq!(items::<N>(pieces(&stream, &cuts), true), by_the_rule(&stream, N));
    }

    #[test]
    fn random_bytes_end(bytes in any::<Vec<u8>>(), piece in 1..40_usize) {
        let mut reassembler = Reassembler::<16>::new();
        for piece in bytes.chunks(piece) {
            let mut rest = piece;
            while !rest.is_empty() {
                let taken = reassembler.push(rest);
                prop_assert!(taken > 0);
                rest = &rest[taken..];
                while reassembler.next_record().is_some() {}
            }
        }
        reassembler.finish();
        while reassembler.next_record().is_some() {}
        prop_assert_eq!(reassembler.offset(), bytes.len() as u64);
    }
}

/// The rule of the specification over a stream that lies there whole: no state, no pieces.
fn by_the_rule(stream: &[u8], capacity: usize) -> Vec<Item> {
    let sound = |at: usize| {
        let len = claim(stream, at).filter(|len| *len <= capacity)?;
        let none = matches!(
            decode(&stream[at..]),
            Err(DecodeError::Torn { .. } | DecodeError::Checksum { .. })
        );
        (!none).then_some(len)
    };
    let (mut items, mut at) = (Vec::new(), 0);
    while at < stream.len() {
        let begin = at;
        let error = |end: usize, kind: StreamErrorKind| {
            let (offset, len) = (begin as u64, (end - begin) as u64);
            Item::Error(StreamError { offset, len, kind })
        };
        if let Some(len) = sound(at) {
            at += len;
            match decode(&stream[begin..]) {
                Ok((record, _)) => items.push(Item::Record(encoded(&record))),
                Err(DecodeError::UnknownEvent { .. }) => {}
                Err(kind) => items.push(error(at, kind.into())),
            }
            continue;
        }
        let claimed = claim(stream, at);
        let end = claimed.map_or(stream.len(), |len| stream.len().min(begin + len));
        at = (begin + 1..end).find(|at| sound(*at).is_some()).unwrap_or(end);
        items.push(match claimed {
            Some(needed) if needed > capacity => error(at, StreamErrorKind::Capacity { needed, capacity }),
            _ => error(at, decode(&stream[begin..]).unwrap_err().into()),
        });
    }
    items
}

/// Length of the frame that begins at `at`, as its version and length have it.
fn claim(stream: &[u8], at: usize) -> Option<usize> {
    let header = stream.get(at..at + 5)?;
    let len = u32::from_le_bytes(header[1..].try_into().unwrap()) as usize + 9;
    (header[0] == VERSION && len <= FRAME_MAX).then_some(len)
}

/// Cuts of the given lengths, over and over.
fn pieces<'a>(mut bytes: &'a [u8], cuts: &[usize]) -> impl Iterator<Item = &'a [u8]> {
    cuts.iter().cycle().map_while(move |cut| {
        let (piece, rest) = bytes.split_at(bytes.len().min(*cut));
        bytes = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Not a frame, but often what looks like the start of one.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let claim = (0..3000_u32, prop::collection::vec(any::<u8>(), 0..8)).prop_map(|(len, rest)| {
        let mut bytes = vec![VERSION];
        bytes.extend(len.to_le_bytes());
        bytes.extend(rest);
        bytes
    });
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        prop::collection::vec(0..3_u8, 0..40),
        claim,
    ]
}

/// Sound frames, damaged ones, unknown and malformed ones, and what is none.
fn part() -> impl Strategy<Value = Vec<u8>> {
    let damaged =
        (record(), any::<prop::sample::Index>(), any::<u8>(), any::<bool>()).prop_map(|(owned, at, byte, cut)| {
            let mut bytes = encoded(&owned.record());
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes.truncate(if cut { at } else { bytes.len() });
            bytes
        });
    prop_oneof![
        4 => record().prop_map(|owned| encoded(&owned.record())),
        2 => garbage(),
        2 => damaged,
        1 => prop::collection::vec(0..12_u8, 0..20).prop_map(|payload| frame(&payload)),
    ]
}
