//! The messages of a recursive agent run: typed events, bytes in and out.
//!
//! A run is the list of its [`Event`]s: it was opened, nodes were spawned or refused, they observed and acted, they returned or were
//! cancelled and were scored, the run was closed. The same bytes are the trace file, the payload between machines, what a device sends
//! home and what a viewer reads.
//!
//! | to | use | which |
//! |---|---|---|
//! | write one record | [`encode`] | fills the caller's slice with one frame |
//! | write a run as it happens | [`Recorder`] | is the [`EventSink`] of a driver; hands whole frames to a closure; keeps to a cap |
//! | read one frame | [`decode`] | lends a [`Record`] that borrows from the bytes |
//! | read bytes that are all there | [`Frames`] | ends at the first byte that makes no sense, and names it |
//! | read bytes as they arrive | [`Reassembler`] | holds a fixed number of bytes; goes on after garbage |
//! | read a file | [`Player`] | asks a closure for bytes and gives them to a reassembler |
//!
//! A run is recorded, its trace is cut off, and what is left is played:
//!
//! ```
//! use rao_proto::{Event, EventSink, Logprobs, NodeId, Player, Record, Recorder, Token, Tokens, WeightsVersion};
//!
//! let mut trace = Vec::new(); // or a file, a UART, a flash page: whatever the closure writes to
//! let mut recorder = Recorder::<_, std::io::Error, 64>::new(|frame: &[u8]| {
//!     trace.extend_from_slice(frame);
//!     Ok(())
//! });
//! for (at_us, sampled) in [(1_500, [Token(151_644), Token(872)]), (1_900, [Token(9), Token(151_645)])] {
//!     let event = Event::Act {
//!         node: NodeId::ROOT,
//!         tokens: Tokens::new(&sampled),
//!         logprobs: Logprobs::new(&[-0.25, -1.5])?,
//!         weights: WeightsVersion(3),
//!     };
//!     recorder.record(&Record { at_us, event });
//! }
//! assert_eq!(recorder.finish()?, 57);
//!
//! let mut rest = &trace[..40];
//! let mut player = Player::<_, 64>::new(|piece: &mut [u8]| std::io::Read::read(&mut rest, piece));
//! // The record borrows its tokens from the player's buffer.
//! let first = player.next_record().expect("a whole frame")?;
//! assert!(matches!(first.event, Event::Act { tokens, .. } if tokens == Tokens::new(&[Token(151_644), Token(872)])));
//! // The second frame was torn: it is named by its offset, and nothing else is lost.
//! let torn = player.next_record().expect("half a frame").unwrap_err();
//! assert_eq!(torn.to_string(), "at byte 29: torn frame: 11 of at least 28 bytes; 11 bytes passed over");
//! assert!(player.next_record().is_none());
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
//! - No input makes it panic, allocate, recurse or read beyond the slice. There is no `unsafe` in it.
//! - Whatever is wrong is a typed error that names what and at which byte, and every sound frame that is not behind it in a file, or not
//!   inside of it in a stream, is kept.
//!
//! # What it deliberately is not
//!
//! - It has no clock, files, sockets or threads; `no_std`, and no allocator either. The caller brings time and bytes.
//! - It does not know trees: that a parent exists and a node ends once is checked by whoever folds the events.
//! - Messages have no capacities: what is kept, and how much of it, is the business of the container that keeps it. Those of this crate take
//!   theirs as `N`.
//! - It does not hide a failure to write: see [`EventSink`].
//! - It does not authenticate: a checksum finds damage, not forgery.
//!
//! # Features
//!
//! | feature | default | what it adds | costs |
//! |---|---|---|---|
//! | `testing` | no | module `testing`: one record of each event and an annotated hex dump, for snapshot tests of the protocol | no dependency; still `no_std` and without an allocator |
//! | `crc32fast` | no | the checksum of the crate of that name, several times as fast on long frames: with the instructions of the processor where the build has them, or where it finds them at run time if a program with std also enables that crate's `std` | one dependency, with `unsafe` for these instructions; still `no_std` |
#![no_std]
#![forbid(unsafe_code)]

mod checksum;
mod event;
mod frame;
mod frames;
mod player;
mod reassembler;
mod recorder;
mod sink;
#[cfg(target_pointer_width = "64")]
mod spawn;
#[cfg(feature = "testing")]
pub mod testing;
mod types;
mod varint;
mod views;
mod write;

pub use event::{Event, Record};
pub use frame::{DecodeError, EncodeError, FRAME_MAX, Malformed, VERSION, decode, encode, encoded_len};
pub use frames::{FrameError, Frames};
pub use player::{PlayError, Player};
pub use reassembler::{Reassembler, StreamError, StreamErrorKind};
pub use recorder::{RecordError, Recorder};
pub use sink::EventSink;
pub use types::{
    Budget, CancelReason, Depth, Limit, Limits, NodeId, NodeStatus, Success, SuccessError, Token, WeightsVersion,
};
pub use views::{LogprobError, Logprobs, LogprobsIter, Tokens, TokensIter};
