//! What this crate relies on: the bytes of the protocol, and what it makes of them.
//!
//! When rao-proto is updated, the first test shows field by field what changed on the wire; a new event adds a snapshot.

use rao_proto::testing::{HexDump, RECORDS, crc32};
use rao_proto::{Record, encode};
use token_meter::read;

#[test]
fn the_bytes_of_every_event() {
    for record in RECORDS {
        let name = format!("event_{}", record.event.kind());
        insta::assert_snapshot!(name, HexDump(&frame(record)), &format!("{record:?}"));
    }
}

#[test]
fn what_is_counted() {
    insta::assert_snapshot!(read(&trace()[..]).unwrap(), @r"
    node      read   sampled
       1         3         2
    ");
}

#[test]
fn a_trace_that_is_not_whole_is_no_bill() {
    let trace = trace();
    let torn = read(&trace[..trace.len() - 3]).unwrap_err();
    insta::assert_snapshot!(torn, @"at byte 221: torn frame: 13 of at least 16 bytes; 13 bytes passed over");

    // The length of the second frame.
    let mut damaged = trace.clone();
    damaged[50] ^= 1;
    insta::assert_snapshot!(read(&damaged[..]).unwrap_err(), @"at byte 46: payload of 16777244 bytes would exceed the frame limit of 1048576; 37 bytes passed over");

    let mut newer = trace;
    newer[0] = 2;
    insta::assert_snapshot!(read(&newer[..]).unwrap_err(), @"at byte 0: version 2, expected 1; 46 bytes passed over");
}

#[test]
fn an_event_of_a_later_protocol_is_said_to_be_missing() {
    // At 0 microseconds, event 200.
    let mut frame = vec![1, 3, 0, 0, 0, 0, 200, 1];
    frame.extend(crc32(&frame).to_le_bytes());
    let meter = read(&[trace(), frame].concat()[..]).unwrap();
    assert_eq!(meter.unknown, 1);
    assert_eq!(meter.nodes, read(&trace()[..]).unwrap().nodes);
}

fn trace() -> Vec<u8> {
    RECORDS.iter().flat_map(frame).collect()
}

fn frame(record: &Record<'_>) -> Vec<u8> {
    let mut bytes = [0; 128];
    let len = encode(record, &mut bytes).unwrap();
    bytes[..len].to_vec()
}
