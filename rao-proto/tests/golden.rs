//! The bytes of every event. A diff in a snapshot is a change of the wire format: see SPEC.md for what may change.

mod common;

use std::fmt::Write as _;

use common::{LIMITS, REASONS, encoded, encoded_all, logprobs, statuses};
use rao_proto::testing::{HexDump, RECORDS};
use rao_proto::*;

#[test]
fn every_event() {
    for (record, kind) in RECORDS.iter().zip(0..) {
        assert_eq!(record.event.kind(), kind, "one record of each event, in wire order");
        let dump = HexDump(&encoded(record)).to_string();
        let mut fields: Vec<_> = dump.lines().skip(4).map(|line| line[8..43].trim()).collect();
        fields.sort_unstable();
        assert!(fields.windows(2).all(|pair| pair[0] != pair[1]), "{dump}");
    }
    insta::assert_snapshot!(HexDump(&encoded_all(RECORDS)));
}

/// Every field at its least: numbers 0, texts and lists empty, options absent.
#[test]
fn least() {
    insta::assert_snapshot!(HexDump(&encoded_all(&extremes(Extreme::Least))));
}

/// Every number at its greatest, options present, texts and lists with one element that takes the most bytes.
#[test]
fn greatest() {
    insta::assert_snapshot!(HexDump(&encoded_all(&extremes(Extreme::Greatest))));
}

/// Texts, values and lists as long as a frame allows. One byte or token more is refused.
#[test]
fn longest() {
    let room = |event| FRAME_MAX - encoded(&Record { at_us: 0, event }).len() - 2; // the length takes 3 bytes, 1 when it is 0
    let text = "x".repeat(FRAME_MAX);
    let [task, spawn_task] = [opened(""), spawn("")].map(|event| &text[..room(event)]);
    let value = &text.as_bytes()[..room(returned(&[]))];
    let many = vec![Token(0); FRAME_MAX];
    let (node, weights) = (NodeId::ROOT, WeightsVersion(0));
    let observe = |tokens| Event::Observe { node, tokens };
    let observed = &many[..room(observe(Tokens::EMPTY))];
    let numbers = vec![-1.0; FRAME_MAX / 5];
    let act = |len| Event::Act {
        node,
        tokens: Tokens::new(&many[..len]),
        logprobs: logprobs(&numbers[..len]),
        weights,
    };
    let acted = (room(act(0)) - 2) / 5; // two lengths of 3 bytes

    let longest = [
        opened(task),
        spawn(spawn_task),
        observe(Tokens::new(observed)),
        act(acted),
        returned(value),
    ];
    let mut dump = String::new();
    for event in longest {
        writeln!(dump, "{}", HexDump(&encoded(&Record { at_us: 0, event }))).unwrap();
    }
    insta::assert_snapshot!(dump);

    let longer = [
        opened(&text[..=task.len()]),
        spawn(&text[..=spawn_task.len()]),
        observe(Tokens::new(&many[..=observed.len()])),
        act(acted + 1),
        returned(&text.as_bytes()[..=value.len()]),
    ];
    for event in longer {
        let refused = encoded_len(&Record { at_us: 0, event });
        assert!(matches!(refused, Err(EncodeError::TooLong { .. })), "{refused:?}");
    }
}

/// UTF-8 of one to four bytes, and the ends of each range.
#[test]
fn texts() {
    let texts = [
        "a",
        "\u{7f}",
        "\u{80}",
        "\u{7ff}",
        "\u{800}",
        "\u{ffff}",
        "\u{10000}",
        "\u{10ffff}",
        "\0\"\\\n",
    ];
    let mut dump = String::new();
    for text in texts {
        let bytes = encoded(&Record {
            at_us: 0,
            event: spawn(text),
        });
        writeln!(dump, "{:<16} {text:?}", hex(&bytes[10..bytes.len() - 10])).unwrap();
    }
    insta::assert_snapshot!(dump);
}

/// A token of every length on the wire, and the same numbers where they are a node, a time and a length in bytes.
#[test]
fn integers() {
    let ends = [
        0,
        1,
        127,
        128,
        16_383,
        16_384,
        2_097_151,
        2_097_152,
        268_435_455,
        268_435_456,
        u32::MAX,
    ];
    let tokens = ends.map(|end| [Token(end)]);
    let observe = |index: usize| Event::Observe {
        node: NodeId(ends[index]),
        tokens: Tokens::new(&tokens[index]),
    };
    let mut dump = table((0..ends.len()).map(observe), 6);
    for bits in (0..=63).step_by(7) {
        for at_us in [(1 << bits) - 1, 1 << bits] {
            let bytes = encoded(&Record {
                at_us,
                event: Event::RunClosed { nodes: 0, tokens: 0 },
            });
            writeln!(dump, "{:<36} at_us {at_us}", hex(&bytes[5..bytes.len() - 7])).unwrap();
        }
    }
    let value = [0; 16_384];
    for len in [0, 1, 127, 128, 16_383, 16_384] {
        let bytes = encoded(&Record {
            at_us: 0,
            event: returned(&value[..len]),
        });
        writeln!(
            dump,
            "{:<36} value of {len} bytes",
            hex(&bytes[8..bytes.len() - 4 - len])
        )
        .unwrap();
    }
    insta::assert_snapshot!(dump);
}

/// The ends of what a log-probability and a success may be; what they may not be is refused, by writer and reader.
#[test]
fn floats() {
    let least = f32::from_bits(1); // subnormal
    let mut events = Vec::new();
    let numbers = [0.0_f32, -0.0, -least, -f32::MIN_POSITIVE, -1.0, f32::MIN].map(|number| [number]);
    for numbers in &numbers {
        events.push(Event::Act {
            node: NodeId::ROOT,
            tokens: Tokens::new(&[Token(0)]),
            logprobs: logprobs(numbers),
            weights: WeightsVersion(0),
        });
    }
    for success in [0.0, -0.0, least, f32::MIN_POSITIVE, 0.5, 1.0_f32.next_down(), 1.0] {
        let success = Success::new(success).unwrap();
        events.push(Event::Score {
            node: NodeId::ROOT,
            success,
        });
    }
    insta::assert_snapshot!(table(events, 6));

    let nans = [
        f32::NAN,
        -f32::NAN,
        f32::from_bits(0x7F80_0001),
        f32::from_bits(0xFFFF_FFFF),
    ];
    let refused = Err(Malformed::Value);
    for number in [nans.as_slice(), &[f32::INFINITY, f32::NEG_INFINITY]].concat() {
        assert!(Logprobs::new(&[number]).is_err() && Success::new(number).is_err());
        assert_eq!(
            (read_logprob(number), read_success(number)),
            (refused, refused),
            "{number}"
        );
    }
    for number in [least, 1.0, f32::MAX] {
        assert!(Logprobs::new(&[number]).is_err());
        assert_eq!(read_logprob(number), refused, "{number}");
    }
    for number in [-least, 1.0_f32.next_up(), -1.0, f32::MAX] {
        assert!(Success::new(number).is_err());
        assert_eq!(read_success(number), refused, "{number}");
    }
    assert_eq!(
        (read_logprob(-1.0), read_success(1.0)),
        (Ok(()), Ok(())),
        "the payloads are right otherwise"
    );
}

#[test]
fn every_choice() {
    let node = NodeId::ROOT;
    let returns = statuses().into_iter().map(|status| Event::Return {
        node,
        status,
        value: &[],
    });
    let refusals = LIMITS.map(|limit| Event::Refuse {
        parent: node,
        index: 0,
        limit,
    });
    let cancels = REASONS.map(|reason| Event::Cancel { node, reason });
    insta::assert_snapshot!(table(returns.chain(refusals).chain(cancels), 6));
}

/// The worked examples of the specification are the spawn and the act of [`RECORDS`], field by field as the dump has them.
#[test]
fn specification_examples() {
    let lines = include_str!("../SPEC.md")
        .lines()
        .filter_map(|line| line.strip_prefix("    "));
    let lines: Vec<_> = lines.map(|line| line.split_once("  ").unwrap().0).collect();
    let dump = HexDump(&encoded_all(&[RECORDS[1], RECORDS[4]])).to_string();
    let fields = dump.lines().filter(|line| !line.is_empty());
    let fields: Vec<_> = fields.map(|line| line[8..].split_once("  ").unwrap().0).collect();
    assert_eq!(lines, fields);
}

enum Extreme {
    Least,
    Greatest,
}

/// One record per event.
fn extremes(extreme: Extreme) -> Vec<Record<'static>> {
    let (big, text, tokens, numbers, value): (_, _, &[_], _, &[_]) = match extreme {
        Extreme::Least => (0, "", &[], Logprobs::EMPTY, &[]),
        Extreme::Greatest => (
            u64::MAX,
            "\u{10ffff}",
            &[Token(u32::MAX)],
            logprobs(&[f32::MIN]),
            &[0xFF],
        ),
    };
    let (small, medium, large) = (big as u8, big as u16, big as u32);
    let (node, tokens, weights) = (NodeId(large), Tokens::new(tokens), WeightsVersion(big));
    let deadline_us = (big > 0).then_some(big);
    let limits = Limits {
        depth_max: small,
        nodes_max: large,
        children_max: medium,
        steps_max: medium,
        tokens_max: big,
        action_max: large,
        context_max: large,
        concurrent_max: large,
        deadline_us,
    };
    let budget = Budget {
        depth: small,
        nodes: large,
        children: medium,
        steps: medium,
        tokens: big,
        deadline_us,
    };
    let events = [
        Event::RunOpened {
            task: text,
            seed: big,
            limits,
            weights,
        },
        Event::Spawn {
            node,
            parent: (big > 0).then_some(node),
            depth: Depth(small),
            task: text,
            budget,
        },
        Event::Refuse {
            parent: node,
            index: small,
            limit: if big > 0 { Limit::Context } else { Limit::Depth },
        },
        Event::Observe { node, tokens },
        Event::Act {
            node,
            tokens,
            logprobs: numbers,
            weights,
        },
        Event::Return {
            node,
            status: if big > 0 {
                NodeStatus::Truncated(Limit::Context)
            } else {
                NodeStatus::Finished
            },
            value,
        },
        Event::Cancel {
            node,
            reason: if big > 0 {
                CancelReason::Caller
            } else {
                CancelReason::ParentEnded
            },
        },
        Event::Score {
            node,
            success: if big > 0 { Success::ONE } else { Success::ZERO },
        },
        Event::RunClosed {
            nodes: large,
            tokens: big,
        },
        Event::Restart { node },
        Event::Allow { node, masks: value },
    ];
    assert_eq!(events.len(), RECORDS.len());
    events.map(|event| Record { at_us: big, event }).to_vec()
}

fn opened(task: &str) -> Event<'_> {
    Event::RunOpened {
        task,
        seed: 0,
        limits: NOTHING,
        weights: WeightsVersion(0),
    }
}

fn spawn(task: &str) -> Event<'_> {
    Event::Spawn {
        node: NodeId::ROOT,
        parent: None,
        depth: Depth(0),
        task,
        budget: NOTHING.budget(),
    }
}

fn returned(value: &[u8]) -> Event<'_> {
    Event::Return {
        node: NodeId::ROOT,
        status: NodeStatus::Finished,
        value,
    }
}

/// Every field at its least.
const NOTHING: Limits = Limits {
    depth_max: 0,
    nodes_max: 0,
    children_max: 0,
    steps_max: 0,
    tokens_max: 0,
    action_max: 0,
    context_max: 0,
    concurrent_max: 0,
    deadline_us: None,
};

fn read_logprob(number: f32) -> Result<(), Malformed> {
    read(&[&[0, 4, 0, 1, 1, 4][..], &number.to_le_bytes(), &[0]].concat())
}

fn read_success(number: f32) -> Result<(), Malformed> {
    read(&[&[0, 7, 0][..], &number.to_le_bytes()].concat())
}

fn read(payload: &[u8]) -> Result<(), Malformed> {
    match decode(&common::frame(payload)) {
        Err(DecodeError::Malformed { reason, .. }) => Err(reason),
        other => other.map(|_| ()).map_err(|error| panic!("{error}")),
    }
}

/// A line for each event: its fields as bytes, and as they are. `from` is where in the frame they begin.
fn table<'a>(events: impl IntoIterator<Item = Event<'a>>, from: usize) -> String {
    events.into_iter().fold(String::new(), |mut table, event| {
        let bytes = encoded(&Record { at_us: 0, event });
        writeln!(table, "{:<36} {event:?}", hex(&bytes[from..bytes.len() - 4])).unwrap();
        table
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(" ")
}
