//! Credit of random forests against a second implementation: in f64, from the definitions, one node at a time, without regard to speed.

use crate::forest::*;
use crate::random::Random;
use rao_tree::credit::{
    Baseline, DepthMass, DepthScope, DepthWeights, Estimator, LoneRoot, LostRoot, Member, Rule, Running,
};
use rao_tree::{Depth, Limit, NodeId, NodeStatus, Success};

const FORESTS: u64 = 10_000;

#[test]
fn ten_thousand_random_forests() {
    let mut nodes = 0;
    let mut teaching = 0;
    for seed in 0..FORESTS {
        let mut random = Random(seed);
        // Costs come from another source: what the rest is drawn as does not depend on them.
        let mut costs = Random(!seed);
        let estimator = Estimator {
            path_cost: costs.one_of(&[0.0, 0.0, 4.0]),
            work_cost: costs.one_of(&[0.0, 0.0, 1.0]),
            ..estimator(&mut random)
        };
        let batch = batch(&mut random);
        let (found, groups) = assign(&estimator, &batch).unwrap();
        let expected = Oracle {
            estimator,
            batch: &batch,
        }
        .weighted();
        let close = |found: f32, expected: f64| (f64::from(found) - expected).abs() <= 2e-5 * expected.abs().max(1.0);
        for (g, group) in expected.iter().enumerate() {
            for (t, tree) in group.iter().enumerate() {
                for (n, &[reward, advantage, weighted]) in tree.iter().enumerate() {
                    let credit = found[g][t][n];
                    assert!(
                        close(credit.reward, reward)
                            && close(credit.advantage, advantage)
                            && close(credit.weighted, weighted),
                        "seed {seed}, group {g}, tree {t}, node {n}: {credit:?}, not {reward} {advantage} {weighted}\n\
                         {estimator:?}\n{:?}",
                        batch[g][t]
                    );
                    nodes += 1;
                }
            }
        }
        let teaches = |group: &&Vec<Vec<[f64; 3]>>| group.iter().flatten().any(|[_, advantage, _]| *advantage != 0.0);
        assert_eq!(groups, expected.iter().filter(teaches).count(), "seed {seed}");
        teaching += groups;
    }
    // The forests are no empty ones: what was compared is worth comparing.
    assert!(
        nodes > 500_000 && teaching > 10_000,
        "{nodes} nodes, {teaching} groups that teach"
    );
}

fn estimator(random: &mut Random) -> Estimator {
    use Rule::{Pooled, Rao, RootBroadcast, Sparse, TreeGrpo, TreeRl};
    Estimator {
        rule: random.one_of(&[Rao, Rao, Sparse, RootBroadcast, Pooled, TreeRl, TreeGrpo]),
        lambda: random.one_of(&[0.0, 0.4, 1.0]),
        router_penalty: random.one_of(&[0.0, 0.0, 0.25]),
        path_cost: 0.0,
        work_cost: 0.0,
        baseline: random.one_of(&[Baseline::LeaveOneOut, Baseline::Mean, Baseline::None]),
        lone_root: random.one_of(&[LoneRoot::Centred, LoneRoot::Zero]),
        lost_root: random.one_of(&[LostRoot::TrainRest, LostRoot::DropTree]),
        running: Running::Untrained,
        depth_weights: random.one_of(&[DepthWeights::Inverse, DepthWeights::Discount, DepthWeights::Off]),
        depth_scope: random.one_of(&[DepthScope::Batch, DepthScope::Group]),
        depth_mass: random.one_of(&[DepthMass::Nodes, DepthMass::Datums, DepthMass::ActionTokens]),
        depth_gamma: random.one_of(&[0.5, 0.9, 1.0, 1.25]),
        turn_gamma: 1.0,
    }
}

fn batch(random: &mut Random) -> Vec<Vec<Tree>> {
    let groups = 1 + random.below(3);
    let group = |random: &mut Random| {
        let trees = 2 + random.below(4);
        // Some groups in which everything is alike.
        let uniform = random.below(6) == 0;
        (0..trees).map(|_| tree(random, uniform)).collect()
    };
    (0..groups).map(|_| group(random)).collect()
}

fn tree(random: &mut Random, uniform: bool) -> Tree {
    let nodes = if uniform { 1 } else { 1 + random.below(16) };
    let mut tree: Tree = Vec::new();
    for index in 0..nodes {
        let parent = (index > 0).then(|| random.below(index) as usize);
        let status = match random.below(12) {
            _ if uniform => Some(NodeStatus::Finished),
            0 => Some(NodeStatus::Failed),
            1 => Some(NodeStatus::Truncated(random.one_of(&Limit::ALL))),
            2 => Some(NodeStatus::TimedOut),
            3 => Some(NodeStatus::Invalid),
            4 => random.one_of(&[None, Some(NodeStatus::Cancelled)]),
            _ => Some(NodeStatus::Finished),
        };
        let success = if uniform { 0.5 } else { random.below(65) as f32 / 64.0 };
        let tokens = random.below(50) as u32;
        tree.push(Member {
            success: Success::new(success).unwrap(),
            tokens,
            path: 3 * tokens + index as u32,
            datums: 1 + random.below(3) as u16,
            ..Member::new(
                parent.map(|parent| NodeId(parent as u32)),
                Depth(parent.map_or(0, |parent| tree[parent].depth.0 + 1)),
                status,
            )
        });
    }
    tree
}

/// Reward, advantage and weighted advantage of one node.
type Row = [f64; 3];

struct Oracle<'a> {
    estimator: Estimator,
    batch: &'a [Vec<Tree>],
}

fn counts(member: &Member) -> bool {
    use NodeStatus::{Failed, Finished, Truncated};
    matches!(member.status, Some(Finished | Failed | Truncated(_)))
}

fn success(member: &Member) -> f64 {
    match member.status {
        Some(NodeStatus::Finished) => member.success.value().into(),
        _ => 0.0,
    }
}

fn children(tree: &Tree, node: usize) -> impl Iterator<Item = usize> + '_ {
    (0..tree.len()).filter(move |&child| tree[child].parent == Some(NodeId(node as u32)))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn standard(value: f64, values: &[f64]) -> f64 {
    if values.is_empty() || values.iter().all(|other| *other == values[0]) && value == values[0] {
        return 0.0;
    }
    let centre = mean(values);
    let squares: Vec<f64> = values.iter().map(|value| (value - centre).powi(2)).collect();
    (value - centre) / (mean(&squares).sqrt() + 1e-6)
}

/// Successes of the leaves at or below a node: those that count and have nobody below them that does.
fn leaves(tree: &Tree, node: usize) -> Vec<f64> {
    let below: Vec<f64> = children(tree, node).flat_map(|child| leaves(tree, child)).collect();
    if below.is_empty() && counts(&tree[node]) {
        vec![success(&tree[node])]
    } else {
        below
    }
}

/// Tokens of a node and of all below it.
fn work(tree: &Tree, node: usize) -> f64 {
    let below: f64 = children(tree, node).map(|child| work(tree, child)).sum();
    f64::from(tree[node].tokens) + below
}

fn value(tree: &Tree, node: usize) -> f64 {
    let leaves = leaves(tree, node);
    if leaves.is_empty() { 0.0 } else { mean(&leaves) }
}

impl Oracle<'_> {
    fn weighted(&self) -> Vec<Vec<Vec<Row>>> {
        let advantages: Vec<Vec<Vec<f64>>> = self.batch.iter().map(|group| self.advantages(group)).collect();
        let teaches: Vec<bool> = advantages
            .iter()
            .map(|group| group.iter().flatten().any(|a| *a != 0.0))
            .collect();
        let row = |g: usize, t: usize, n: usize| {
            let tree = &self.batch[g][t];
            let advantage = advantages[g][t][n];
            let weighted = advantage * self.weight(g, tree[n].depth, &teaches);
            [self.reward(tree, n), advantage, weighted]
        };
        let groups = self.batch.iter().enumerate().map(|(g, group)| {
            let trees = group.iter().enumerate();
            trees
                .map(|(t, tree)| (0..tree.len()).map(|n| row(g, t, n)).collect())
                .collect()
        });
        groups.collect()
    }

    fn reward(&self, tree: &Tree, node: usize) -> f64 {
        let Estimator {
            rule,
            lambda,
            router_penalty,
            path_cost,
            work_cost,
            ..
        } = self.estimator;
        if rule == Rule::TreeRl {
            return value(tree, node);
        }
        let s = |node: usize| success(&tree[if rule == Rule::Sparse { 0 } else { node }]);
        let counting: Vec<f64> = children(tree, node)
            .filter(|&child| counts(&tree[child]))
            .map(s)
            .collect();
        let bonus = if counting.is_empty() {
            0.0
        } else {
            f64::from(lambda) * mean(&counting)
        };
        let router = children(tree, node).count() == 1;
        let cost = f64::from(path_cost) * f64::from(tree[node].path) + f64::from(work_cost) * work(tree, node);
        let kept = 1.0 - (cost / 1000.0).min(0.5);
        s(node) * kept + bonus - if router { f64::from(router_penalty) } else { 0.0 }
    }

    fn trains(&self, tree: &Tree) -> bool {
        let needs_root = matches!(self.estimator.rule, Rule::Sparse | Rule::RootBroadcast);
        counts(&tree[0]) || !(needs_root || self.estimator.lost_root == LostRoot::DropTree)
    }

    fn advantages(&self, group: &[Tree]) -> Vec<Vec<f64>> {
        let valid = group.iter().filter(|tree| counts(&tree[0])).count();
        let judged = match self.estimator.rule {
            Rule::Rao | Rule::Sparse | Rule::RootBroadcast => {
                let lone = self.estimator.lone_root == LoneRoot::Zero && self.estimator.baseline != Baseline::None;
                valid > 1 || valid == 1 && !lone
            }
            Rule::Pooled | Rule::TreeGrpo | Rule::TreeRl => true,
        };
        let of = |t: usize, node: usize| {
            let trains = judged && self.trains(&group[t]) && counts(&group[t][node]);
            let advantage = if trains { self.advantage(group, t, node) } else { 0.0 };
            // Equal rewards have a mean that rounding may put beside them; the least that is meant is far above.
            if advantage.abs() < 1e-7 { 0.0 } else { advantage }
        };
        (0..group.len())
            .map(|t| (0..group[t].len()).map(|node| of(t, node)).collect())
            .collect()
    }

    fn advantage(&self, group: &[Tree], t: usize, node: usize) -> f64 {
        let tree = &group[t];
        let rewards = |tree: &Tree| -> Vec<f64> {
            (0..tree.len())
                .filter(|&n| counts(&tree[n]))
                .map(|n| self.reward(tree, n))
                .collect()
        };
        let pool = || -> Vec<f64> {
            group
                .iter()
                .filter(|tree| self.trains(tree))
                .flat_map(rewards)
                .collect()
        };
        let reward = self.reward(tree, node);
        match self.estimator.rule {
            Rule::Rao | Rule::Sparse => reward - self.baseline(group, t),
            Rule::RootBroadcast => self.reward(tree, 0) - self.baseline(group, t),
            Rule::Pooled => standard(reward, &pool()),
            Rule::TreeGrpo => standard(reward, &pool()) + standard(reward, &rewards(tree)),
            Rule::TreeRl => match tree[node].parent {
                None => 0.0,
                Some(parent) => {
                    let v = value(tree, node);
                    let gains = (v - value(tree, 0)) + (v - value(tree, parent.index()));
                    gains / (leaves(tree, node).len() as f64).sqrt()
                }
            },
        }
    }

    fn baseline(&self, group: &[Tree], t: usize) -> f64 {
        let roots = |keep: &dyn Fn(usize) -> bool| -> Vec<f64> {
            let kept = group
                .iter()
                .enumerate()
                .filter(|(other, tree)| keep(*other) && counts(&tree[0]));
            kept.map(|(_, tree)| self.reward(tree, 0)).collect()
        };
        match self.estimator.baseline {
            Baseline::None => 0.0,
            Baseline::Mean => mean(&roots(&|_| true)),
            Baseline::LeaveOneOut => {
                let others = roots(&|other| other != t);
                if others.is_empty() {
                    mean(&roots(&|_| true))
                } else {
                    mean(&others)
                }
            }
        }
    }

    /// w_d of one group's nodes at one depth.
    fn weight(&self, g: usize, depth: Depth, teaches: &[bool]) -> f64 {
        let estimator = &self.estimator;
        if estimator.depth_weights == DepthWeights::Off {
            return 1.0;
        }
        let batch = estimator.depth_scope == DepthScope::Batch;
        let groups = (0..self.batch.len()).filter(|&other| teaches[other] && (batch || other == g));
        let trees = groups
            .flat_map(|group| &self.batch[group])
            .filter(|tree| self.trains(tree));
        let nodes: Vec<&Member> = trees.flatten().filter(|member| counts(member)).collect();
        let at = |d: u8| nodes.iter().filter(move |member| member.depth.0 == d);
        let mass = |member: &&&Member| match estimator.depth_mass {
            DepthMass::Nodes => 1.0,
            DepthMass::Datums => f64::from(member.datums),
            DepthMass::ActionTokens => f64::from(member.tokens),
        };
        // A weight without scale, by depth; then the scale that preserves the mass.
        let raw = |d: u8| match (at(d).count(), estimator.depth_weights) {
            (0, _) => 0.0,
            (count, DepthWeights::Inverse) => 1.0 / count as f64,
            _ => f64::from(estimator.depth_gamma).powi(d.into()),
        };
        let total: f64 = nodes.iter().map(|member| mass(&member)).sum();
        let unscaled: f64 = (0..64)
            .map(|d| raw(d) * at(d).map(|member| mass(&member)).sum::<f64>())
            .sum();
        if unscaled == 0.0 {
            0.0
        } else {
            raw(depth.0) * total / unscaled
        }
    }
}
