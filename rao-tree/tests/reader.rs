//! The reader that was written from SPEC.md alone prints of a trace what the example on this side prints of it.
//!
//! Needs Python 3.9 or later; where `python3` is not to be had the tests say that they skipped. Includes the example, so that it is
//! compiled and run without the root package, whose other examples need a backend.

#[path = "../../examples/trace_file.rs"]
#[allow(dead_code, reason = "its command line is not called")]
mod trace_file;

use rao_proto::testing::{RECORDS, crc32};
use rao_proto::{Budget, CancelReason, Depth, Event, NodeId, NodeStatus, Record, Success, encode, encoded_len};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// The trace of a run of the driver.
fn driven() -> Vec<u8> {
    let mut trace = Vec::new();
    let len = trace_file::record(|frame| {
        trace.extend_from_slice(frame);
        Ok(())
    });
    assert_eq!(len.unwrap(), trace.len() as u64);
    trace
}

/// What this side prints. A frame of the longest kind needs more stack than a test has.
fn outline(trace: &[u8]) -> (String, bool) {
    let play = |mut rest: &[u8]| {
        trace_file::outline(|piece| {
            let len = piece.len().min(rest.len());
            piece[..len].copy_from_slice(&rest[..len]);
            rest = &rest[len..];
            Ok(len)
        })
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(16 << 20);
        let played = thread.spawn_scoped(scope, || play(trace)).unwrap().join();
        played.unwrap().unwrap()
    })
}

/// What the reader in Python prints of each, and whether it is content with all; `None` without Python.
fn by_python(traces: &[Vec<u8>]) -> Option<(Vec<String>, bool)> {
    static FOLDERS: AtomicU32 = AtomicU32::new(0);
    let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/conformance/reader.py");
    let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("reader-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut python = Command::new("python3");
    python.arg(&reader).current_dir(&folder);
    for (index, trace) in traces.iter().enumerate() {
        let name = format!("{index}.trace");
        std::fs::write(folder.join(&name), trace).unwrap();
        python.arg(name);
    }
    let output = python.output();
    std::fs::remove_dir_all(&folder).unwrap();
    let output = match output {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("skipped: no python3 here, nothing was compared");
            return None;
        }
        Err(error) => panic!("python3: {error}"),
    };
    let code = output.status.code();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.is_empty() && matches!(code, Some(0 | 1)), "{code:?}: {errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    let texts = if traces.len() > 1 {
        let parts = text.split("== ").skip(1);
        parts.map(|part| part.split_once('\n').unwrap().1.to_owned()).collect()
    } else {
        vec![text]
    };
    Some((texts, code == Some(0)))
}

/// Both sides print the same of each.
#[track_caller]
fn compare_all(traces: &[Vec<u8>]) -> Vec<(String, bool)> {
    let ours: Vec<_> = traces.iter().map(|trace| outline(trace)).collect();
    if let Some((texts, whole)) = by_python(traces) {
        assert_eq!(texts.len(), traces.len());
        for (theirs, (text, _)) in texts.iter().zip(&ours) {
            assert_eq!(theirs, text);
        }
        assert_eq!(whole, ours.iter().all(|(_, whole)| *whole));
    }
    ours
}

/// The same for one; returns it.
#[track_caller]
fn compare(trace: &[u8]) -> (String, bool) {
    compare_all(&[trace.to_vec()]).remove(0)
}

/// What is said of the trace besides its tree.
#[track_caller]
fn complaints(trace: &[u8]) -> String {
    let (text, whole) = compare(trace);
    let lines = text.lines().filter(|line| line.starts_with("at byte "));
    let lines = lines.collect::<Vec<_>>().join("\n");
    assert_eq!(whole, lines.is_empty());
    lines
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let head = [&[1][..], &(payload.len() as u32).to_le_bytes(), payload].concat();
    [&head[..], &crc32(&head).to_le_bytes()].concat()
}

fn encoded(event: Event<'_>) -> Vec<u8> {
    let record = Record { at_us: 0, event };
    let mut bytes = vec![0; encoded_len(&record).unwrap()];
    encode(&record, &mut bytes).unwrap();
    bytes
}

#[test]
fn a_trace_of_the_driver_reads_the_same() {
    let (text, whole) = compare(&driven());
    assert!(whole, "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn damage_is_told_the_same() {
    let trace = driven();
    let len = trace.len();
    let last = rao_proto::Frames::new(&trace).last().unwrap().unwrap();
    let last = len - encoded_len(&last).unwrap();
    assert_eq!(complaints(&trace[..len - 6]), format!("at byte {last}: torn frame"));

    let with = |position: usize, byte: u8| {
        let mut bytes = trace.clone();
        bytes[position] = byte;
        bytes
    };
    let second = 9 + usize::from(trace[1]);
    assert_eq!(complaints(&with(second, 2)), format!("at byte {second}: version 2"));
    assert_eq!(
        complaints(&with(second + 9, 0xEE)),
        format!("at byte {second}: wrong checksum")
    );
    let above = format!(
        "at byte {second}: length {} is above the limit",
        0x0100_0000 + u32::from(trace[second + 1])
    );
    assert_eq!(complaints(&with(second + 4, 1)), above);
    assert_eq!(
        complaints(&with(second + 3, 8)),
        format!("at byte {second}: torn frame")
    );

    // A newer event, and a payload that no writer makes: both are passed over.
    let behind = [&frame(b"\x00\x63newer")[..], &frame(&[0, 6, 0, 2]), &trace[second..]].concat();
    let (text, _) = compare(&[&trace[..second], &behind].concat());
    assert!(text.contains(" 1 skipped\n"), "{text}");
    let malformed = format!("at byte {}: malformed payload", second + 16);
    assert!(text.ends_with(&format!("{malformed}\n")), "{text}");
}

#[test]
fn any_cut_and_any_changed_byte_read_the_same() {
    let run = [
        encoded(RECORDS[0].event),
        spawn(0, None, "a"),
        spawn(1, Some(0), "b"),
        encoded(RECORDS[4].event),
    ];
    let trace = run.concat();
    let cuts = (0..trace.len()).map(|len| trace[..len].to_vec());
    let changes = (0..trace.len()).map(|position| {
        let mut bytes = trace.clone();
        bytes[position] ^= 1 << (position % 8);
        bytes
    });
    let read = compare_all(&cuts.chain(changes).collect::<Vec<_>>());
    // Only a cut between two frames leaves nothing to complain about.
    assert_eq!(read.iter().filter(|(_, whole)| *whole).count(), run.len());
}

#[test]
fn payloads_that_no_writer_makes_are_malformed_on_both_sides() {
    let cases: [&[u8]; 17] = [
        &[],
        &[0],
        &[0xFF; 12],
        &[0, 6, 0xFF, 0xFF, 0xFF, 0xFF, 0x1F, 0],
        &[0, 1, 1, 0, 0, 200, 1, b'a'],
        &[0, 1, 1, 2, 0, 0],
        &[0, 2, 0, 0, 6],
        &[0, 5, 0, 6, 0],
        &[0, 5, 0, 2, 6, 0],
        &[0, 3, 0, 1, 0x80],
        &[0, 3, 0, 2, 0x80, 0x00],
        &[0, 4, 0, 1, 1, 4, 1, 0, 0, 0, 0],
        &[0, 4, 0, 1, 1, 4, 0, 0, 0xC0, 0xFF, 0],
        &[0, 4, 0, 1, 1, 0, 0],
        &[0, 6, 0, 0, 0],
        &[0x80, 0x00, 6, 0, 0],
        &[0, 7, 0, 1, 0, 0x80, 0x3F],
    ];
    let trace: Vec<_> = cases.iter().flat_map(|payload| frame(payload)).collect();
    let complaints = complaints(&trace);
    assert_eq!(complaints.lines().count(), cases.len(), "{complaints}");
    assert!(
        complaints.lines().all(|line| line.ends_with(": malformed payload")),
        "{complaints}"
    );
}

#[test]
fn events_that_do_not_fit_are_left_out_on_both_sides() {
    let end = |node, status| {
        encoded(Event::Return {
            node: NodeId(node),
            status,
            value: b"",
        })
    };
    let score = |node| {
        encoded(Event::Score {
            node: NodeId(node),
            success: Success::new(0.0625).unwrap(),
        })
    };
    let cancel = |node| {
        encoded(Event::Cancel {
            node: NodeId(node),
            reason: CancelReason::Caller,
        })
    };
    // As many levels below it as its parent was given.
    let wide = encoded(Event::Spawn {
        node: NodeId(4),
        parent: Some(NodeId(0)),
        depth: Depth(1),
        task: "wide",
        budget: Budget {
            depth: 9,
            ..Budget::UNLIMITED
        },
    });
    let truncated = NodeStatus::Truncated(rao_proto::Limit::Tokens);
    let trace = [
        spawn(0, Some(0), "root with a parent"),
        spawn(0, None, "line\nbreak, \"quotes\", \\, \u{1F980}, \u{7F}\0"),
        spawn(2, Some(0), "out of order"),
        spawn(1, None, "another root"),
        spawn(1, Some(9), "parent unknown"),
        spawn(1, Some(0), "one"),
        spawn(2, Some(0), "two"),
        spawn(3, Some(1), "three"),
        score(1),
        end(3, truncated),
        end(3, NodeStatus::Failed),
        spawn(4, Some(3), "parent ended"),
        wide,
        score(3),
        cancel(2),
        cancel(7),
        end(1, NodeStatus::Invalid),
        encoded(RECORDS[2].event),
        encoded(RECORDS[8].event),
    ];
    let (text, whole) = compare(&trace.concat());
    assert!(!whole);
    insta::assert_snapshot!(text);
}

fn spawn(node: u32, parent: Option<u32>, task: &str) -> Vec<u8> {
    let Event::Spawn { budget, .. } = RECORDS[1].event else {
        panic!("the second record is a spawn")
    };
    // As deep as the tree of the tests: node 3 is below node 1.
    let depth = Depth(match parent {
        None => 0,
        Some(0) => 1,
        Some(_) => 2,
    });
    encoded(Event::Spawn {
        node: NodeId(node),
        parent: parent.map(NodeId),
        depth,
        task,
        budget: Budget {
            depth: 9 - depth.0,
            ..budget
        },
    })
}
