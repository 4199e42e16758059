//! [`Metadata`]: the keys and values of a GGUF file, as they lie in it.

/// Type codes of values (`gguf_type`).
const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;
const U64: u32 = 10;

/// Keys and values, encoded one after the other.
#[derive(Default)]
pub(super) struct Metadata {
    bytes: Vec<u8>,
    count: u64,
}

impl Metadata {
    pub(super) fn u32(&mut self, key: &str, value: u32) {
        self.begin(key, U32).extend(value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, key: &str, value: u64) {
        self.begin(key, U64).extend(value.to_le_bytes());
    }

    pub(super) fn f32(&mut self, key: &str, value: f32) {
        self.begin(key, F32).extend(value.to_le_bytes());
    }

    pub(super) fn bool(&mut self, key: &str, value: bool) {
        self.begin(key, BOOL).push(u8::from(value));
    }

    pub(super) fn string(&mut self, key: &str, value: &str) {
        put_string(self.begin(key, STRING), value);
    }

    pub(super) fn strings<'a>(&mut self, key: &str, values: impl ExactSizeIterator<Item = &'a str>) {
        let bytes = self.begin_array(key, STRING, values.len());
        values.for_each(|value| put_string(bytes, value));
    }

    pub(super) fn i32s(&mut self, key: &str, values: impl ExactSizeIterator<Item = i32>) {
        let bytes = self.begin_array(key, I32, values.len());
        bytes.extend(values.flat_map(i32::to_le_bytes));
    }

    /// How many keys there are.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// All of them.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Writes what comes before a value, and says where the value goes.
    fn begin(&mut self, key: &str, code: u32) -> &mut Vec<u8> {
        self.count += 1;
        put_string(&mut self.bytes, key);
        self.bytes.extend(code.to_le_bytes());
        &mut self.bytes
    }

    /// The same for an array. The type of its elements is told even if there are none: a reader that finds another refuses the file.
    fn begin_array(&mut self, key: &str, code: u32, length: usize) -> &mut Vec<u8> {
        let bytes = self.begin(key, ARRAY);
        bytes.extend(code.to_le_bytes());
        bytes.extend((length as u64).to_le_bytes());
        bytes
    }
}

/// A string as the format has it: its length in bytes, then UTF-8.
pub(super) fn put_string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}
