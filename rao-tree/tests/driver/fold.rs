//! Logs that no driver wrote.

use crate::support::{VecArena, visible};
use proptest::prelude::*;
use rao_proto::{CancelReason, Event, Limit, Logprobs, Tokens};
use rao_tree::{ArenaFull, Budget, Depth, NodeId, NodeStatus, Success, Token, Tree, TreeError, WeightsVersion};

fn spawn(node: u32, parent: Option<u32>, depth: u8) -> Event<'static> {
    Event::Spawn {
        node: NodeId(node),
        parent: parent.map(NodeId),
        depth: Depth(depth),
        task: "",
        budget: Budget {
            depth: u8::MAX - depth,
            ..Budget::UNLIMITED
        },
    }
}

fn finish(node: u32) -> Event<'static> {
    Event::Return {
        node: NodeId(node),
        status: NodeStatus::Finished,
        value: &[],
    }
}

fn act(node: u32, tokens: &[Token]) -> Event<'_> {
    Event::Act {
        node: NodeId(node),
        tokens: Tokens::new(tokens),
        logprobs: Logprobs::EMPTY,
        weights: WeightsVersion(0),
    }
}

fn score(node: u32, success: Success) -> Event<'static> {
    Event::Score {
        node: NodeId(node),
        success,
    }
}

#[test]
fn what_contradicts_the_log_so_far_is_refused_and_changes_nothing() {
    let mut tree = Tree::new(heapless::Vec::<_, 3>::new());
    let id = NodeId;
    let out_of_order = |expected, found| TreeError::OutOfOrder {
        expected: id(expected),
        found: id(found),
    };
    let first = [
        (finish(0), Err(TreeError::UnknownNode(id(0)))),
        (spawn(1, None, 0), Err(out_of_order(0, 1))),
        (spawn(0, Some(0), 1), Err(TreeError::Parentage(id(0)))),
        (spawn(0, None, 1), Err(TreeError::Parentage(id(0)))),
        (spawn(0, None, 0), Ok(())),
        (spawn(0, None, 0), Err(out_of_order(1, 0))),
        (spawn(1, None, 0), Err(TreeError::Parentage(id(1)))),
        (spawn(1, Some(1), 1), Err(TreeError::UnknownNode(id(1)))),
        (spawn(1, Some(u32::MAX), 1), Err(TreeError::UnknownNode(id(u32::MAX)))),
        (spawn(1, Some(0), 2), Err(TreeError::WrongDepth(id(1)))),
        (spawn(1, Some(0), 0), Err(TreeError::WrongDepth(id(1)))),
        (spawn(1, Some(0), 1), Ok(())),
        (score(1, Success::ONE), Err(TreeError::ScoredEarly(id(1)))),
        (score(7, Success::ONE), Err(TreeError::UnknownNode(id(7)))),
        (finish(1), Ok(())),
        (finish(1), Err(TreeError::AlreadyEnded(id(1)))),
        (act(1, &[Token(0)]), Err(TreeError::AlreadyEnded(id(1)))),
        (spawn(2, Some(1), 2), Err(TreeError::AlreadyEnded(id(1)))),
        (score(1, Success::ONE), Ok(())),
        (score(1, Success::ZERO), Ok(())),
        (spawn(2, Some(0), 1), Ok(())),
        (spawn(3, Some(0), 1), Err(TreeError::Full(ArenaFull))),
    ];
    for (event, expected) in first {
        let before: Vec<_> = tree.nodes().to_vec();
        assert_eq!(tree.apply(&event), expected, "{event:?}");
        if expected.is_err() {
            assert_eq!(tree.nodes(), before);
        }
    }
    assert_eq!(tree.nodes()[0].children, 2);
    assert_eq!(tree.nodes()[1].success, Success::ZERO);
    assert_eq!(tree.node(id(3)), None);
}

#[test]
fn a_level_below_the_deepest_is_refused() {
    let mut tree = Tree::new(VecArena::default());
    tree.apply(&spawn(0, None, 0)).unwrap();
    for node in 1..=255 {
        tree.apply(&spawn(node, Some(node - 1), node as u8)).unwrap();
    }
    for depth in [0, 255] {
        let refused = tree.apply(&spawn(256, Some(255), depth));
        assert_eq!(refused, Err(TreeError::WrongDepth(NodeId(256))));
    }
}

#[test]
fn counts_stay_at_their_maximum() {
    let mut tree = Tree::new(VecArena::default());
    tree.apply(&spawn(0, None, 0)).unwrap();
    for node in 1..=65_540 {
        tree.apply(&spawn(node, Some(0), 1)).unwrap();
        tree.apply(&act(0, &[])).unwrap();
    }
    let root = &tree.nodes()[0];
    assert_eq!((root.children, root.steps, root.sampled), (u16::MAX, u16::MAX, 0));
}

fn event() -> impl Strategy<Value = Event<'static>> {
    const TOKENS: [Token; 3] = [Token(1), Token(2), Token(3)];
    let node = prop_oneof![8 => 0..9_u32, 1 => any::<u32>()];
    let depth = prop_oneof![8 => 0..4_u8, 1 => any::<u8>()];
    let spawned = (node.clone(), prop::option::of(node.clone()), depth);
    let limit = Limit::Nodes;
    prop_oneof![
        8 => spawned.prop_map(|(node, parent, depth)| spawn(node, parent, depth)),
        2 => node.clone().prop_map(|node| act(node, &TOKENS)),
        2 => node.clone().prop_map(|node| Event::Observe { node: NodeId(node), tokens: Tokens::new(&TOKENS) }),
        1 => node.clone().prop_map(finish),
        1 => node.clone().prop_map(|node| Event::Cancel { node: NodeId(node), reason: CancelReason::ParentEnded }),
        1 => node.clone().prop_map(|node| score(node, Success::ONE)),
        1 => node.clone().prop_map(move |node| Event::Refuse { parent: NodeId(node), index: 0, limit }),
        1 => node.clone().prop_map(|node| Event::Restart { node: NodeId(node) }),
        1 => node.prop_map(|node| Event::Allow { node: NodeId(node), masks: &[1] }),
        1 => Just(Event::RunClosed { nodes: 0, tokens: 0 }),
    ]
}

proptest! {
    /// Whatever the events say: no panic, a parent before each child, and a refused event leaves no trace.
    #[test]
    fn any_events_make_a_tree_or_an_error(events in prop::collection::vec(event(), 0..200)) {
        let mut tree = Tree::new(heapless::Vec::<_, 6>::new());
        let mut accepted = Tree::new(VecArena::default());
        for event in events {
            if tree.apply(&event).is_ok() {
                accepted.apply(&event).unwrap();
            }
        }
        prop_assert!(tree.nodes().iter().map(visible).eq(accepted.nodes().iter().map(visible)));
        for (index, node) in tree.nodes().iter().enumerate() {
            prop_assert_eq!(node.parent.is_none(), index == 0);
            if let Some(parent) = node.parent {
                prop_assert!(parent.index() < index);
                prop_assert_eq!(tree.nodes()[parent.index()].depth.0 + 1, node.depth.0);
            }
        }
    }
}
