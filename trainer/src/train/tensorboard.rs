//! Metrics as event files of TensorBoard, beside `metrics.jsonl`: `tensorboard --logdir RUN/tensorboard` draws them.
//!
//! One directory per phase, so that TensorBoard lays the curves of the arms over each other; a metric has the name it has in
//! `metrics.jsonl`, those within a list or a map come as `advantage_mass/0` or `refused/depth`.
//!
//! A file is a series of records (those of TFRecord): the length as u64, its checksum, a message, its checksum, all little endian. A message
//! is an `Event`, of which only the fields that scalars need are written: <https://github.com/tensorflow/tensorboard/blob/master/tensorboard/compat/proto/event.proto>.

use super::checkpoint::Stage;
use super::metrics::cut;
use crate::run::sync_folder;
use prost::Message;
use serde_json::Value;
use std::collections::{BTreeMap, btree_map::Entry};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Begins the names that TensorBoard knows its files by.
const PREFIX: &str = "events.out.tfevents.";

/// The event files of a run.
pub(super) struct EventFiles {
    directory: PathBuf,
    by_phase: BTreeMap<String, BufWriter<File>>,
}

impl EventFiles {
    /// Opens the directory, and cuts the file of every stage back to a length that [`sync`](Self::sync) gave; what stages without a length left is
    /// removed. That of a stage comes with its first step.
    pub(super) fn open(directory: PathBuf, lengths: &BTreeMap<Stage, u64>) -> io::Result<Self> {
        std::fs::create_dir_all(&directory)?;
        let mut by_phase = BTreeMap::new();
        for stage in Stage::ALL {
            let folder = directory.join(stage.name());
            match lengths.get(&stage) {
                Some(&length) => {
                    let path = event_file(&folder)?;
                    let mut file = File::options().write(true).open(&path)?;
                    cut(&mut file, &path, length)?;
                    by_phase.insert(stage.name().to_owned(), BufWriter::new(file));
                }
                None if folder.exists() => std::fs::remove_dir_all(&folder)?,
                None => {}
            }
        }
        Ok(Self { directory, by_phase })
    }

    /// Brings everything to the disk, and returns how long the files are, in bytes.
    pub(super) fn sync(&mut self) -> io::Result<BTreeMap<Stage, u64>> {
        let mut lengths = BTreeMap::new();
        for stage in Stage::ALL {
            if let Some(file) = self.by_phase.get(stage.name()) {
                file.get_ref().sync_data()?;
                // Its name, too.
                sync_folder(&self.directory.join(stage.name()))?;
                lengths.insert(stage, file.get_ref().metadata()?.len());
            }
        }
        sync_folder(&self.directory)?;
        Ok(lengths)
    }

    /// Appends the numbers of one step and hands them to the operating system. A line of metrics without `phase` and `step` has no place here.
    pub(super) fn write(&mut self, line: &Value) -> io::Result<()> {
        let (Some(phase), Some(step)) = (line["phase"].as_str(), line["step"].as_i64()) else {
            return Ok(());
        };
        let file = match self.by_phase.entry(phase.to_owned()) {
            Entry::Occupied(file) => file.into_mut(),
            Entry::Vacant(none) => none.insert(begin(&self.directory.join(phase))?),
        };
        file.write_all(&record(&Event::of(line, step, wall_time())))?;
        file.flush()
    }
}

/// The one file of a stage.
fn event_file(folder: &Path) -> io::Result<PathBuf> {
    let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", folder.display()));
    for entry in std::fs::read_dir(folder).map_err(at)? {
        let path = entry?.path();
        if path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(PREFIX))
        {
            return Ok(path);
        }
    }
    let message = format!("{}: the event file is missing", folder.display());
    Err(io::Error::new(io::ErrorKind::NotFound, message))
}

/// A new file with the event that every reader expects first.
fn begin(directory: &Path) -> io::Result<BufWriter<File>> {
    std::fs::create_dir(directory)?;
    let wall_time = wall_time();
    // TensorBoard finds its files by the middle of their name and takes them in the order of the number. The last part is the host's in
    // files of others; a run directory does not say where it was made.
    let name = format!("{PREFIX}{:010}.rao", wall_time as u64);
    let mut file = BufWriter::new(File::create_new(directory.join(name))?);
    file.write_all(&record(&Event::version(wall_time)))?;
    Ok(file)
}

/// Seconds since 1970.
fn wall_time() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    values: Vec<Scalar>,
}

#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    /// Optional, because a zero is written too: in the protocol it is one of several kinds of value, which are told apart by being there.
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

impl Event {
    fn version(wall_time: f64) -> Self {
        Self {
            wall_time,
            file_version: Some("brain.Event:2".into()),
            ..Self::default()
        }
    }

    /// The numbers of a line.
    fn of(line: &Value, step: i64, wall_time: f64) -> Self {
        let mut values = Vec::new();
        for (name, value) in line.as_object().into_iter().flatten() {
            if name != "step" {
                flatten(name.clone(), value, &mut values);
            }
        }
        Self {
            wall_time,
            step,
            summary: Some(Summary { values }),
            ..Self::default()
        }
    }
}

/// Every number in a value, by name; what is no number is left out.
fn flatten(tag: String, value: &Value, out: &mut Vec<Scalar>) {
    match value {
        Value::Number(number) => out.push(Scalar {
            tag,
            simple_value: number.as_f64().map(|value| value as f32),
        }),
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                flatten(format!("{tag}/{index}"), value, out);
            }
        }
        Value::Object(values) => {
            for (key, value) in values {
                flatten(format!("{tag}/{key}"), value, out);
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// The bytes of one record.
fn record(event: &Event) -> Vec<u8> {
    let message = event.encode_to_vec();
    let length = (message.len() as u64).to_le_bytes();
    let mut bytes = Vec::with_capacity(message.len() + 16);
    bytes.extend_from_slice(&length);
    bytes.extend_from_slice(&checksum(&length).to_le_bytes());
    bytes.extend_from_slice(&message);
    bytes.extend_from_slice(&checksum(&message).to_le_bytes());
    bytes
}

/// CRC-32C, masked as TFRecord does it.
fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What a reader finds, every length and checksum checked.
    fn read(mut bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        while !bytes.is_empty() {
            let (length, rest) = bytes.split_at(8);
            let (of_length, rest) = rest.split_at(4);
            let (message, rest) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
            let (of_message, rest) = rest.split_at(4);
            assert_eq!(of_length, checksum(length).to_le_bytes());
            assert_eq!(of_message, checksum(message).to_le_bytes());
            events.push(Event::decode(message).unwrap());
            bytes = rest;
        }
        events
    }

    fn tags(event: &Event) -> Vec<(&str, f32)> {
        let values = event.summary.iter().flat_map(|summary| &summary.values);
        values
            .map(|value| (value.tag.as_str(), value.simple_value.unwrap()))
            .collect()
    }

    #[test]
    fn the_checksum_is_that_of_tensorboard() {
        // The check value of CRC-32C, and what tensorboard 2.21 makes of it.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(checksum(b"123456789"), 0xc78a_b0e5);
    }

    #[test]
    fn the_bytes_are_those_of_tensorboard() {
        let line = json!({ "phase": "flat", "step": 3, "loss": 0.0, "advantage_mass": [null, 0.25] });
        let mut bytes = record(&Event::version(1.5));
        bytes.extend(record(&Event::of(&line, 3, 1.5)));
        // Written by the RecordWriter of tensorboard 2.21, from the same two events.
        let golden = "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c\
                      33000000000000000ca7205609000000000000f83f10032a260a0b0a046c6f737315000000000a17\
                      0a10616476616e746167655f6d6173732f31150000803e7060c0e7";
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, golden);
    }

    #[test]
    fn every_phase_has_a_file_that_reads_back() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("tensorboard");
        let mut files = EventFiles::open(root.clone(), &BTreeMap::new()).unwrap();
        let lines = [
            json!({ "phase": "recursive", "step": 0, "loss": -0.1, "incident": null, "refused": {}, "advantage_mass": [0.75, 0.25] }),
            json!({ "phase": "recursive", "step": 1, "loss": 0.0, "incident": "it panicked", "refused": { "depth": 7 } }),
            json!({ "phase": "flat", "step": 0, "tokens_total": 16_777_217_u64 }),
            json!({ "note": "of no step" }),
        ];
        for line in &lines {
            files.write(line).unwrap();
        }
        let of_phase = |phase: &str| {
            let files: Vec<_> = std::fs::read_dir(root.join(phase))
                .unwrap()
                .map(Result::unwrap)
                .collect();
            let name = files[0].file_name().into_string().unwrap();
            assert!(files.len() == 1 && name.starts_with("events.out.tfevents.") && name.ends_with(".rao"));
            read(&std::fs::read(files[0].path()).unwrap())
        };
        let recursive = of_phase("recursive");
        assert_eq!(recursive[0].file_version.as_deref(), Some("brain.Event:2"));
        assert!(recursive.iter().all(|event| event.wall_time > 1.7e9));
        assert_eq!(
            tags(&recursive[1]),
            [("loss", -0.1), ("advantage_mass/0", 0.75), ("advantage_mass/1", 0.25)]
        );
        assert_eq!(tags(&recursive[2]), [("loss", 0.0), ("refused/depth", 7.0)]);
        assert_eq!((recursive[1].step, recursive[2].step, recursive.len()), (0, 1, 3));
        // Values are of single precision; there is no other in these files.
        assert_eq!(tags(&of_phase("flat")[1]), [("tokens_total", 16_777_216.0)]);
        assert_eq!(std::fs::read_dir(&root).unwrap().count(), 2);

        // Cut back to where it was, and on from there; what came later is gone.
        let mut lengths = files.sync().unwrap();
        lengths.remove(&Stage::Flat);
        files
            .write(&json!({ "phase": "recursive", "step": 2, "loss": 7.0 }))
            .unwrap();
        let mut files = EventFiles::open(root.clone(), &lengths).unwrap();
        assert_eq!(of_phase("recursive").len(), 3);
        assert_eq!(std::fs::read_dir(&root).unwrap().count(), 1);
        files
            .write(&json!({ "phase": "recursive", "step": 2, "loss": 8.0 }))
            .unwrap();
        assert_eq!(tags(&of_phase("recursive")[3]), [("loss", 8.0)]);
        let longer = BTreeMap::from([(Stage::Recursive, 1 << 20)]);
        let error = EventFiles::open(root, &longer).err().unwrap().to_string();
        assert!(error.contains("when the checkpoint was written"), "{error}");
    }
}
