//! The hex dump as a second reader of the format: it and the decoder agree on what is sound, and it says where and why where it is not.

mod common;

use common::{encoded, frame, record};
use proptest::prelude::*;
use rao_proto::testing::{HexDump, RECORDS, crc32};
use rao_proto::*;

#[test]
fn the_checksum_is_the_one_of_the_specification() {
    assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    assert_eq!(crc32(b""), 0);
}

/// One line per cause, the rest raw; frames after a sound or an unknown one are understood.
#[test]
fn damage_is_said_where_it_is() {
    let sound = encoded(&RECORDS[6]);
    let mut checksum = sound.clone();
    checksum[7] ^= 1;
    let parts = [
        frame(&[0, 99, 1, 2, 3]),
        frame(&[0, 5, 0, 2, 6, 0]),
        frame(&[0, 4, 0, 1, 1, 0, 0]),
        frame(&[0, 6, 0, 0, 0xEE]),
        frame(&[]),
        checksum,
        sound.clone(),
        vec![2, 3],
    ];
    insta::assert_snapshot!(HexDump(&parts.concat()));
}

#[test]
fn a_torn_frame_is_raw() {
    let bytes = encoded(&RECORDS[6]);
    let dumps = [0, 1, 4, 5, 13].map(|len| HexDump(&bytes[..len]).to_string());
    insta::assert_snapshot!(dumps.join("--\n"));
    let too_long = [&[VERSION][..], &[0xFF; 4], &[7; 300]].concat();
    insta::assert_snapshot!("a_length_above_the_limit_is_raw", HexDump(&too_long));
}

#[test]
fn every_byte_counts() {
    let value = [7; 1000];
    let event = Event::Return {
        node: NodeId::ROOT,
        status: NodeStatus::Finished,
        value: &value,
    };
    let bytes = encoded(&Record { at_us: 0, event });
    let dump = HexDump(&bytes).to_string();
    for position in 0..bytes.len() {
        let mut other = bytes.clone();
        other[position] ^= 0x10;
        assert_ne!(HexDump(&other).to_string(), dump, "byte {position}");
    }
}

/// Bytes that would drive a recursive reader deep: the format has no nesting, so each is one flat frame, or refused as one.
#[test]
fn nothing_nests() {
    // Frames within frames: a thousand deep, each the value of a return, and read as one record.
    let mut bytes = encoded(&RECORDS[8]);
    for _ in 0..1000 {
        let event = Event::Return {
            node: NodeId::ROOT,
            status: NodeStatus::Finished,
            value: &bytes,
        };
        bytes = encoded(&Record { at_us: 0, event });
    }
    assert_eq!(Frames::new(&bytes).count(), 1);
    assert!(!HexDump(&bytes).to_string().contains('!'));

    // Tags that open options, choices and lists, over and over.
    for event in 0..RECORDS.len() as u8 {
        for tag in [0x00, 0x01, 0x02, 0x5B, 0x7B, 0x80, 0x81, 0xFF] {
            let payload = [&[0, event][..], &[tag; 100_000]].concat();
            let bytes = frame(&payload);
            let refused = matches!(decode(&bytes), Err(DecodeError::Malformed { .. }));
            assert!(refused && is_wrong(&bytes), "event {event}, tag {tag:02x}");
        }
    }
}

proptest! {
    #[test]
    fn a_sound_frame_is_dumped_field_by_field(owned in record()) {
        let bytes = encoded(&owned.record());
        prop_assert!(!is_wrong(&bytes));
        let dump = HexDump(&bytes).to_string();
        prop_assert_eq!(hex_of(&dump, bytes.len() <= 240), hex_of_bytes(&bytes, bytes.len() <= 240));
        let numbers = numbers(&owned.record());
        prop_assert!(!numbers.is_empty());
        for (name, value) in numbers {
            let shown = dump.lines().find_map(|line| line.get(45..)?.strip_prefix(name)?.strip_prefix(' '));
            prop_assert_eq!(shown.map(str::trim), Some(&*value), "{}", name);
        }
    }

    #[test]
    fn dump_and_decoder_agree_on_payloads(kind in 0..10_u8, rest in prop::collection::vec(prop_oneof![3 => 0..6_u8, 1 => any::<u8>()], 0..24)) {
        let bytes = frame(&[&[0, kind][..], &rest].concat());
        prop_assert_eq!(is_wrong(&bytes), decode(&bytes).is_err(), "{}", HexDump(&bytes));
    }

    #[test]
    fn dump_and_decoder_agree_on_damage(owned in record(), at in any::<prop::sample::Index>(), byte in any::<u8>(), sum in any::<bool>()) {
        let mut bytes = encoded(&owned.record());
        let at = at.index(bytes.len() - 4);
        bytes[at] = byte;
        if sum {
            let payload = bytes.len() - 4;
            let checksum = crc32(&bytes[..payload]);
            bytes[payload..].copy_from_slice(&checksum.to_le_bytes());
        }
        let read: Result<Vec<_>, _> = Frames::new(&bytes).collect();
        let mut frames = Frames::new(&bytes);
        frames.by_ref().for_each(drop);
        prop_assert_eq!(is_wrong(&bytes), read.is_err() || frames.skipped() > 0, "{}", HexDump(&bytes));
    }

    #[test]
    fn any_bytes_are_dumped(bytes in prop::collection::vec(prop_oneof![Just(VERSION), 0..16_u8, any::<u8>()], 0..600)) {
        let dump = HexDump(&bytes).to_string();
        prop_assert!(dump.lines().all(|line| line.chars().count() < 200));
    }
}

fn is_wrong(bytes: &[u8]) -> bool {
    let dump = HexDump(bytes).to_string();
    dump.lines()
        .any(|line| line.get(6..).is_some_and(|line| line.starts_with("  ! ")))
}

/// The bytes that the dump shows, in order, where none are cut.
fn hex_of(dump: &str, whole: bool) -> String {
    let rows = dump.lines().filter_map(|line| line.get(8..43.min(line.len())));
    let bytes: Vec<_> = rows.flat_map(str::split_whitespace).collect();
    if whole { bytes.join(" ") } else { String::new() }
}

fn hex_of_bytes(bytes: &[u8], whole: bool) -> String {
    let bytes: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    if whole { bytes.join(" ") } else { String::new() }
}

/// Some fields of a record as the dump names and shows them.
fn numbers(record: &Record<'_>) -> Vec<(&'static str, String)> {
    let mut fields = vec![("at_us", record.at_us.to_string())];
    let option = |number: Option<u64>| number.map_or("none".to_owned(), |number| number.to_string());
    match record.event {
        Event::RunOpened {
            seed, limits, weights, ..
        } => fields.extend([
            ("seed", seed.to_string()),
            ("limits.depth_max", limits.depth_max.to_string()),
            ("limits.nodes_max", limits.nodes_max.to_string()),
            ("limits.children_max", limits.children_max.to_string()),
            ("limits.steps_max", limits.steps_max.to_string()),
            ("limits.tokens_max", limits.tokens_max.to_string()),
            ("limits.action_max", limits.action_max.to_string()),
            ("limits.context_max", limits.context_max.to_string()),
            ("limits.concurrent_max", limits.concurrent_max.to_string()),
            ("limits.deadline_us", option(limits.deadline_us)),
            ("weights", weights.0.to_string()),
        ]),
        Event::Spawn {
            node,
            parent,
            depth,
            budget,
            ..
        } => fields.extend([
            ("node", node.0.to_string()),
            ("parent", option(parent.map(|parent| parent.0.into()))),
            ("depth", depth.0.to_string()),
            ("budget.depth", budget.depth.to_string()),
            ("budget.nodes", budget.nodes.to_string()),
            ("budget.children", budget.children.to_string()),
            ("budget.steps", budget.steps.to_string()),
            ("budget.tokens", budget.tokens.to_string()),
            ("budget.deadline_us", option(budget.deadline_us)),
        ]),
        Event::Refuse { parent, index, limit } => fields.extend([
            ("parent", parent.0.to_string()),
            ("index", index.to_string()),
            ("limit", limit.to_string()),
        ]),
        Event::Observe { node, tokens } if tokens.len() <= 8 => {
            fields.extend([("node", node.0.to_string()), ("tokens", format!("{tokens:?}"))]);
        }
        Event::Act {
            node,
            tokens,
            logprobs,
            weights,
        } if tokens.len() <= 8 => fields.extend([
            ("node", node.0.to_string()),
            ("tokens", format!("{tokens:?}")),
            ("logprobs", format!("{logprobs:?}")),
            ("weights", weights.0.to_string()),
        ]),
        Event::Score { node, success } => {
            fields.extend([
                ("node", node.0.to_string()),
                ("success", format!("{:?}", success.value())),
            ]);
        }
        Event::RunClosed { nodes, tokens } => {
            fields.extend([("nodes", nodes.to_string()), ("tokens", tokens.to_string())]);
        }
        Event::Restart { node } | Event::Allow { node, .. } => fields.push(("node", node.0.to_string())),
        _ => {}
    }
    fields
}
