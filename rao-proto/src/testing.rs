//! What a crate that reads or writes the protocol needs in order to test that it does: one value of each event, and bytes made readable.
//!
//! Only with feature `testing`; still `no_std` and without an allocator. A snapshot of every event in three lines, here with insta:
//!
//! ```
//! use rao_proto::{encode, testing::{HexDump, RECORDS}};
//!
//! for record in RECORDS {
//!     let mut frame = [0; 128];
//!     let len = encode(record, &mut frame)?;
//!     let snapshot = format!("{:?}\n{}", record.event, HexDump(&frame[..len]));
//!     // insta::assert_snapshot!(snapshot);
//! #   assert!(!snapshot.contains('!'), "{snapshot}");
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod hex_dump;

pub use hex_dump::HexDump;

use crate::event::{Event, KINDS, Record};
use crate::types::{Budget, CancelReason, Depth, Limit, Limits, NodeId, NodeStatus, Success, Token, WeightsVersion};
use crate::views::{Logprobs, Tokens};

/// One record of each event, in wire order: the events of a small run, though not a run. No two fields of an event
/// have the same bytes, so that none can be exchanged unnoticed. The longest frame is below 128 bytes.
///
/// A record here never changes; an event that is added to the protocol is added at the end.
pub const RECORDS: &[Record<'static>] = &[
    record(
        0,
        Event::RunOpened {
            task: "sort 3 1 2",
            seed: 0xDEAD_BEEF,
            limits: LIMITS,
            weights: WeightsVersion(7),
        },
    ),
    record(
        100,
        Event::Spawn {
            node: NodeId(4),
            parent: Some(NodeId::ROOT),
            depth: Depth(1),
            task: "sort 3 1",
            budget: BUDGET,
        },
    ),
    record(
        200,
        Event::Refuse {
            parent: NodeId(1),
            index: 3,
            limit: Limit::Children,
        },
    ),
    record(
        300,
        Event::Observe {
            node: NodeId(1),
            tokens: Tokens::new(&[Token(5), Token(300), Token(151_644)]),
        },
    ),
    record(
        400,
        Event::Act {
            node: NodeId(1),
            tokens: Tokens::new(&[Token(127), Token(128)]),
            logprobs: LOGPROBS,
            weights: WeightsVersion(7),
        },
    ),
    record(
        500,
        Event::Return {
            node: NodeId(1),
            status: NodeStatus::Finished,
            value: b"1 3",
        },
    ),
    record(
        600,
        Event::Cancel {
            node: NodeId(2),
            reason: CancelReason::ParentEnded,
        },
    ),
    record(
        700,
        Event::Score {
            node: NodeId(1),
            success: SUCCESS,
        },
    ),
    record(800, Event::RunClosed { nodes: 3, tokens: 2 }),
    record(900, Event::Restart { node: NodeId(2) }),
    record(
        1000,
        Event::Allow {
            node: NodeId(1),
            masks: &[0x06, 0x80],
        },
    ),
];

/// The checksum of a frame, bit by bit as SPEC.md writes it down: to give a damaged or invented frame a right one. Not for speed.
#[must_use]
pub const fn crc32(bytes: &[u8]) -> u32 {
    let (mut crc, mut index) = (u32::MAX, 0);
    while index < bytes.len() {
        crc ^= bytes[index] as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
            bit += 1;
        }
        index += 1;
    }
    !crc
}

const fn record(at_us: u64, event: Event<'static>) -> Record<'static> {
    Record { at_us, event }
}

const LIMITS: Limits = Limits {
    depth_max: 3,
    nodes_max: 64,
    children_max: 8,
    steps_max: 300,
    tokens_max: 1 << 20,
    action_max: 256,
    context_max: 4096,
    concurrent_max: 4,
    deadline_us: Some(30_000_000),
};

/// What the root has, one level down.
const BUDGET: Budget = LIMITS.budget().of_child();

const LOGPROBS: Logprobs<'static> = match Logprobs::new(&[-0.5, -0.0]) {
    Ok(logprobs) => logprobs,
    Err(_) => panic!("finite and at most 0"),
};

const SUCCESS: Success = match Success::new(0.75) {
    Ok(success) => success,
    Err(_) => panic!("within 0..=1"),
};

const _: () = assert!(RECORDS.len() == KINDS as usize, "one record of each event");
