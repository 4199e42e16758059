//! What the test files share: frames with any payload, what a reassembler gives, and arbitrary records.
#![allow(dead_code, reason = "every test file uses its own part")]

use proptest::prelude::*;
use rao_proto::testing::crc32;
use rao_proto::*;

pub fn logprobs(values: &[f32]) -> Logprobs<'_> {
    Logprobs::new(values).unwrap()
}

pub fn encoded(record: &Record<'_>) -> Vec<u8> {
    let mut bytes = vec![0xAA; encoded_len(record).unwrap()];
    let len = encode(record, &mut bytes).unwrap();
    assert_eq!(len, bytes.len(), "encoded_len is exact");
    bytes
}

pub fn encoded_all(records: &[Record<'_>]) -> Vec<u8> {
    records.iter().flat_map(encoded).collect()
}

/// A sound frame around any payload.
pub fn frame(payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    bytes.extend((payload.len() as u32).to_le_bytes());
    bytes.extend(payload);
    bytes.extend(crc32(&bytes).to_le_bytes());
    bytes
}

/// What a [`Reassembler`] gave, a record as the bytes that it encodes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    Record(Vec<u8>),
    Error(StreamError),
}

/// Everything that comes out when the pieces go in one by one.
pub fn items<'a, const N: usize>(pieces: impl IntoIterator<Item = &'a [u8]>, finish: bool) -> Vec<Item> {
    let mut reassembler = Reassembler::<N>::new();
    let mut items = Vec::new();
    for mut rest in pieces {
        while !rest.is_empty() {
            let taken = reassembler.push(rest);
            assert!(taken > 0, "there is room when nothing is to be had");
            rest = &rest[taken..];
            drain(&mut reassembler, &mut items);
        }
    }
    if finish {
        reassembler.finish();
        drain(&mut reassembler, &mut items);
    }
    items
}

fn drain<const N: usize>(reassembler: &mut Reassembler<N>, items: &mut Vec<Item>) {
    while let Some(next) = reassembler.next_record() {
        items.push(match next {
            Ok(record) => Item::Record(encoded(&record)),
            Err(error) => Item::Error(error),
        });
    }
}

/// Owns what an arbitrary record borrows.
#[derive(Clone, Debug)]
pub struct Owned {
    at_us: u64,
    kind: u8,
    text: String,
    value: Vec<u8>,
    tokens: Vec<Token>,
    logprobs: Vec<f32>,
    small: u8,
    ids: (u32, Option<u32>),
    big: (u64, u64),
    limits: Limits,
    budget: Budget,
    status: NodeStatus,
    limit: Limit,
    reason: CancelReason,
    success: Success,
}

impl Owned {
    pub fn record(&self) -> Record<'_> {
        let (node, parent) = (NodeId(self.ids.0), self.ids.1.map(NodeId));
        let (seed, weights) = (self.big.0, WeightsVersion(self.big.1));
        let tokens = Tokens::new(&self.tokens);
        let event = match self.kind {
            0 => Event::RunOpened {
                task: &self.text,
                seed,
                limits: self.limits,
                weights,
            },
            1 => Event::Spawn {
                node,
                parent,
                depth: Depth(self.small),
                task: &self.text,
                budget: self.budget,
            },
            2 => Event::Refuse {
                parent: node,
                index: self.small,
                limit: self.limit,
            },
            3 => Event::Observe { node, tokens },
            4 => Event::Act {
                node,
                tokens,
                logprobs: logprobs(&self.logprobs),
                weights,
            },
            5 => Event::Return {
                node,
                status: self.status,
                value: &self.value,
            },
            6 => Event::Cancel {
                node,
                reason: self.reason,
            },
            7 => Event::Score {
                node,
                success: self.success,
            },
            8 => Event::RunClosed {
                nodes: node.0,
                tokens: seed,
            },
            9 => Event::Restart { node },
            _ => Event::Allow {
                node,
                masks: &self.value,
            },
        };
        Record {
            at_us: self.at_us,
            event,
        }
    }
}

pub const LIMITS: [Limit; 6] = [
    Limit::Depth,
    Limit::Nodes,
    Limit::Children,
    Limit::Steps,
    Limit::Tokens,
    Limit::Context,
];

pub const REASONS: [CancelReason; 2] = [CancelReason::ParentEnded, CancelReason::Caller];

pub fn statuses() -> Vec<NodeStatus> {
    use NodeStatus::{Cancelled, Failed, Finished, Invalid, TimedOut, Truncated};
    let truncated = LIMITS.map(Truncated);
    [&[Finished, Failed][..], &truncated, &[TimedOut, Cancelled, Invalid]].concat()
}

/// Numbers of every size: uniform ones nearly always take the longest varint.
fn number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0..64_u32).prop_map(|(bits, shift)| bits >> shift)
}

pub fn record() -> impl Strategy<Value = Owned> {
    let sampled = prop::collection::vec((number(), 0.0..1e30_f32), 0..40);
    let limits = (
        any::<u8>(),
        number(),
        any::<u16>(),
        any::<u16>(),
        number(),
        number(),
        number(),
        prop::option::of(number()),
    )
        .prop_map(
            |(depth_max, nodes, children_max, steps_max, tokens_max, context, concurrent, deadline_us)| Limits {
                depth_max,
                nodes_max: nodes as u32,
                children_max,
                steps_max,
                tokens_max,
                action_max: context.rotate_left(7) as u32,
                context_max: context as u32,
                concurrent_max: concurrent as u32,
                deadline_us,
            },
        );
    let choices = (
        prop::sample::select(statuses()),
        prop::sample::select(LIMITS.to_vec()),
        prop::sample::select(REASONS.to_vec()),
        0.0..=1.0_f32,
    );
    let numbers = (number(), number(), prop::option::of(number()), number(), number());
    (
        (0..11_u8, any::<u8>(), numbers),
        (".{0,40}", any::<Vec<u8>>(), sampled),
        limits,
        choices,
    )
        .prop_map(
            |((kind, small, (at_us, node, parent, seed, weights)), (text, value, sampled), limits, choices)| Owned {
                at_us,
                kind,
                text,
                value,
                tokens: sampled.iter().map(|(token, _)| Token(*token as u32)).collect(),
                logprobs: sampled.iter().map(|(_, magnitude)| -magnitude).collect(),
                small,
                ids: (node as u32, parent.map(|parent| parent as u32)),
                big: (seed, weights),
                limits,
                budget: limits.budget(),
                status: choices.0,
                limit: choices.1,
                reason: choices.2,
                success: Success::new(choices.3).unwrap(),
            },
        )
}
