//! The whole chain from successes to weighted advantages, with every choice as an option.

use super::depth::Counts;
use super::forest::Group;
use super::moments::Moments;
use super::{
    Baseline, Credit, CreditError, DepthMass, DepthScope, DepthWeights, Forest, Member, baseline, cost, reward, tree_rl,
};
use serde::{Deserialize, Serialize};

/// How a node's advantage comes about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Recursive Agent Optimization: the node's local reward against the other trees' roots. arXiv 2605.06639, equations 1 and 3.
    #[default]
    Rao,
    /// The same with the root's success in the place of every node's: the paper's "sparse" ablation.
    Sparse,
    /// Every node has its root's advantage, as in SkyRL's recursive agents, MATPO and WideSeek.
    RootBroadcast,
    /// Local rewards against mean and standard deviation over all nodes of the group: GRPO as in AstraFlow.
    Pooled,
    /// Leaf-mean values against root and parent: arXiv 2506.11902. Takes no `lambda`, `router_penalty`, costs or `baseline`.
    TreeRl,
    /// Local rewards against mean and standard deviation of the tree, plus the same of the group: "Tree Search for LLM Agent
    /// Reinforcement Learning", arXiv 2509.21240.
    TreeGrpo,
}

/// What becomes of a group in which one root counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoneRoot {
    /// The root is compared with itself, and the nodes below with it.
    #[default]
    Centred,
    /// The group is skipped.
    Zero,
}

/// What becomes of a tree whose root does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LostRoot {
    /// The nodes below it that count are trained all the same.
    #[default]
    TrainRest,
    /// Nothing of it is trained or counted.
    DropTree,
}

/// What becomes of a node that has not ended when credit is computed. The driver of this crate never leaves one: a parent waits for its
/// children. Snapshots of other runtimes may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Running {
    /// It counts nowhere and is not trained.
    #[default]
    Untrained,
    /// The batch is refused: [`CreditError::StillRunning`].
    Refuse,
}

/// How advantages are computed. The default is the paper's, with its TextCraft setting lambda = 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Estimator {
    /// How a node's advantage comes about.
    pub rule: Rule,
    /// Weight of the children's mean success in a node's reward, from 0 to 1000; 0 on TextCraft, 0.4 where the policy does not delegate by
    /// itself.
    pub lambda: f32,
    /// Taken off the reward of a node that launched exactly one child in its life, from 0 to 1000. A node that hands its whole task on is paid
    /// like one that works, and with `lambda` twice; see [`Diagnostics::router_index`](super::Diagnostics::router_index).
    pub router_penalty: f32,
    /// What a success pays for every thousand tokens that had to be drawn one after the other in the node and below it, from 0 to 1000; at most
    /// half of itself. Makes delegation side by side worth learning: around 2 where trees take 50 such tokens. The paper has no cost.
    pub path_cost: f32,
    /// The same for every thousand tokens drawn in the node and below it: makes small trees worth learning.
    pub work_cost: f32,
    /// What the trees of a group are compared with, by the rules `rao`, `sparse` and `root-broadcast`.
    pub baseline: Baseline,
    /// A group in which one root counts, by the same rules.
    pub lone_root: LoneRoot,
    /// A tree whose root does not count.
    pub lost_root: LostRoot,
    /// A node that has not ended.
    pub running: Running,
    /// How the depths are weighed against each other.
    pub depth_weights: DepthWeights,
    /// Over what.
    pub depth_scope: DepthScope,
    /// And what the weights preserve the sum of.
    pub depth_mass: DepthMass,
    /// gamma of [`DepthWeights::Discount`], above 0 and at most 1000.
    pub depth_gamma: f32,
    /// What a turn of a node weighs against the one after it, above 0 and at most 1; 1 weighs them alike. See
    /// [`turn_weight`](Self::turn_weight).
    pub turn_gamma: f32,
}

impl Default for Estimator {
    fn default() -> Self {
        Self {
            rule: Rule::default(),
            lambda: 0.0,
            router_penalty: 0.0,
            path_cost: 0.0,
            work_cost: 0.0,
            baseline: Baseline::default(),
            lone_root: LoneRoot::default(),
            lost_root: LostRoot::default(),
            running: Running::default(),
            depth_weights: DepthWeights::default(),
            depth_scope: DepthScope::default(),
            depth_mass: DepthMass::default(),
            depth_gamma: 1.0,
            turn_gamma: 1.0,
        }
    }
}

impl Estimator {
    /// Checks the options.
    ///
    /// # Errors
    /// [`CreditError::Option`] names the first that is outside its range.
    pub fn validate(&self) -> Result<(), CreditError> {
        let within = |value: f32, cap: f32| (0.0..=cap).contains(&value);
        for (option, value, right, range) in [
            ("lambda", self.lambda, within(self.lambda, REWARD_MAX), FROM_0),
            (
                "router_penalty",
                self.router_penalty,
                within(self.router_penalty, REWARD_MAX),
                FROM_0,
            ),
            ("path_cost", self.path_cost, within(self.path_cost, REWARD_MAX), FROM_0),
            ("work_cost", self.work_cost, within(self.work_cost, REWARD_MAX), FROM_0),
            (
                "depth_gamma",
                self.depth_gamma,
                within(self.depth_gamma, GAMMA_MAX) && self.depth_gamma > 0.0,
                "above 0 and at most 1000",
            ),
            (
                "turn_gamma",
                self.turn_gamma,
                within(self.turn_gamma, 1.0) && self.turn_gamma > 0.0,
                "above 0 and at most 1",
            ),
        ] {
            if !right {
                return Err(CreditError::Option { option, range, value });
            }
        }
        Ok(())
    }

    /// Whether advantages come from comparing a tree with other trees, so that a group of one has none.
    #[must_use]
    pub fn needs_peers(&self) -> bool {
        self.has_baseline() && self.baseline == Baseline::LeaveOneOut
    }

    /// Computes reward, advantage and weighted advantage of every node of the batch into `credits`, one for each of
    /// [`Forest::nodes`]. Returns how many groups teach: some node in them has an advantage. The others are skipped: they weigh
    /// nothing and enter no depth count.
    ///
    /// Linear in the number of nodes.
    ///
    /// # Errors
    /// [`CreditError::Option`], [`CreditError::Length`], [`CreditError::GroupOfOne`], [`CreditError::StillRunning`]. `credits` is
    /// untouched then.
    pub fn assign(&self, forest: &Forest<'_>, credits: &mut [Credit]) -> Result<usize, CreditError> {
        self.validate()?;
        if credits.len() != forest.nodes().len() {
            return Err(CreditError::Length {
                what: "credits",
                found: credits.len(),
                expected: forest.nodes().len(),
            });
        }
        forest.check_running(self.running)?;
        if self.needs_peers()
            && let Some(group) = forest.groups().find(|group| group.len() == 1)
        {
            return Err(CreditError::GroupOfOne { group: group.index });
        }
        let mut teaching = 0;
        let mut batch = Counts::default();
        for group in forest.groups() {
            let credits = &mut credits[group.range()];
            if !self.advantages(&group, credits) {
                for credit in credits {
                    (credit.advantage, credit.weighted) = (0.0, 0.0);
                }
                continue;
            }
            teaching += 1;
            match self.depth_scope {
                DepthScope::Batch => self.count(&group, &mut batch),
                DepthScope::Group => {
                    let mut counts = Counts::default();
                    self.count(&group, &mut counts);
                    self.weigh(group.nodes, &counts, credits);
                }
            }
        }
        if self.depth_scope == DepthScope::Batch {
            self.weigh(forest.nodes(), &batch, credits);
        }
        Ok(teaching)
    }

    /// What action `turn` of `turns` weighs within its node: gamma^(turns after it), by multiplication. The last action weighs 1.
    #[must_use]
    pub fn turn_weight(&self, turn: u32, turns: u32) -> f32 {
        let mut weight = 1.0;
        if self.turn_gamma < 1.0 {
            for _ in turn.saturating_add(1)..turns {
                weight *= self.turn_gamma;
            }
        }
        weight
    }

    /// Writes rewards and advantages of one group; returns whether it teaches.
    fn advantages(&self, group: &Group<'_>, credits: &mut [Credit]) -> bool {
        for range in group.ranges() {
            self.reward(&group.nodes[range.clone()], &mut credits[range]);
        }
        let judged = match self.rule {
            Rule::Rao | Rule::Sparse | Rule::RootBroadcast => self.against_roots(group, credits),
            Rule::Pooled => self.standardised(group, credits, false),
            Rule::TreeGrpo => self.standardised(group, credits, true),
            Rule::TreeRl => true,
        };
        for range in group.ranges() {
            let tree = &group.nodes[range.clone()];
            let trains = self.trains(tree);
            for (member, credit) in tree.iter().zip(&mut credits[range]) {
                // Written either way: a choice that is as good as random should be no branch.
                credit.advantage = if trains & member.counts() {
                    credit.advantage
                } else {
                    0.0
                };
            }
        }
        judged && credits.iter().any(|credit| credit.advantage != 0.0)
    }

    fn reward(&self, tree: &[Member], credits: &mut [Credit]) {
        let root = (self.rule == Rule::Sparse).then(|| tree[0].success());
        match self.rule {
            Rule::TreeRl => tree_rl::assign(tree, credits),
            _ => {
                reward::local(tree, self.lambda, self.router_penalty, root, credits);
                if self.path_cost > 0.0 || self.work_cost > 0.0 {
                    cost::charge(tree, self.path_cost, self.work_cost, root, credits);
                }
            }
        }
    }

    /// Equation 3. Returns whether the group has a baseline.
    fn against_roots(&self, group: &Group<'_>, credits: &mut [Credit]) -> bool {
        let root = |at: usize, credits: &[Credit]| group.nodes[at].counts().then(|| credits[at].reward);
        let rewards = group.ranges().filter_map(|range| root(range.start, credits));
        let roots = baseline::Roots::of(self.baseline, rewards);
        for range in group.ranges() {
            let baseline = roots.baseline(root(range.start, credits));
            let of_root = credits[range.start].reward - baseline;
            for credit in &mut credits[range] {
                credit.advantage = match self.rule {
                    Rule::RootBroadcast => of_root,
                    _ => credit.reward - baseline,
                };
            }
        }
        let skips_lone = self.lone_root == LoneRoot::Zero && self.baseline != Baseline::None;
        roots.counting > 1 || roots.counting == 1 && !skips_lone
    }

    /// Pooled, and Tree-GRPO when `within_tree`. Returns whether there was anything to pool.
    fn standardised(&self, group: &Group<'_>, credits: &mut [Credit], within_tree: bool) -> bool {
        let mut pool = Moments::default();
        let counting = |tree: &[Member], credits: &[Credit], moments: &mut Moments| {
            for (_, credit) in tree.iter().zip(credits).filter(|(member, _)| member.counts()) {
                moments.add(credit.reward);
            }
        };
        for range in group.ranges().filter(|range| self.trains(&group.nodes[range.clone()])) {
            counting(&group.nodes[range.clone()], &credits[range], &mut pool);
        }
        let pool = pool.standard();
        for range in group.ranges() {
            let mut tree = Moments::default();
            if within_tree {
                counting(&group.nodes[range.clone()], &credits[range.clone()], &mut tree);
            }
            let tree = tree.standard();
            for credit in &mut credits[range] {
                credit.advantage = pool.of(credit.reward) + tree.of(credit.reward);
            }
        }
        true
    }

    /// Whether the nodes of a tree that count are trained.
    fn trains(&self, tree: &[Member]) -> bool {
        let needs_root =
            matches!(self.rule, Rule::Sparse | Rule::RootBroadcast) || self.lost_root == LostRoot::DropTree;
        !needs_root || tree[0].counts()
    }

    fn has_baseline(&self) -> bool {
        matches!(self.rule, Rule::Rao | Rule::Sparse | Rule::RootBroadcast)
    }

    fn count(&self, group: &Group<'_>, counts: &mut Counts) {
        for range in group.ranges() {
            let tree = &group.nodes[range];
            if self.trains(tree) {
                for member in tree {
                    counts.add(member, self.depth_mass);
                }
            }
        }
    }

    fn weigh(&self, nodes: &[Member], counts: &Counts, credits: &mut [Credit]) {
        let weights = counts.weights(self.depth_weights, self.depth_gamma);
        for (member, credit) in nodes.iter().zip(credits) {
            credit.weighted = credit.advantage * weights.at(member.depth);
        }
    }
}

/// Far above what any reward is worth, and far below where f32 loses what it is added to altogether.
const REWARD_MAX: f32 = 1e3;

/// Its 63rd power is a number in f64, and so is every weight that is made of it.
const GAMMA_MAX: f32 = 1e3;

const FROM_0: &str = "from 0 to 1000";
