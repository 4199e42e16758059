//! Bytes that are not what a writer wrote: the error names what and where, and nothing else is lost.

mod common;

use common::{encoded, encoded_all, frame};
use rao_proto::testing::{HexDump, RECORDS};
use rao_proto::*;

#[test]
fn frames_carry_the_checksum_of_the_specification() {
    for record in RECORDS {
        let bytes = encoded(record);
        assert_eq!(frame(&bytes[5..bytes.len() - 4]), bytes);
    }
}

#[test]
fn a_corrupt_byte_at_any_position_is_detected() {
    for record in RECORDS {
        let sound = encoded(record);
        for position in 0..sound.len() {
            for flip in 1..=u8::MAX {
                let mut bytes = sound.clone();
                bytes[position] ^= flip;
                let error = decode(&bytes).unwrap_err();
                let expected = match position {
                    0 => matches!(error, DecodeError::Version { .. }),
                    1..5 => matches!(
                        error,
                        DecodeError::Torn { .. } | DecodeError::TooLong { .. } | DecodeError::Checksum { .. }
                    ),
                    _ => matches!(error, DecodeError::Checksum { .. }),
                };
                assert!(expected, "byte {position} ^ {flip:02x}: {error:?}");
            }
        }
    }
}

#[test]
fn truncation_at_any_length_keeps_every_whole_frame() {
    let bytes = encoded_all(RECORDS);
    let mut starts = vec![0];
    starts.extend(RECORDS.iter().scan(0, |end, record| {
        *end += encoded(record).len();
        Some(*end)
    }));
    for len in 0..=bytes.len() {
        let whole = starts.iter().filter(|start| **start <= len).count() - 1;
        let mut frames = Frames::new(&bytes[..len]);
        for record in &RECORDS[..whole] {
            assert_eq!(frames.next(), Some(Ok(*record)));
        }
        let offset = starts[whole];
        if offset < len {
            let FrameError { offset: found, kind } = frames.next().unwrap().unwrap_err();
            assert_eq!(found, offset, "cut to {len}");
            let DecodeError::Torn { needed, available } = kind else {
                panic!("cut to {len}: {kind:?}")
            };
            assert_eq!(available, len - offset);
            let exact = starts[whole + 1] - offset;
            assert_eq!(needed, if available < 5 { 9 } else { exact });
        }
        assert_eq!(frames.next(), None);
        assert_eq!(frames.offset(), offset);
    }
}

#[test]
fn unknown_events_are_skipped_and_counted() {
    let mut bytes = encoded(&RECORDS[0]);
    bytes.extend(frame(&[0, 99]));
    bytes.extend(frame(b"\x01\xff\xff\xff\xff\x0fwhatever a newer version says"));
    bytes.extend(encoded(&RECORDS[1]));
    let mut frames = Frames::new(&bytes);
    assert_eq!(frames.next(), Some(Ok(RECORDS[0])));
    assert_eq!(frames.skipped(), 0);
    assert_eq!(frames.next(), Some(Ok(RECORDS[1])));
    assert_eq!(frames.next(), None);
    assert_eq!((frames.skipped(), frames.offset()), (2, bytes.len()));
    assert_eq!(
        decode(&frame(&[0, 99])),
        Err(DecodeError::UnknownEvent {
            kind: 99,
            frame_len: 11
        })
    );
}

#[test]
fn a_malformed_payload_loses_only_its_own_frame() {
    let first = encoded(&RECORDS[0]);
    let bad = frame(&[0, 7, 0]);
    let bytes = [&first[..], &bad, &encoded(&RECORDS[1])].concat();
    let mut frames = Frames::new(&bytes);
    assert_eq!(frames.next(), Some(Ok(RECORDS[0])));
    let kind = DecodeError::Malformed {
        reason: Malformed::Short,
        frame_len: bad.len(),
    };
    assert_eq!(
        frames.next(),
        Some(Err(FrameError {
            offset: first.len(),
            kind
        }))
    );
    assert_eq!(frames.next(), Some(Ok(RECORDS[1])));
    assert_eq!(frames.next(), None);
}

#[test]
fn payloads_that_no_writer_makes() {
    use Malformed::{Count, Integer, NotCanonical, Short, Trailing, Utf8, Value};
    let nan = [0, 7, 0, 0, 0, 0xC0, 0x7F];
    let above_one = [0, 7, 0, 1, 0, 0x80, 0x3F];
    let cases: &[(&str, &[u8], Malformed)] = &[
        ("empty", &[], Short),
        ("no event", &[0], Short),
        ("time above 64 bits", &[0xFF; 12], Integer),
        ("node above 32 bits", &[0, 6, 0xFF, 0xFF, 0xFF, 0xFF, 0x1F, 0], Integer),
        (
            "children above 16 bits",
            &[0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0x07, 0],
            Integer,
        ),
        (
            "steps above 16 bits",
            &[0, 1, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x80, 0x04, 0],
            Integer,
        ),
        ("event above 32 bits", &[0, 0xFF, 0xFF, 0xFF, 0xFF, 0x1F, 0], Integer),
        ("text longer than the payload", &[0, 1, 1, 0, 0, 200, 1, b'a'], Short),
        ("text not UTF-8", &[0, 1, 1, 0, 0, 1, 0xFF], Utf8),
        ("option tag 2", &[0, 1, 1, 2, 0, 0], Value),
        ("unknown limit", &[0, 2, 0, 0, 6], Value),
        ("unknown status", &[0, 5, 0, 6, 0], Value),
        ("unknown reason", &[0, 6, 0, 2], Value),
        ("success above 1", &above_one, Value),
        ("success not a number", &nan, Value),
        ("token torn", &[0, 3, 0, 1, 0x80], Value),
        ("token overlong", &[0, 3, 0, 2, 0x80, 0x00], Value),
        (
            "token above 32 bits",
            &[0, 3, 0, 5, 0xFF, 0xFF, 0xFF, 0xFF, 0x1F],
            Value,
        ),
        ("log-probabilities torn", &[0, 4, 0, 1, 1, 3, 0, 0, 0, 0], Value),
        ("log-probability above 0", &[0, 4, 0, 1, 1, 4, 1, 0, 0, 0, 0], Value),
        (
            "log-probability infinite",
            &[0, 4, 0, 1, 1, 4, 0, 0, 0x80, 0xFF, 0],
            Value,
        ),
        (
            "log-probability not a number",
            &[0, 4, 0, 1, 1, 4, 0, 0, 0xC0, 0xFF, 0],
            Value,
        ),
        (
            "a log-probability missing",
            &[0, 4, 0, 1, 1, 0, 0],
            Count { tokens: 1, logprobs: 0 },
        ),
        ("a byte too many", &[0, 6, 0, 0, 0], Trailing { bytes: 1 }),
        ("time overlong", &[0x80, 0x00, 6, 0, 0], NotCanonical),
        ("node overlong", &[0, 6, 0x80, 0x00, 0], NotCanonical),
        ("event overlong", &[0, 0x86, 0x00, 0, 0], NotCanonical),
        ("unknown event, time overlong", &[0x80, 0x00, 99], NotCanonical),
        ("unknown event, overlong", &[0, 0xE3, 0x00], NotCanonical),
        ("length overlong", &[0, 3, 0, 0x81, 0x00, 5], NotCanonical),
    ];
    for &(what, payload, reason) in cases {
        let bytes = frame(payload);
        assert_eq!(
            decode(&bytes),
            Err(DecodeError::Malformed {
                reason,
                frame_len: bytes.len()
            }),
            "{what}"
        );
        // The second reader of the format says the same.
        let dump = HexDump(&bytes).to_string();
        let mut wrong = dump.lines().filter_map(|line| line.split_once("  ! "));
        assert!(
            wrong
                .next()
                .is_some_and(|(_, wrong)| wrong.ends_with(&reason.to_string())),
            "{what}:\n{dump}"
        );
        assert_eq!(wrong.next(), None, "{what}");
    }
}

#[test]
fn other_versions_are_named() {
    let mut bytes = encoded(&RECORDS[0]);
    bytes[0] = 2;
    let error = Frames::new(&bytes).next().unwrap().unwrap_err();
    assert_eq!(
        error,
        FrameError {
            offset: 0,
            kind: DecodeError::Version { found: 2 }
        }
    );
    assert_eq!(error.to_string(), "at byte 0: version 2, expected 1");
}

#[test]
fn the_limit_is_the_same_for_writers_and_readers() {
    let overhead = encoded_len(&returned(&[])).unwrap() + 2; // the length of the value takes 3 bytes where it was 1
    let largest = vec![7; FRAME_MAX - overhead];
    let bytes = encoded(&returned(&largest));
    assert_eq!(bytes.len(), FRAME_MAX);
    assert_eq!(decode(&bytes), Ok((returned(&largest), FRAME_MAX)));

    let larger = vec![7; FRAME_MAX - overhead + 1];
    let error = EncodeError::TooLong { len: FRAME_MAX + 1 };
    assert_eq!(encoded_len(&returned(&larger)), Err(error));
    assert_eq!(encode(&returned(&larger), &mut vec![0; 2 * FRAME_MAX]), Err(error));

    let claimed = (FRAME_MAX - 9 + 1) as u32;
    let mut header = vec![VERSION];
    header.extend(claimed.to_le_bytes());
    assert_eq!(decode(&header), Err(DecodeError::TooLong { payload_len: claimed }));
}

#[test]
fn encoding_refuses_what_does_not_fit() {
    for record in RECORDS {
        let needed = encoded_len(record).unwrap();
        for available in 0..needed {
            let refused = encode(record, &mut vec![0; available]);
            assert_eq!(refused, Err(EncodeError::BufferTooSmall { needed, available }));
        }
    }
    let (node, weights) = (NodeId::ROOT, WeightsVersion(0));
    let event = Event::Act {
        node,
        tokens: Tokens::new(&[Token(1)]),
        logprobs: Logprobs::EMPTY,
        weights,
    };
    let (record, error) = (
        Record { at_us: 0, event },
        EncodeError::Count { tokens: 1, logprobs: 0 },
    );
    assert_eq!(encode(&record, &mut [0; 64]), Err(error));
    assert_eq!(encoded_len(&record), Err(error));
}

fn returned(value: &[u8]) -> Record<'_> {
    Record {
        at_us: 0,
        event: Event::Return {
            node: NodeId::ROOT,
            status: NodeStatus::Finished,
            value,
        },
    }
}
