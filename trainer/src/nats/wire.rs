//! What stands around a frame in a message: its headers.
#![cfg_attr(not(feature = "candle"), allow(dead_code, reason = "half of it is for trainers"))]

use super::{NatsError, PROTOCOL};
use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use rao_proto::{Event, NodeId, Record, encode, encoded_len};
use rao_tree::{CancelReason, Depth, WeightsVersion};
use std::fmt;
use std::str::FromStr;

use crate::rollout::Opening;

const PROTOCOL_HEADER: &str = "Rao-Protocol";
const RAO: &str = "Rao-Version";
const EPOCH: &str = "Rao-Epoch";
const JOB: &str = "Rao-Job";
const FAULTS: &str = "Rao-Faults";
const OBJECT: &str = "Rao-Object";
const REASON: &str = "Rao-Reason";

/// Most of what broke that is told of one tree, and the longest text of one.
const FAULTS_MAX: usize = 20;
const FAULT_MAX: usize = 500;

/// A tree of a trainer process: of its rollouts so far which, and which of that one's; and how often it was asked for anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct JobId {
    pub batch: u64,
    pub index: usize,
    pub attempt: u32,
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.batch, self.index, self.attempt)
    }
}

impl FromStr for JobId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('.');
        let mut next = || parts.next().ok_or(());
        let job = Self {
            batch: next()?.parse().map_err(drop)?,
            index: next()?.parse().map_err(drop)?,
            attempt: next()?.parse().map_err(drop)?,
        };
        parts.next().map_or(Ok(job), |_| Err(()))
    }
}

/// Who a message is from or for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Envelope {
    pub epoch: String,
    pub job: JobId,
}

impl Envelope {
    /// Headers of a message about the job; `kind` tells apart the identifiers of messages about the same one.
    pub fn headers(&self, kind: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(PROTOCOL_HEADER, PROTOCOL.to_string());
        headers.insert(RAO, env!("CARGO_PKG_VERSION"));
        headers.insert(EPOCH, self.epoch.as_str());
        headers.insert(JOB, self.job.to_string());
        headers.insert(NATS_MESSAGE_ID, self.id(kind));
        headers
    }

    /// The identifier by which the server drops a second message.
    pub fn id(&self, kind: &str) -> String {
        format!("{kind}.{}.{}", self.epoch, self.job)
    }

    /// `None` for what no version of `rao` has sent.
    pub fn read(headers: Option<&HeaderMap>) -> Option<Self> {
        Some(Self {
            epoch: text(headers, EPOCH)?.to_owned(),
            job: text(headers, JOB)?.parse().ok()?,
        })
    }
}

/// Whether the other side speaks this protocol.
pub(super) fn check_protocol(who: &'static str, headers: Option<&HeaderMap>) -> Result<(), NatsError> {
    match text(headers, PROTOCOL_HEADER).and_then(|text| text.parse().ok()) {
        Some(PROTOCOL) => Ok(()),
        theirs => Err(NatsError::Protocol {
            who,
            theirs: theirs.unwrap_or(0),
            rao: text(headers, RAO).unwrap_or("?").to_owned(),
        }),
    }
}

fn text<'h>(headers: Option<&'h HeaderMap>, name: &str) -> Option<&'h str> {
    headers?.get(name).map(|value| value.as_str())
}

/// Tells what broke, as far as there is room.
pub(super) fn set_faults(headers: &mut HeaderMap, faults: &[String]) {
    if faults.is_empty() {
        return;
    }
    let told: Vec<&str> = faults
        .iter()
        .take(FAULTS_MAX)
        .map(|fault| &fault[..fault.floor_char_boundary(FAULT_MAX)])
        .collect();
    // JSON writes line breaks as letters, so that a text cannot pass for another header.
    if let Ok(json) = serde_json::to_string(&told) {
        headers.insert(FAULTS, json);
    }
}

pub(super) fn faults(headers: Option<&HeaderMap>) -> Vec<String> {
    let told: Option<Vec<String>> = text(headers, FAULTS).and_then(|json| serde_json::from_str(json).ok());
    told.unwrap_or_default()
}

pub(super) fn set_object(headers: &mut HeaderMap, object: &str) {
    headers.insert(OBJECT, object);
}

/// Where the log lies that did not fit into the message.
pub(super) fn object(headers: Option<&HeaderMap>) -> Option<&str> {
    text(headers, OBJECT)
}

pub(super) fn set_reason(headers: &mut HeaderMap, reason: &str) {
    headers.insert(REASON, reason.replace(['\r', '\n'], " "));
}

/// The first frame of a log: the task.
pub(super) fn order(opening: &Opening) -> Result<Vec<u8>, NatsError> {
    frames(&[opening.event()])
}

/// The log of a tree that nobody could roll out: cancelled before its root did anything, which says nothing of the policy.
pub(super) fn given_up(opening: &Opening) -> Result<Vec<u8>, NatsError> {
    let node = NodeId::ROOT;
    frames(&[
        opening.event(),
        Event::Spawn {
            node,
            parent: None,
            depth: Depth(0),
            task: "",
            budget: opening.limits.budget(),
        },
        Event::Cancel {
            node,
            reason: CancelReason::Caller,
        },
        Event::RunClosed { nodes: 1, tokens: 0 },
    ])
}

fn frames(events: &[Event<'_>]) -> Result<Vec<u8>, NatsError> {
    let failed = |error: rao_proto::EncodeError| NatsError::server("writing a frame", error);
    let mut bytes = Vec::new();
    for &event in events {
        let record = Record { at_us: 0, event };
        let start = bytes.len();
        bytes.resize(start + encoded_len(&record).map_err(failed)?, 0);
        encode(&record, &mut bytes[start..]).map_err(failed)?;
    }
    Ok(bytes)
}

/// Whether a tree of these weights is wanted where the newest are `now`, and may be so many updates old.
pub(super) fn is_fresh(weights: WeightsVersion, now: WeightsVersion, staleness_max: u64) -> bool {
    weights <= now && now.0 - weights.0 <= staleness_max
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::rollout::Rollout;
    use rao_tree::NodeStatus;

    fn opening() -> Opening {
        Opening {
            task: "a table".into(),
            seed: 7,
            limits: Config::default().limits.at_depth(3, 2),
            weights: WeightsVersion(5),
        }
    }

    #[test]
    fn an_order_is_the_first_frame_of_the_log() {
        let log = given_up(&opening()).unwrap();
        let order = order(&opening()).unwrap();
        assert!(log.starts_with(&order) && log.len() > order.len());
        assert_eq!(Opening::read(&order).unwrap(), opening());
    }

    #[test]
    fn a_tree_that_was_given_up_says_nothing_of_the_policy() {
        let rollout = Rollout::from_log(3, &given_up(&opening()).unwrap(), 10).unwrap();
        assert_eq!(rollout.tree.nodes()[0].status, Some(NodeStatus::Cancelled));
        assert!(!rollout.is_judged());
        assert_eq!((rollout.job, rollout.weights), (3, WeightsVersion(5)));
    }

    #[test]
    fn headers_come_back() {
        let job: JobId = "3.4.5".parse().unwrap();
        let envelope = Envelope { epoch: "e".into(), job };
        let mut headers = envelope.headers("tree");
        assert_eq!(Envelope::read(Some(&headers)), Some(envelope));
        check_protocol("a worker", Some(&headers)).unwrap();
        assert!(
            check_protocol("a worker", None)
                .unwrap_err()
                .to_string()
                .contains("upgrade the other")
        );
        let told = ["one\r\nRao-Epoch: x".to_owned(), "ä".repeat(400)];
        set_faults(&mut headers, &told);
        let read = faults(Some(&headers));
        assert_eq!((read[0].as_str(), read[1].len()), (told[0].as_str(), 500));
        for wrong in ["", "1.2", "1.2.3.4", "1.x.3", "-1.0.0"] {
            assert_eq!(wrong.parse::<JobId>(), Err(()), "{wrong}");
        }
    }

    #[test]
    fn trees_of_the_future_are_as_unwanted_as_old_ones() {
        let fresh = |weights| is_fresh(WeightsVersion(weights), WeightsVersion(9), 2);
        assert_eq!([6, 7, 9, 10].map(fresh), [false, true, true, false]);
    }
}
