//! What the diagnostics say of trees whose answers are plain.

use crate::forest::assert_close;
use rao_proto::{Budget, Event, Logprobs, Tokens};
use rao_tree::credit::{Credit, CreditError, Diagnostics, Estimator, Forest, Level, Member};
use rao_tree::{Depth, Limit, NodeId, NodeStatus, Success, Token, Tree, WeightsVersion};

type Arena = heapless::Vec<rao_tree::Node, 80>;

/// Folds events; every node is given all that its depth allows.
#[derive(Default)]
struct Log {
    tree: Tree<Arena>,
}

impl Log {
    fn spawn(mut self, parent: Option<u32>) -> Self {
        let parent = parent.map(NodeId);
        let above = parent.and_then(|parent| self.tree.node(parent));
        let depth = above.map_or(0, |above| above.depth.0 + 1);
        let spawn = Event::Spawn {
            node: NodeId(self.tree.nodes().len() as u32),
            parent,
            depth: Depth(depth),
            task: "",
            budget: Budget {
                depth: u8::MAX - depth,
                ..Budget::UNLIMITED
            },
        };
        self.tree.apply(&spawn).unwrap();
        self
    }

    fn act(mut self, node: u32, tokens: usize) -> Self {
        let act = Event::Act {
            node: NodeId(node),
            tokens: Tokens::new(&[Token(0); 16][..tokens]),
            logprobs: Logprobs::EMPTY,
            weights: WeightsVersion(0),
        };
        self.tree.apply(&act).unwrap();
        self
    }

    fn finish(mut self, node: u32, success: f32) -> Self {
        let (node, status) = (NodeId(node), NodeStatus::Finished);
        let success = Success::new(success).unwrap();
        self.tree
            .apply(&Event::Return {
                node,
                status,
                value: &[],
            })
            .unwrap();
        self.tree.apply(&Event::Score { node, success }).unwrap();
        self
    }

    fn refuse(mut self, parent: u32, limit: Limit) -> Self {
        let parent = NodeId(parent);
        let refuse = Event::Refuse {
            parent,
            index: 0,
            limit,
        };
        self.tree.apply(&refuse).unwrap();
        self
    }
}

/// Two children at once, then a third; one launch is refused by depth and two by nodes. 4 + 2 + 3 + 5 tokens.
fn wide() -> Tree<Arena> {
    let log = Log::default().spawn(None).act(0, 2);
    let log = log.spawn(Some(0)).spawn(Some(0));
    let log = log.act(1, 2).refuse(1, Limit::Depth).finish(1, 1.0);
    let log = log.act(2, 3).finish(2, 0.0).act(0, 1);
    let log = log.spawn(Some(0)).act(3, 5).finish(3, 1.0);
    let log = log.refuse(0, Limit::Nodes).refuse(0, Limit::Nodes);
    log.act(0, 1).finish(0, 1.0).tree
}

/// A root that says one token and hands everything to a child of nine, which has one of its own with six.
fn router() -> Tree<Arena> {
    let log = Log::default().spawn(None).act(0, 1).spawn(Some(0)).act(1, 9);
    log.spawn(Some(1))
        .act(2, 6)
        .finish(2, 1.0)
        .finish(1, 1.0)
        .finish(0, 0.0)
        .tree
}

fn alone() -> Tree<Arena> {
    Log::default().spawn(None).act(0, 4).finish(0, 0.0).tree
}

fn diagnostics(group: &[Tree<Arena>]) -> (Diagnostics, Vec<Credit>) {
    let nodes: Vec<Member> = group.iter().flat_map(|tree| tree.nodes()).map(Member::from).collect();
    let ends: Vec<usize> = group
        .iter()
        .scan(0, |end, tree| {
            *end += tree.nodes().len();
            Some(*end)
        })
        .collect();
    let mut credits = vec![Credit::default(); nodes.len()];
    let groups = [group.len()];
    let forest = Forest::new(&nodes, &ends, &groups).unwrap();
    Estimator::default().assign(&forest, &mut credits).unwrap();
    let mut diagnostics = Diagnostics::default();
    let mut rest = credits.as_slice();
    for tree in group {
        let (of, after) = rest.split_at(tree.nodes().len());
        diagnostics.add(tree, of).unwrap();
        rest = after;
    }
    (diagnostics, credits)
}

#[track_caller]
fn assert_share(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-9, "{found} for {expected}");
}

#[test]
fn launches() {
    let (of, _) = diagnostics(&[wide(), router(), alone()]);
    assert_eq!((of.trees(), of.nodes()), (3, 8));
    // The root of the first, the root and the child of the second.
    assert_share(of.delegation_rate(), 3.0 / 8.0);
    // Five launches, of which two were made together.
    assert_share(of.parallel_share(), 2.0 / 5.0);
    assert_eq!(of.refusals().by(Limit::Depth), 1);
    assert_eq!(of.refusals().by(Limit::Nodes), 2);
    assert_eq!(of.refusals().by(Limit::Children), 0);
    assert_share(of.refused_by(Limit::Nodes), 2.0 / 8.0);
}

#[test]
fn work() {
    // 2, then the slower child's 3, 1, the third child's 5, 1.
    let (of, _) = diagnostics(&[wide(), alone()]);
    assert_share(of.critical_path_share(), (12.0 + 4.0) / (14.0 + 4.0));
    let (of, _) = diagnostics(&[router(), alone()]);
    assert_share(of.critical_path_share(), 1.0);
}

#[test]
fn routers() {
    let (of, _) = diagnostics(&[router(), alone()]);
    // 15 of 16 tokens are drawn below the root of the first tree; the second has nobody below.
    assert_share(of.router_index(), 15.0 / 16.0 / 2.0);
    let (of, _) = diagnostics(&[wide(), alone()]);
    assert_share(of.router_index(), 0.0);
}

#[test]
fn advantage_mass_by_depth() {
    let trees = [router(), alone(), wide()];
    let (of, credits) = diagnostics(&trees);
    for depth in 0..4 {
        let mut expected = Level::default();
        let nodes = trees.iter().flat_map(|tree| tree.nodes()).zip(&credits);
        for (node, credit) in nodes.filter(|(node, _)| node.depth.0 == depth) {
            expected.nodes += 1;
            expected.tokens += u64::from(node.sampled);
            expected.advantage += f64::from(node.sampled) * f64::from(credit.advantage.abs());
            expected.weighted += f64::from(node.sampled) * f64::from(credit.weighted.abs());
        }
        assert_eq!(of.level(Depth(depth)), expected, "{depth}");
    }
    assert_eq!(of.level(Depth(1)).nodes, 4);
    assert_eq!(of.level(Depth(2)).tokens, 6);
    let shares: f64 = (0..4).map(|depth| of.mass_share(Depth(depth))).sum();
    assert_share(shares, 1.0);
    assert_close(&[of.mass_share(Depth(3)) as f32], &[0.0]);
    assert_eq!(of.level(Depth(255)), Level::default());
}

#[test]
fn nothing_has_no_shares() {
    let of = Diagnostics::default();
    let shares = [
        of.delegation_rate(),
        of.parallel_share(),
        of.critical_path_share(),
        of.router_index(),
        of.mass_share(Depth(0)),
        of.refused_by(Limit::Depth),
    ];
    assert_eq!(shares, [0.0; 6]);
    let mut of = of;
    of.add(&Tree::new(Arena::new()), &[]).unwrap();
    assert_eq!((of.trees(), of.router_index()), (1, 0.0));
}

#[test]
fn what_is_no_credit_of_the_tree_is_refused() {
    let mut of = Diagnostics::default();
    let error = CreditError::Length {
        what: "credits",
        found: 2,
        expected: 4,
    };
    assert_eq!(of.add(&wide(), &[Credit::default(); 2]), Err(error));
    let mut log = Log::default().spawn(None);
    for node in 0..64 {
        log = log.spawn(Some(node));
    }
    let too_deep = CreditError::TooDeep {
        tree: 0,
        node: NodeId(64),
        depth: 64,
    };
    assert_eq!(of.add(&log.tree, &[Credit::default(); 65]), Err(too_deep));
    assert_eq!((of.trees(), of.nodes()), (0, 0), "nothing is added");
}
