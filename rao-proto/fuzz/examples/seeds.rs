//! Writes the seed corpus: the canonical records of the protocol and a small run, as the targets take them.
//!
//! ```text
//! cargo run --no-default-features --example seeds
//! ```

use rao_fuzz::frame;
use rao_proto::testing::RECORDS;
use rao_proto::{Depth, Event, NodeId, NodeStatus, Record, Success, encode, encoded_len};
use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let frames: Vec<_> = RECORDS.iter().map(encoded).collect::<Result<_, _>>()?;
    for (kind, bytes) in frames.iter().enumerate() {
        write("decode", &format!("frame-{kind}"), bytes)?;
        write("decode", &format!("payload-{kind}"), payload(bytes))?;
    }
    let trace = frames.concat();
    write("decode", "trace", &trace)?;

    let cuts = [0, 6, 40, 255];
    write("reassembler", "trace", &[&cuts, &trace[..]].concat())?;
    write(
        "reassembler",
        "noise",
        &[&cuts, &frames.join(&[1, 7, 0][..])[..]].concat(),
    )?;
    let unknown = frame(b"\x00\x63newer");
    let malformed = frame(b"\x00\x07\x00");
    let inside = frame(&[&[0, 5, 0, 0, 13][..], &frames[8]].concat());
    let false_claim = [&[1, 60, 0, 0, 0][..], &frames[1]].concat();
    let parts = [&cuts[..], &unknown, &malformed, &inside, &false_claim, &frames[8][..5]];
    write("reassembler", "damage", &parts.concat())?;

    let run: Vec<_> = run().iter().map(encoded).collect::<Result<_, _>>()?;
    write("fold", "frames", &run.concat())?;
    let with_lengths = run
        .iter()
        .map(|bytes| [&[payload(bytes).len() as u8], payload(bytes)].concat());
    write("fold", "payloads", &with_lengths.collect::<Vec<_>>().concat())?;

    // Limits, then choices of every kind.
    let narrow: &[u8] = &[3, 40, 8, 20, 250, 10, 100, 4, 0];
    let wide: &[u8] = &[255; 9];
    for (name, limits, step) in [("narrow", narrow, 7_u8), ("wide", wide, 29), ("alone", &[0; 9], 3)] {
        let choices = (0..240_u8).map(|index| index.wrapping_mul(step).rotate_left(3));
        write(
            "driver",
            name,
            &limits.iter().copied().chain(choices).collect::<Vec<_>>(),
        )?;
    }
    // Polls, then delegations: a tree.
    let choices = [0, 0, 6, 0, 0, 20, 0, 0, 0, 0, 4, 3, 1].repeat(20);
    write("driver", "tree", &[narrow, &choices].concat())
}

/// A root, two children, one of which is refused something, and their ends.
fn run() -> Vec<Record<'static>> {
    let of = |index: usize| RECORDS[index].event;
    let spawn = |id, above: Option<u32>| {
        let Event::Spawn { budget, .. } = of(1) else {
            unreachable!("the second record is a spawn")
        };
        Event::Spawn {
            node: NodeId(id),
            parent: above.map(NodeId),
            depth: Depth(u8::from(above.is_some())),
            task: "sort",
            budget,
        }
    };
    let ended = |id| Event::Return {
        node: NodeId(id),
        status: NodeStatus::Finished,
        value: b"1 3",
    };
    let score = Event::Score {
        node: NodeId(0),
        success: Success::ONE,
    };
    let events = [
        of(0),
        spawn(0, None),
        spawn(1, Some(0)),
        spawn(2, Some(0)),
        of(2),
        of(3),
        of(4),
        of(5),
        of(6),
        of(7),
        ended(0),
        score,
        of(8),
    ];
    events.map(|event| Record { at_us: 0, event }).to_vec()
}

fn encoded(record: &Record<'_>) -> Result<Vec<u8>, rao_proto::EncodeError> {
    let mut bytes = vec![0; encoded_len(record)?];
    encode(record, &mut bytes)?;
    Ok(bytes)
}

fn payload(frame: &[u8]) -> &[u8] {
    &frame[5..frame.len() - 4]
}

fn write(target: &str, name: &str, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join(name), bytes)?;
    Ok(())
}
