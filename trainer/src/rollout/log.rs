//! Where the events of a tree go.

use super::SharedSink;
use rao_proto::{EncodeError, Event, EventSink, FRAME_MAX, Record, encode, encoded_len};
use rao_tree::NodeId;
use std::sync::PoisonError;

/// The event log of one tree, in memory and wherever else it goes; remembers the first event that could not be encoded.
pub(super) struct Log {
    pub sink: Option<SharedSink>,
    pub bytes: Option<Vec<u8>>,
    pub error: Option<EncodeError>,
}

/// Most mask words in one event: half of a frame.
const WORDS_MAX: usize = FRAME_MAX / 2 / 8;

impl Log {
    /// Whether anybody reads it.
    pub fn is_kept(&self) -> bool {
        self.bytes.is_some() || self.sink.is_some()
    }

    /// What was allowed, in as many events as it takes.
    pub fn allow(&mut self, node: NodeId, masks: &[u64], at_us: u64) {
        for words in masks.chunks(WORDS_MAX) {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let event = Event::Allow { node, masks: &bytes };
            self.record(&Record { at_us, event });
        }
    }
}

impl EventSink for Log {
    fn record(&mut self, record: &Record<'_>) {
        if let Some(sink) = &self.sink {
            sink.lock().unwrap_or_else(PoisonError::into_inner).record(record);
        }
        let Some(bytes) = &mut self.bytes else { return };
        let start = bytes.len();
        let written = encoded_len(record).and_then(|len| {
            bytes.resize(start + len, 0);
            encode(record, &mut bytes[start..])
        });
        match written {
            Ok(len) => bytes.truncate(start + len),
            Err(error) => {
                bytes.truncate(start);
                self.error.get_or_insert(error);
            }
        }
    }
}
