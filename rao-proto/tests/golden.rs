//! The bytes of every event. A diff in a snapshot is a change of the wire format: see SPEC.md for what may change.

mod common;

use std::fmt::Write as _;

use common::{LIMITS, REASONS, encoded, examples, logprobs, statuses};
use rao_proto::*;

#[test]
fn every_event() {
    let examples = examples();
    for (record, kind) in examples.iter().zip(0..) {
        assert_eq!(record.event.kind(), kind, "one example per event, in wire order");
    }
    insta::assert_snapshot!(dump(&examples));
}

#[test]
fn field_boundaries() {
    let spawn = |parent, depth, task| Event::Spawn {
        node: NodeId(u32::MAX),
        parent,
        depth: Depth(depth),
        task,
        budget: if depth == 0 { NOTHING } else { Budget::UNLIMITED },
    };
    let events = [
        spawn(None, 0, ""),
        spawn(Some(NodeId(u32::MAX)), u8::MAX, "\u{10FFFF}"),
        Event::Observe {
            node: NodeId::ROOT,
            tokens: Tokens::EMPTY,
        },
        Event::Observe {
            node: NodeId(127),
            tokens: Tokens::new(&[Token(u32::MAX)]),
        },
        Event::Act {
            node: NodeId(128),
            tokens: Tokens::EMPTY,
            logprobs: Logprobs::EMPTY,
            weights: WeightsVersion(u64::MAX),
        },
        Event::Act {
            node: NodeId(16_383),
            tokens: Tokens::new(&[Token(0)]),
            logprobs: logprobs(&[f32::MIN]),
            weights: WeightsVersion(0),
        },
        Event::Return {
            node: NodeId(16_384),
            status: NodeStatus::Failed,
            value: &[],
        },
        Event::Score {
            node: NodeId::ROOT,
            success: Success::ZERO,
        },
        Event::Score {
            node: NodeId::ROOT,
            success: Success::ONE,
        },
        Event::RunClosed {
            nodes: u32::MAX,
            tokens: u64::MAX,
        },
    ];
    let records: Vec<_> = events
        .into_iter()
        .map(|event| Record { at_us: u64::MAX, event })
        .collect();
    insta::assert_snapshot!(dump(&records));
}

#[test]
fn every_choice() {
    let node = NodeId::ROOT;
    let mut events: Vec<_> = statuses()
        .into_iter()
        .map(|status| Event::Return {
            node,
            status,
            value: &[],
        })
        .collect();
    events.extend(LIMITS.map(|limit| Event::Refuse {
        parent: node,
        index: 0,
        limit,
    }));
    events.extend(REASONS.map(|reason| Event::Cancel { node, reason }));
    let mut table = String::new();
    for event in events {
        let bytes = encoded(&Record { at_us: 0, event });
        writeln!(table, "{:<14} {event:?}", hex(&bytes[6..bytes.len() - 4])).unwrap();
    }
    insta::assert_snapshot!(table);
}

/// Every field at its least.
const NOTHING: Budget = Budget {
    depth: 0,
    nodes: 0,
    children: 0,
    steps: 0,
    tokens: 0,
    deadline_us: Some(0),
};

/// The worked example of the specification is the spawn among the examples.
#[test]
fn specification_example() {
    let lines = include_str!("../SPEC.md")
        .lines()
        .filter_map(|line| line.strip_prefix("    "));
    let bytes: Vec<_> = lines.map(|line| line.split("  ").next().unwrap()).collect();
    assert_eq!(bytes.join(" "), hex(&encoded(&examples()[1])));
}

/// Each record, then its frame with the parts on lines of their own.
fn dump(records: &[Record<'_>]) -> String {
    let mut out = String::new();
    for record in records {
        let bytes = encoded(record);
        let (header, rest) = bytes.split_at(5);
        let (payload, checksum) = rest.split_at(rest.len() - 4);
        let (at_us, rest) = payload.split_at(1 + payload.iter().position(|byte| byte & 0x80 == 0).unwrap());
        let (event, fields) = rest.split_at(1);
        writeln!(out, "{:?}", record.event).unwrap();
        let parts = [&header[..1], &header[1..], at_us, event, fields, checksum];
        for (name, part) in ["version", "length", "at_us", "event", "fields", "checksum"]
            .iter()
            .zip(parts)
        {
            for (row, chunk) in part.chunks(16).enumerate() {
                writeln!(out, "  {:<9}{}", if row == 0 { name } else { "" }, hex(chunk)).unwrap();
            }
        }
        out.push('\n');
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(" ")
}
