//! Ten thousand nodes that live at once take no more memory than is said of them, counted by the allocator.

#[path = "../../tests/support/counting.rs"]
mod counting;

use rao_backends::scripted::uniform;
use rao_trainer::judge::Grader;
use rao_trainer::rollout::{Job, Progress, Settings, Worker, live_node_bytes};
use rao_tree::{
    Answer, Constraint, Environment, Limits, Mask, Next, Observation, Outcome, Policy, Request, Success, Token,
    WeightsVersion,
};
use std::convert::Infallible;
use std::sync::Arc;

/// Delegates to a hundred; those at the bottom draw until their contexts are full.
struct Crowd {
    above_bottom: u8,
}

const VOCAB: usize = 130;

impl Environment for Crowd {
    type Error = Infallible;

    fn observe(&mut self, out: &mut Observation<'_>) -> Result<(), Infallible> {
        out.push(Token(0));
        Ok(())
    }

    fn constraint(&mut self) -> Option<&mut dyn Constraint> {
        Some(self)
    }

    fn step(&mut self, _: &[Token], _: &mut Observation<'_>) -> Result<Outcome, Infallible> {
        Ok(match self.above_bottom {
            0 => Outcome::Continue,
            _ => Outcome::Delegate { children: 100 },
        })
    }

    fn child(&mut self, _: u8) -> Result<Self, Infallible> {
        Ok(Self {
            above_bottom: self.above_bottom - 1,
        })
    }

    fn resume(&mut self, _: &[Answer<'_>], _: &mut Observation<'_>) -> Result<Outcome, Infallible> {
        Ok(Outcome::Finish(Success::ONE))
    }
}

impl Constraint for Crowd {
    fn next(&mut self, _: &[Token], mask: &mut Mask<'_>) -> Next {
        mask.allow_all();
        Next::Draw
    }
}

/// The most requests of one call, which all draw at once.
struct Counted<P>(P, usize);

impl<P: Policy> Policy for Counted<P> {
    type Error = P::Error;

    fn sample(&mut self, batch: &mut [Request<'_>]) -> Result<usize, P::Error> {
        self.1 = self.1.max(batch.len());
        self.0.sample(batch)
    }

    fn weights(&self) -> WeightsVersion {
        self.0.weights()
    }
}

/// Trees, levels below their roots, and nodes of each that live at once.
fn measure(trees: u64, levels: u8, nodes: u32, keep_transcripts: bool) {
    let limits = Limits {
        depth_max: levels,
        nodes_max: nodes,
        children_max: 100,
        steps_max: 60,
        tokens_max: 1 << 40,
        action_max: 4,
        context_max: 100,
        concurrent_max: nodes,
        deadline_us: None,
    };
    let settings = Settings {
        temperature: 1.0,
        vocab: VOCAB,
        keep_transcripts,
        keep_log: false,
        trees_in_flight: trees as usize,
        grader: Grader::Nobody,
        sink: None,
        cancel_on_stop: true,
        progress: Arc::new(Progress::default()),
    };
    let mut jobs = (0..trees).map(|seed| Job {
        root: Crowd { above_bottom: levels },
        task: String::new(),
        seed,
        limits,
    });
    let mut jobs = std::iter::from_fn(move || jobs.next()).enumerate();
    let mut worker = Worker::new(Counted(uniform(VOCAB), 0));
    let (rollouts, most) = counting::most_taken(|| worker.rollout(|| jobs.next(), &settings).unwrap());
    let most = most as u64;

    let all = trees * u64::from(nodes);
    assert_eq!(
        rollouts
            .iter()
            .map(|rollout| rollout.tree.nodes().len() as u64)
            .sum::<u64>(),
        all
    );
    let parents = trees * if levels == 1 { 1 } else { 101 };
    let drew = worker.policy_mut().1 as u64;
    assert_eq!(drew + parents, all, "all live at once: {drew} draw, {parents} wait");
    let node = live_node_bytes::<Crowd>(&limits, VOCAB, keep_transcripts);
    // And the scratch space and the tables of a tree.
    let bound = all * node + trees * (4 * 100 + 4_096);
    println!(
        "{trees} trees of {nodes} nodes take {most} bytes, {} per node; at most {node} are said",
        most / all
    );
    assert!(most <= bound, "{most} bytes of {bound}");
    assert!(3 * most >= bound, "{most} bytes of {bound}: it says nothing");
}

#[test]
fn ten_thousand_nodes_take_no_more_than_is_said() {
    for keep_transcripts in [false, true] {
        measure(1, 2, 10_000, keep_transcripts);
        measure(100, 1, 100, keep_transcripts);
    }
}
