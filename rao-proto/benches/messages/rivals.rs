//! The same record for the other formats: one set of structs for all three, owned, as their derives want it.

use prost::Message;
use rao_proto::{Event as Borrowed, NodeId, Record as View};
use serde::{Deserialize, Serialize};

/// Stands for `rao_proto::Record`.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
pub struct Record {
    #[prost(uint64, tag = "1")]
    at_us: u64,
    #[prost(oneof = "Event", tags = "2, 5")]
    event: Option<Event>,
}

/// The two events that are measured. The numbers of protobuf are those of `SPEC.md` plus one, since it has no 0.
#[derive(Clone, PartialEq, prost::Oneof, Serialize, Deserialize)]
enum Event {
    #[prost(message, tag = "2")]
    Spawn(Spawn),
    #[prost(message, tag = "5")]
    Act(Act),
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
struct Spawn {
    #[prost(uint32, tag = "1")]
    node: u32,
    #[prost(uint32, optional, tag = "2")]
    parent: Option<u32>,
    #[prost(uint32, tag = "3")]
    depth: u32,
    #[prost(string, tag = "4")]
    task: String,
    #[prost(message, required, tag = "5")]
    budget: Budget,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
struct Budget {
    #[prost(uint32, tag = "1")]
    depth: u32,
    #[prost(uint32, tag = "2")]
    nodes: u32,
    #[prost(uint32, tag = "3")]
    children: u32,
    #[prost(uint32, tag = "4")]
    steps: u32,
    #[prost(uint64, tag = "5")]
    tokens: u64,
    #[prost(uint64, optional, tag = "6")]
    deadline_us: Option<u64>,
}

/// Both lists are packed, as in proto3.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
struct Act {
    #[prost(uint32, tag = "1")]
    node: u32,
    #[prost(uint32, repeated, tag = "2")]
    tokens: Vec<u32>,
    #[prost(float, repeated, tag = "3")]
    logprobs: Vec<f32>,
    #[prost(uint64, tag = "4")]
    weights: u64,
}

impl From<&View<'_>> for Record {
    fn from(record: &View<'_>) -> Self {
        let event = match record.event {
            Borrowed::Spawn {
                node,
                parent,
                depth,
                task,
                budget,
            } => Event::Spawn(Spawn {
                node: node.0,
                parent: parent.map(|NodeId(id)| id),
                depth: depth.0.into(),
                task: task.to_owned(),
                budget: Budget {
                    depth: budget.depth.into(),
                    nodes: budget.nodes,
                    children: budget.children.into(),
                    steps: budget.steps.into(),
                    tokens: budget.tokens,
                    deadline_us: budget.deadline_us,
                },
            }),
            Borrowed::Act {
                node,
                tokens,
                logprobs,
                weights,
            } => Event::Act(Act {
                node: node.0,
                tokens: tokens.iter().map(|token| token.0).collect(),
                logprobs: logprobs.iter().collect(),
                weights: weights.0,
            }),
            other => panic!("not measured: {other:?}"),
        };
        Self {
            at_us: record.at_us,
            event: Some(event),
        }
    }
}

impl Record {
    /// Looks at every field, as `sum` of the bench does with a `rao_proto::Record`.
    pub fn sum(&self) -> f64 {
        let rest = match self.event.as_ref().expect("an event") {
            Event::Spawn(spawn) => {
                let budget = &spawn.budget;
                let numbers = [
                    spawn.node.into(),
                    spawn.parent.unwrap_or(0).into(),
                    spawn.depth.into(),
                    spawn.task.len() as u64,
                    budget.depth.into(),
                    budget.nodes.into(),
                    budget.children.into(),
                    budget.steps.into(),
                    budget.tokens,
                    budget.deadline_us.unwrap_or(0),
                ];
                numbers.iter().sum::<u64>() as f64
            }
            Event::Act(act) => {
                let tokens: u64 = act.tokens.iter().map(|&token| u64::from(token)).sum();
                let logprobs: f32 = act.logprobs.iter().sum();
                (u64::from(act.node) + act.weights + tokens) as f64 + f64::from(logprobs)
            }
        };
        self.at_us as f64 + rest
    }
}

/// A format: writes into a buffer that it empties first, and reads all of it back.
pub struct Format {
    pub name: &'static str,
    pub encode: fn(&Record, &mut Vec<u8>),
    pub decode: fn(&[u8]) -> Record,
}

pub const FORMATS: [Format; 3] = [
    Format {
        name: "serde_json",
        encode: |record, out| {
            out.clear();
            serde_json::to_writer(out, record).expect("a vector takes everything");
        },
        decode: |bytes| serde_json::from_slice(bytes).expect("what was written"),
    },
    // Its default: structs as arrays, without the names of the fields.
    Format {
        name: "rmp-serde",
        encode: |record, out| {
            out.clear();
            rmp_serde::encode::write(out, record).expect("a vector takes everything");
        },
        decode: |bytes| rmp_serde::from_slice(bytes).expect("what was written"),
    },
    Format {
        name: "prost",
        encode: |record, out| {
            out.clear();
            record.encode(out).expect("a vector takes everything");
        },
        decode: |bytes| Record::decode(bytes).expect("what was written"),
    },
];
