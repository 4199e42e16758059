//! The messages of a recursive agent run: typed events, bytes in and out.
//!
//! A run is the list of its [`Event`]s: it was opened, nodes were spawned or refused, they observed and acted, they returned or were
//! cancelled and were scored, the run was closed. The same bytes are the trace file, the payload between machines, what a device sends
//! home and what a viewer reads. [`encode`] writes one [`Record`] into the caller's slice as one frame; [`decode`] reads one frame and
//! borrows from it; [`Frames`] reads a concatenation and says at which byte it ceases to make sense.
//!
//! ```
//! use rao_proto::{Event, Frames, Logprobs, NodeId, Record, Token, Tokens, WeightsVersion, encode};
//!
//! let sampled = [Token(151_644), Token(872)];
//! let act = Record {
//!     at_us: 1_500,
//!     event: Event::Act {
//!         node: NodeId::ROOT,
//!         tokens: Tokens::new(&sampled),
//!         logprobs: Logprobs::new(&[-0.25, -1.5])?,
//!         weights: WeightsVersion(3),
//!     },
//! };
//! let mut buffer = [0; 64];
//! let len = encode(&act, &mut buffer)?;
//!
//! // A second frame was cut off after ten bytes: the first is kept, the second is named by its offset.
//! buffer.copy_within(0..10, len);
//! let mut frames = Frames::new(&buffer[..len + 10]);
//! assert_eq!(frames.next(), Some(Ok(act)));
//! assert_eq!(frames.next().unwrap().unwrap_err().offset, len);
//! assert_eq!(frames.next(), None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A frame
//!
//! | bytes | field | value |
//! |---|---|---|
//! | 1 | version | [`VERSION`] |
//! | 4 | length | `n`, of the payload; little-endian, such that the frame is at most [`FRAME_MAX`] |
//! | n | payload | the [`Record`] in [postcard](https://postcard.jamesmunns.com)'s wire format |
//! | 4 | checksum | CRC-32 (ISO-HDLC) of everything before it; little-endian |
//!
//! The length is fixed-width, not a varint: five bytes always say how long a frame is, a writer fills it in after the payload without
//! moving it, and there is one way to write it. Nothing is escaped, so that a record can borrow from its frame. `SPEC.md`, next to this
//! crate's manifest, fixes every byte.
//!
//! # What it promises
//!
//! - Bytes cannot build what code cannot: log-probabilities are finite and at most 0, successes lie in 0..=1, tokens are whole, an act has
//!   one log-probability for each token.
//! - One record has one encoding. Equal traces are equal bytes.
//! - No input makes it panic, allocate or read beyond the slice. There is no `unsafe` in it.
//!
//! # What it deliberately is not
//!
//! - It has no clock, files, sockets or threads; `no_std`, and no allocator either. The caller brings time and bytes.
//! - It does not know trees: that a parent exists and a node ends once is checked by whoever folds the events.
//! - It has no capacities: what is kept, and how much of it, is the business of the container that keeps it.
//! - It does not hide a failure to write: see [`EventSink`].
//!
//! The crate has no features.
#![no_std]
#![forbid(unsafe_code)]

mod checksum;
mod event;
mod frame;
mod frames;
mod sink;
mod types;
mod views;

pub use event::{Event, Record};
pub use frame::{DecodeError, EncodeError, FRAME_MAX, Malformed, VERSION, decode, encode, encoded_len};
pub use frames::{FrameError, Frames};
pub use sink::EventSink;
pub use types::{
    Budget, CancelReason, Depth, Limit, Limits, NodeId, NodeStatus, Success, SuccessError, Token, WeightsVersion,
};
pub use views::{LogprobError, Logprobs, LogprobsIter, Tokens, TokensIter};
