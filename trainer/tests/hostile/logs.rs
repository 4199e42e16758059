//! Event logs.

use crate::mutate::mutated;
use crate::{alone, bounded};
use rao_proto::{Event, Limits, NodeId, NodeStatus, Record, Success, Tokens, WeightsVersion, encode, encoded_len};
use rao_trainer::report::{Caps, Report};
use rao_trainer::trace::{LOG_MAX, Records, Trace};
use rao_tree::{Budget, Depth, Token};

/// What an agent might write to whoever looks at it: markup, the end of a script, and orders to a terminal.
pub const EVIL: &str =
    "</script><script>alert(1)</script><!-- <img src=x onerror=alert(1)> & \u{1b}]0;owned\u{7}\u{1b}[2J\u{202e}";

fn append(log: &mut Vec<u8>, event: Event<'_>) {
    let record = Record { at_us: 1, event };
    let start = log.len();
    log.resize(start + encoded_len(&record).unwrap(), 0);
    encode(&record, &mut log[start..]).unwrap();
}

/// A tree of four nodes that says evil things.
pub fn log() -> Vec<u8> {
    let limits = Limits {
        depth_max: 3,
        nodes_max: 10,
        children_max: 4,
        steps_max: 4,
        tokens_max: 1_000,
        action_max: 100,
        context_max: 1_000,
        concurrent_max: 4,
        deadline_us: None,
    };
    let mut log = Vec::new();
    append(
        &mut log,
        Event::RunOpened {
            task: EVIL,
            seed: 1,
            limits,
            weights: WeightsVersion(3),
        },
    );
    let said: Vec<Token> = EVIL.bytes().map(|byte| Token(byte.into())).collect();
    let tokens = Tokens::new(&said);
    for id in 0..4 {
        let node = NodeId(id);
        append(
            &mut log,
            Event::Spawn {
                node,
                parent: id.checked_sub(1).map(NodeId),
                depth: Depth(id as u8),
                task: EVIL,
                budget: Budget {
                    depth: 3 - id as u8,
                    ..Budget::UNLIMITED
                },
            },
        );
        append(&mut log, Event::Observe { node, tokens });
    }
    for id in (0..4).rev() {
        let (node, status) = (NodeId(id), NodeStatus::Finished);
        append(
            &mut log,
            Event::Return {
                node,
                status,
                value: EVIL.as_bytes(),
            },
        );
        let success = Success::ONE;
        append(&mut log, Event::Score { node, success });
    }
    append(&mut log, Event::RunClosed { nodes: 4, tokens: 0 });
    log
}

/// What is printed gives no orders to a terminal.
#[track_caller]
fn assert_plain(printed: &str) {
    let order = printed.chars().find(|&c| c.is_control() && c != '\n');
    assert_eq!(order, None, "{printed:?}");
}

#[test]
fn damaged_logs_are_read_as_far_as_they_go() {
    let _alone = alone();
    let whole = log();
    let (trace, errors) = Trace::read(&whole);
    assert!(errors.is_empty(), "{errors:?}");
    assert_plain(&trace.draw(100));
    for case in 0..4_000 {
        let damaged = mutated(&whole, case);
        bounded(damaged.len(), || {
            let (trace, errors) = Trace::read(&damaged);
            assert_plain(&trace.draw(100));
            for error in errors {
                assert!(!error.to_string().is_empty());
            }
            Records::new(&damaged).count()
        });
    }
}

#[test]
fn frames_that_are_sound_and_contradict_each_other_are_read_too() {
    let _alone = alone();
    // Whole frames in any order: every checksum is right.
    let whole = log();
    let frames: Vec<&[u8]> = {
        let ends = Records::new(&whole).map(|record| record.unwrap().0);
        let starts: Vec<usize> = ends.chain([whole.len()]).collect();
        starts.windows(2).map(|pair| &whole[pair[0]..pair[1]]).collect()
    };
    let mut seeded = crate::mutate::Seeded::new(7);
    for _ in 0..2_000 {
        let mut log = Vec::new();
        for _ in 0..seeded.below(30) {
            log.extend_from_slice(frames[seeded.below(frames.len())]);
        }
        bounded(log.len(), || {
            let (trace, _) = Trace::read(&log);
            assert_plain(&trace.draw(5));
        });
    }
}

#[test]
fn the_page_of_a_report_holds_what_agents_said_as_data() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let page = |log: &[u8], title: &str| {
        let path = dir.path().join("tree.rao");
        std::fs::write(&path, log).unwrap();
        let report = Report::gather(&[path], title, Caps::default()).unwrap();
        report.render().unwrap()
    };
    let mut plain = Vec::new();
    append(
        &mut plain,
        Event::RunOpened {
            task: "plain",
            seed: 1,
            limits: Limits {
                depth_max: 0,
                nodes_max: 1,
                children_max: 0,
                steps_max: 1,
                tokens_max: 1,
                action_max: 1,
                context_max: 1,
                concurrent_max: 1,
                deadline_us: None,
            },
            weights: WeightsVersion(0),
        },
    );
    let tags = |page: &str| {
        (
            page.matches("<script").count(),
            page.matches("</script").count(),
            page.matches("<img").count(),
            page.matches("<!--").count(),
        )
    };
    let plain = tags(&page(&plain, "plain"));
    let evil = page(&log(), EVIL);
    assert_eq!(tags(&evil), plain);
    assert!(evil.contains("alert(1)"), "it is there, as data");
    for case in 0..300 {
        assert_eq!(tags(&page(&mutated(&log(), case), EVIL)), plain);
    }
}

#[test]
fn a_log_that_is_too_long_is_refused_before_it_is_read() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("long.rao");
    // Takes no place on the disk.
    std::fs::File::create(&path).unwrap().set_len(LOG_MAX + 1).unwrap();
    let gathered = bounded(0, || Report::gather(&[path], "long", Caps::default()).map(drop));
    let error = gathered.unwrap_err().to_string();
    assert!(error.contains("at most 1073741824 are read"), "{error}");
}
