//! The books of a run, kept from its log alone.

use rao_proto::{Budget, CancelReason, Event, Frames, Limits, NodeStatus};
use rao_trainer::rollout::{Rollout, VecArena};
use rao_tree::Tree;

/// What the log says of a node.
struct Account {
    parent: Option<usize>,
    depth: u8,
    given: Budget,
    /// Used by the node and everything below it.
    nodes: u32,
    tokens: u64,
    children: u16,
    steps: u16,
    context: u32,
    restarts: u32,
    /// Terminal events, of which there must be one.
    ends: u32,
    finished: bool,
    scores: u32,
    /// Children that have not ended.
    open: u32,
}

/// What a log amounts to.
#[derive(Debug, Default, PartialEq)]
pub struct Totals {
    pub nodes: u32,
    pub tokens: u64,
    pub depth: u8,
    pub children: u16,
    pub steps: u16,
    pub context: u32,
    /// Those that were cancelled.
    pub cancelled: u32,
    /// When the last event happened, in microseconds.
    pub at_us: u64,
}

/// Checks that a log is whole, that every spawn has one terminal event and nothing happens to a node after it, that no cap and no budget was
/// passed, and that the rollout is what the log says.
#[track_caller]
pub fn audit(rollout: &Rollout, limits: &Limits) -> Totals {
    let mut accounts: Vec<Account> = Vec::new();
    let mut totals = Totals::default();
    let mut tree = Tree::new(VecArena::default());
    let (mut opened, mut closed) = (0, 0);
    for record in Frames::new(&rollout.log) {
        let record = record.expect("a whole log");
        assert_eq!(closed, 0, "nothing follows the end");
        assert!(record.at_us >= totals.at_us);
        totals.at_us = record.at_us;
        tree.apply(&record.event).unwrap();
        match record.event {
            Event::RunOpened { limits: said, .. } => {
                opened += 1;
                assert_eq!(said, *limits);
            }
            Event::Spawn {
                node,
                parent,
                depth,
                budget: given,
                ..
            } => {
                assert_eq!((node.index(), opened), (accounts.len(), 1));
                let parent = parent.map(|parent| parent.index());
                let left = match parent {
                    None => limits.budget(),
                    Some(parent) => {
                        let parent = &accounts[parent];
                        assert_eq!(parent.ends, 0, "only the living have children");
                        assert_eq!(depth.0, parent.depth + 1);
                        Budget {
                            nodes: parent.given.nodes - parent.nodes,
                            tokens: parent.given.tokens - parent.tokens,
                            ..parent.given.of_child()
                        }
                    }
                };
                assert!(given.within(left), "{given:?} of {left:?}");
                let mut above = parent;
                while let Some(id) = above {
                    accounts[id].nodes += 1;
                    assert!(accounts[id].nodes <= accounts[id].given.nodes);
                    above = accounts[id].parent;
                }
                if let Some(parent) = parent.map(|id| &mut accounts[id]) {
                    parent.children += 1;
                    parent.open += 1;
                    assert!(parent.children <= parent.given.children);
                }
                accounts.push(Account {
                    parent,
                    depth: depth.0,
                    given,
                    nodes: 0,
                    tokens: 0,
                    children: 0,
                    steps: 0,
                    context: 0,
                    restarts: 0,
                    ends: 0,
                    finished: false,
                    scores: 0,
                    open: 0,
                });
                totals.depth = totals.depth.max(depth.0);
            }
            Event::Refuse { parent, .. } => assert_eq!(accounts[parent.index()].ends, 0),
            Event::Observe { node, tokens } => {
                let account = &mut accounts[node.index()];
                assert_eq!(account.ends, 0);
                account.context += tokens.len() as u32;
                assert!(account.context <= limits.context_max);
            }
            Event::Allow { node, masks } => {
                assert_eq!((accounts[node.index()].ends, masks.is_empty()), (0, false));
            }
            Event::Restart { node } => {
                let account = &mut accounts[node.index()];
                assert_eq!(account.ends, 0);
                totals.context = totals.context.max(account.context);
                account.context = 0;
                account.restarts += 1;
            }
            Event::Act {
                node, tokens, logprobs, ..
            } => {
                let account = &mut accounts[node.index()];
                assert_eq!((account.ends, account.open), (0, 0), "a node that waits does not act");
                assert!(tokens.len() as u32 <= limits.action_max);
                assert_eq!(tokens.len(), logprobs.len());
                assert!(logprobs.iter().all(|logprob| logprob.is_finite() && logprob <= 0.0));
                account.steps += 1;
                account.context += tokens.len() as u32;
                assert!(account.steps <= account.given.steps && account.context <= limits.context_max);
                let mut above = Some(node.index());
                while let Some(id) = above {
                    accounts[id].tokens += tokens.len() as u64;
                    assert!(accounts[id].tokens <= accounts[id].given.tokens);
                    above = accounts[id].parent;
                }
                totals.tokens += tokens.len() as u64;
            }
            Event::Return { node, status, .. } => {
                end(&mut accounts, node.index());
                accounts[node.index()].finished = status == NodeStatus::Finished;
            }
            Event::Cancel { node, reason } => {
                end(&mut accounts, node.index());
                assert_eq!(reason, CancelReason::Caller);
                totals.cancelled += 1;
            }
            Event::Score { node, .. } => {
                let account = &mut accounts[node.index()];
                assert!(account.finished, "only what has finished is scored");
                account.scores += 1;
            }
            Event::RunClosed { nodes, tokens } => {
                closed += 1;
                assert_eq!((nodes as usize, tokens), (accounts.len(), totals.tokens));
            }
            _ => panic!("an event that nobody knows"),
        }
    }
    assert_eq!((opened, closed), (1, 1));
    for account in &accounts {
        assert_eq!((account.ends, account.open), (1, 0));
        assert!(account.scores <= 1);
        totals.children = totals.children.max(account.children);
        totals.steps = totals.steps.max(account.steps);
        totals.context = totals.context.max(account.context);
    }
    totals.nodes = accounts.len() as u32;
    assert!(totals.nodes <= limits.nodes_max.max(1) && totals.tokens <= limits.tokens_max);
    assert!(totals.depth <= limits.depth_max);

    let said = tree.nodes().iter();
    assert_eq!(tree.nodes().len(), rollout.tree.nodes().len());
    for (said, node) in said.zip(rollout.tree.nodes()) {
        assert_eq!((said.status, said.success), (node.status, node.success));
        assert_eq!((said.judged(), said.steps), (node.judged(), node.steps));
        assert_eq!((said.sampled, said.context), (node.sampled, node.context));
    }
    totals
}

#[track_caller]
fn end(accounts: &mut [Account], node: usize) {
    let account = &mut accounts[node];
    account.ends += 1;
    assert_eq!(
        (account.ends, account.open),
        (1, 0),
        "children end before their parents"
    );
    if let Some(parent) = account.parent {
        accounts[parent].open -= 1;
    }
}
