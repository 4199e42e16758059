//! Bytes as a trace, and as the payload of a frame.

use crate::frame;
use rao_proto::{DecodeError, Event, Frames, Record, encode, encoded_len};

/// Reads `bytes` twice, as a concatenation of frames and as one payload, and asserts what a reader may rely on: offsets lead from frame to
/// frame, reading ends where it says, and what is accepted encodes to the same bytes.
pub fn decode(bytes: &[u8]) -> u64 {
    1 + as_frames(bytes) + as_payload(bytes)
}

fn as_frames(bytes: &[u8]) -> u64 {
    let mut frames = Frames::new(bytes);
    let (mut decoded, mut ended) = (0, false);
    loop {
        let (start, skipped) = (frames.offset(), frames.skipped());
        let Some(next) = frames.next() else {
            assert!(ended || frames.offset() == bytes.len());
            return decoded + frames.skipped();
        };
        assert!(!ended, "nothing after an end");
        decoded += 1;
        let end = frames.offset();
        match next {
            Ok(record) if frames.skipped() == skipped => check(&record, &bytes[start..end]),
            Ok(_) => {}
            Err(error) => {
                ended = error.kind.frame_len().is_none();
                assert_eq!(error.offset + error.kind.frame_len().unwrap_or(0), end);
                assert!(!error.to_string().is_empty());
            }
        }
    }
}

fn as_payload(payload: &[u8]) -> u64 {
    let bytes = frame(payload);
    match rao_proto::decode(&bytes) {
        Ok((record, len)) => {
            assert_eq!(len, bytes.len());
            check(&record, &bytes);
        }
        Err(DecodeError::TooLong { .. }) => assert!(bytes.len() > rao_proto::FRAME_MAX),
        Err(error) => assert_eq!(error.frame_len(), Some(bytes.len()), "{error}"),
    }
    1
}

/// The frame is the one encoding of the record, and views yield as much as they say.
fn check(record: &Record<'_>, frame: &[u8]) {
    let mut again = vec![0xAA; frame.len()];
    assert_eq!(encoded_len(record), Ok(frame.len()));
    assert_eq!(encode(record, &mut again), Ok(frame.len()));
    assert_eq!(again, frame);
    match record.event {
        Event::Observe { tokens, .. } => assert_eq!(tokens.iter().count(), tokens.len()),
        Event::Act { tokens, logprobs, .. } => {
            assert_eq!(tokens.iter().count(), logprobs.len());
            assert!(logprobs.iter().all(|logprob| logprob.is_finite() && logprob <= 0.0));
        }
        Event::Score { success, .. } => assert!((0.0..=1.0).contains(&success.value())),
        _ => {}
    }
}
