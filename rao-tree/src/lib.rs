//! Execution tree, credit assignment and sans-IO driver for recursive agents.
//!
//! One policy acts at every node of a tree. A node works on one task in a context of its own and may launch children on tasks that it words
//! itself, one after the other or several at once; a parent sees only what its children return. This crate decides who may exist and whose
//! turn it is, keeps the tree, and says afterwards what every node's actions earned.
//!
//! | part | what it gives you |
//! |---|---|
//! | [`tree`] | the [`Tree`]: an arena in which parents precede their children, folded from the events of [`rao_proto`] |
//! | [`driver`] | the [`Driver`]: one run as a state machine, with limits on depth, nodes, children, steps, tokens, context, concurrency |
//! | [`policy`] | [`Policy`]: what samples, many requests at once, under a [`Constraint`] |
//! | [`environment`] | [`Environment`]: the world as one node sees it |
//! | [`credit`] | the [`Estimator`](credit::Estimator): rewards, baselines and depth weights of Recursive Agent Optimization |
//!
//! # A run
//!
//! The driver does no work itself: [`Driver::poll`] says what it [`Want`]s, `handle_*` takes the answers. `run` below is a whole runtime for
//! any environment and any policy; this one sums a range by handing each half to a child, down to single numbers.
//!
//! ```
//! use rao_tree::{
//!     Action, Answer, Budget, Completion, Constraint, Driver, Environment, Limits, Node, NodeId, Observation, Outcome, Policy,
//!     PolicyExt, Request, SequenceId, Stop, Success, Token, Tree, Want, WeightsVersion,
//! };
//! use std::{convert::Infallible, error::Error};
//!
//! const SPLIT: Token = Token(u32::MAX);
//!
//! struct Sum {
//!     low: u32,
//!     high: u32,
//!     answer: [u8; 4],
//! }
//!
//! impl Environment for Sum {
//!     type Error = Infallible;
//!     fn observe(&mut self, out: &mut Observation<'_>) -> Result<(), Infallible> {
//!         out.push(Token(self.low));
//!         out.push(Token(self.high));
//!         Ok(())
//!     }
//!     fn constraint(&mut self) -> Option<&mut dyn Constraint> {
//!         None
//!     }
//!     fn step(&mut self, action: &[Token], _: &mut Observation<'_>) -> Result<Outcome, Infallible> {
//!         Ok(match *action {
//!             [Token(sum)] if action != [SPLIT] => {
//!                 self.answer = sum.to_le_bytes();
//!                 let right = sum == (self.low..self.high).sum::<u32>();
//!                 Outcome::Finish(if right { Success::ONE } else { Success::ZERO })
//!             }
//!             _ => Outcome::Delegate { children: 2 },
//!         })
//!     }
//!     fn child(&mut self, index: u8) -> Result<Self, Infallible> {
//!         let middle = (self.low + self.high) / 2;
//!         let (low, high) = [(self.low, middle), (middle, self.high)][usize::from(index)];
//!         Ok(Sum { low, high, answer: [0; 4] })
//!     }
//!     fn resume(&mut self, answers: &[Answer<'_>], out: &mut Observation<'_>) -> Result<Outcome, Infallible> {
//!         for answer in answers {
//!             if let Answer::Ended { value, .. } = answer {
//!                 out.push(Token(u32::from_le_bytes((*value).try_into().unwrap())));
//!             }
//!         }
//!         Ok(Outcome::Continue)
//!     }
//!     fn answer(&self) -> &[u8] {
//!         &self.answer
//!     }
//! }
//!
//! struct Script;
//!
//! impl Policy for Script {
//!     type Error = Infallible;
//!     fn sample(&mut self, batch: &mut [Request<'_>]) -> Result<usize, Infallible> {
//!         for request in batch.iter_mut() {
//!             let action = match request.prompt {
//!                 [low, high] if high.0 - low.0 == 1 => *low,
//!                 [_, _] => SPLIT,
//!                 [.., left, right] => Token(left.0 + right.0),
//!                 _ => Token(0),
//!             };
//!             request.completion.push(action, 0.0, None);
//!             request.stop = Some(Stop::Complete);
//!         }
//!         Ok(batch.len())
//!     }
//!     fn weights(&self) -> WeightsVersion {
//!         WeightsVersion(0)
//!     }
//! }
//!
//! type Nodes = heapless::Vec<Node, 64>;
//!
//! fn run<E: Environment, P: Policy>(root: E, policy: &mut P, limits: Limits) -> Result<Tree<Nodes>, Box<dyn Error>>
//! where
//!     E::Error: 'static,
//!     P::Error: 'static,
//! {
//!     // `()` drops the events; encode them with `rao_proto` to have a trace. The clock stands still.
//!     let mut driver = Driver::open(Nodes::new(), limits, "sum 0..8", 1, policy.weights(), &mut ());
//!     let mut root = Some(root);
//!     let mut worlds: Vec<(E, Vec<Token>)> = Vec::new();
//!     let mut room = [Token(0); 16];
//!     while let Some(want) = driver.poll(0, &mut ())? {
//!         let mut seen = Observation::new(&mut room);
//!         match want {
//!             Want::Open { parent, index } => {
//!                 let mut world = match parent {
//!                     Some(parent) => worlds[parent.index()].0.child(index)?,
//!                     None => root.take().ok_or("one root")?,
//!                 };
//!                 let wish = parent.map_or(Budget::UNLIMITED, |parent| worlds[parent.index()].0.budget(index));
//!                 let node = driver.handle_spawn(parent, "", wish, 0, &mut ())?;
//!                 world.observe(&mut seen)?;
//!                 worlds.push((world, seen.tokens().to_vec()));
//!                 driver.handle_prompt(node, &seen, 0, &mut ())?;
//!             }
//!             Want::Sample { node, room } => {
//!                 let (world, context) = &mut worlds[node.index()];
//!                 let (mut tokens, mut logprobs) = (vec![Token(0); room as usize], vec![0.0; room as usize]);
//!                 let mut batch = [Request {
//!                     sequence: SequenceId(u64::from(node.0)),
//!                     prompt: context,
//!                     seed: 1,
//!                     temperature: 1.0,
//!                     constraint: world.constraint(),
//!                     completion: Completion::new(&mut tokens, &mut logprobs, &mut [], 0)?,
//!                     stop: None,
//!                 }];
//!                 policy.sample_all(&mut batch)?;
//!                 let [Request { completion, stop, .. }] = batch;
//!                 let (tokens, logprobs) = (completion.tokens().to_vec(), completion.logprobs());
//!                 let action = Action {
//!                     tokens: &tokens,
//!                     logprobs,
//!                     weights: policy.weights(),
//!                     stop: stop.unwrap_or(Stop::Length),
//!                 };
//!                 if driver.handle_action(node, action, 0, &mut ())? {
//!                     let outcome = world.step(&tokens, &mut seen)?;
//!                     context.extend_from_slice(&tokens);
//!                     context.extend_from_slice(seen.tokens());
//!                     driver.handle_outcome(node, outcome, &seen, world.answer(), 0, &mut ())?;
//!                 }
//!             }
//!             Want::Resume { node, launches } => {
//!                 let (below, rest) = worlds.split_at_mut(node.index() + 1);
//!                 let (world, context) = &mut below[node.index()];
//!                 // Children come after their parents.
//!                 let said = |child: NodeId| rest[child.index() - node.index() - 1].0.answer();
//!                 let answers = (0..launches).filter_map(|index| {
//!                     let launch = driver.launch(node, index)?;
//!                     Some(launch.answer(launch.node().map_or(&[], said)))
//!                 });
//!                 let outcome = world.resume(&answers.collect::<Vec<_>>(), &mut seen)?;
//!                 context.extend_from_slice(seen.tokens());
//!                 driver.handle_outcome(node, outcome, &seen, world.answer(), 0, &mut ())?;
//!             }
//!             Want::Retire { .. } => {}
//!         }
//!     }
//!     Ok(driver.into_tree())
//! }
//!
//! let limits = Limits {
//!     depth_max: 3,
//!     nodes_max: 64,
//!     children_max: 2,
//!     steps_max: 4,
//!     tokens_max: 1_000,
//!     action_max: 1,
//!     context_max: 16,
//!     concurrent_max: 4,
//!     deadline_us: None,
//! };
//! let tree = run(Sum { low: 0, high: 8, answer: [0; 4] }, &mut Script, limits)?;
//! assert_eq!(tree.nodes().len(), 15);
//! assert!(tree.nodes().iter().all(|node| node.success == Success::ONE));
//! // Two actions on each of three levels and one at the leaves, however many nodes act side by side.
//! assert_eq!(tree.node(NodeId::ROOT).map(Node::critical_path), Some(7));
//! # Ok::<(), Box<dyn Error>>(())
//! ```
//!
//! # What it promises
//!
//! - Every node that was spawned has exactly one terminal event, whatever its caller, its environment or a clock does to it.
//! - Limits are inclusive and never passed: not the number of nodes at work at once, nor the tokens of the whole tree. What a delegation
//!   asks for beyond them is refused, and the node that asked is told by which limit.
//! - A waiting parent holds no slot, and the deepest launches are opened first: a tree of any width is walked in the memory of a path, and no
//!   cap on concurrency can lock it up.
//! - The tree is a fold over the events: who reads the log has the driver's tree, and credit computed again from it has the same bits.
//! - No input makes it panic. There is no `unsafe` in it, and no recursion on the call stack.
//!
//! # What it deliberately is not
//!
//! - A runtime: it has no threads, no `async`, no clock and no randomness. The caller brings time, seeds and a loop, such as the one above
//!   for a device, or one that gathers the requests of hundreds of trees into one batch.
//! - An owner: environments, contexts and buffers are the caller's. `no_std`, and no allocator either; trees live in any [`Arena`].
//! - A trainer: credit ends with a number per node. What is done with it, and when, is up to who computes gradients.
//!
//! The crate has no features.
#![no_std]
#![forbid(unsafe_code)]

pub mod credit;
pub mod driver;
pub mod environment;
pub mod policy;
pub mod tree;

pub use driver::{Action, Driver, DriverError, Launch, Want};
pub use environment::{Answer, Environment, Observation, Outcome};
pub use policy::{Completion, CompletionError, Constraint, Mask, Next, Policy, PolicyExt, Request, SequenceId, Stop};
pub use rao_proto::{
    Budget, CancelReason, Depth, EventSink, Limit, Limits, NodeId, NodeStatus, Success, SuccessError, Token,
    WeightsVersion,
};
pub use tree::{Arena, ArenaFull, Node, Refusals, Tree, TreeError};
