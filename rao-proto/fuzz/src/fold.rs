//! Events that no driver wrote.

use crate::frame;
use rao_proto::{Event, Frames};
use rao_tree::{Node, Tree};

type Small = heapless::Vec<Node, 8>;

/// Folds what `bytes` say into a tree, read as frames and as payloads that each follow a byte with their length. Asserts that a refused
/// event changes nothing and that a parent always precedes its children.
pub fn fold(bytes: &[u8]) -> u64 {
    let mut tree = Tree::new(Small::new());
    let mut events = 0;
    for record in Frames::new(bytes).flatten() {
        apply(&mut tree, &record.event);
        events += 1;
    }
    let mut tree = Tree::new(Small::new());
    let mut rest = bytes;
    while let Some((&len, behind)) = rest.split_first() {
        let (payload, behind) = behind.split_at(behind.len().min(len.into()));
        rest = behind;
        if let Ok((record, _)) = rao_proto::decode(&frame(payload)) {
            apply(&mut tree, &record.event);
            events += 1;
        }
    }
    events
}

fn apply(tree: &mut Tree<Small>, event: &Event<'_>) {
    let before = tree.nodes().to_vec();
    if let Err(error) = tree.apply(event) {
        assert_eq!(tree.nodes(), before, "{error}");
        return;
    }
    for (index, node) in tree.nodes().iter().enumerate().skip(before.len()) {
        match node.parent {
            None => assert_eq!((index, node.depth.0), (0, 0)),
            Some(parent) => {
                assert!(parent.index() < index);
                assert_eq!(tree.nodes()[parent.index()].depth.0 + 1, node.depth.0);
            }
        }
    }
}
