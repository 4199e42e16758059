//! What a live node takes.

use super::guarded::Guarded;
use super::transcript::{Span, Transcript};
use super::tree_run::Seat;
use rao_proto::NodeId;
use rao_tree::{Limits, Mask, Node, Request, Stop, Token};
use std::mem::size_of;

/// Whatever grows by one at a time has room for up to twice as many, and for four at the least.
const GROWS: u64 = 2;
/// See [`GROWS`].
const FIRST: u64 = 4;

/// Most bytes of memory that the engine takes for one live node of a tree of these limits, one that was spawned and has not ended: its
/// context, the buffers of its action, and its places in the tables of its tree and its worker.
///
/// Not in it is what others decide: what the environment has on the heap, what the policy keeps of the context, the answers of children
/// that have ended, up to [`ANSWER_MAX`](super::ANSWER_MAX) bytes each, until their parent has read them, and what is submitted and waits for
/// a judge. The event log, where it is [kept](super::Settings::keep_log), grows with all that happens. A tree takes one context of scratch space besides, and a node whose environment [restarts](rao_tree::Observation::restart) its context as many contexts as it has had.
///
/// `vocab` and `keep_transcripts` are those of the [`Settings`](super::Settings). A worker has at most
/// [`Settings::trees_in_flight`](super::Settings::trees_in_flight) times [`Limits::nodes_max`] live nodes. Those of them that draw, the only ones that
/// need a place in the policy, are at most as many times [`Limits::concurrent_max`].
#[must_use]
pub fn live_node_bytes<E>(limits: &Limits, vocab: usize, keep_transcripts: bool) -> u64 {
    let bytes = |of: usize| of as u64;
    let context = u64::from(limits.context_max);
    let room = u64::from(limits.action_max).min(context);
    let (token, logprob) = (bytes(size_of::<Token>()), bytes(size_of::<f32>()));
    let mask = bytes(Mask::words(vocab) * size_of::<u64>());

    let action = room * (token + logprob + mask);
    // What a node chose is part of its context; an action may be empty, and is a step all the same.
    let kept = if keep_transcripts {
        context * (logprob + mask) + u64::from(limits.steps_max) * bytes(size_of::<Span>())
    } else {
        0
    };
    let places = size_of::<Node>()
        + size_of::<Option<Box<Seat<Guarded<E>>>>>()
        + size_of::<(NodeId, Box<Seat<Guarded<E>>>)>()
        + size_of::<Transcript>()
        + size_of::<Request<'_>>()
        + size_of::<(usize, Option<Stop>)>();
    let smallest = token + logprob + bytes(size_of::<u64>()) + bytes(size_of::<Span>());
    bytes(size_of::<Seat<Guarded<E>>>()) + action + GROWS * (context * token + kept + bytes(places)) + FIRST * smallest
}
