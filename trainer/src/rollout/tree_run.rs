//! One tree under way: the driver, the environments of its live nodes, and the buffers that their actions grow in.

use super::log::Log;
use super::transcript::{Span, Transcript};
use super::words::Words;
use super::{ANSWER_MAX, InFlight, Progress, Rollout, RolloutError, Settings};
use crate::judge::{Case, Grader, JudgeError, Ruling};
use rao_tree::credit::Member;
use rao_tree::{
    Action, Answer, Arena, ArenaFull, Budget, Completion, Depth, Driver, DriverError, Environment, Mask, Node, NodeId,
    NodeStatus, Observation, Outcome, Request, SequenceId, Stop, Success, Token, Tree, Want, WeightsVersion,
};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Instant;

/// An arena that grows on the heap, up to the tree's own cap of nodes.
#[derive(Clone, Debug, Default)]
pub struct VecArena(Vec<Node>);

impl AsRef<[Node]> for VecArena {
    fn as_ref(&self) -> &[Node] {
        &self.0
    }
}

impl AsMut<[Node]> for VecArena {
    fn as_mut(&mut self) -> &mut [Node] {
        &mut self.0
    }
}

impl Arena for VecArena {
    fn push(&mut self, node: Node) -> Result<(), ArenaFull> {
        self.0.push(node);
        Ok(())
    }
}

/// A live node: its environment, its context, and the action it is drawing.
pub(super) struct Seat<E> {
    environment: E,
    transcript: Transcript,
    /// Buffers of the action under way; the first `drawn` tokens are drawn.
    tokens: Vec<Token>,
    logprobs: Vec<f32>,
    masks: Vec<u64>,
    /// Words of a token's mask; 0 where the environment says nothing of what may be said, and no mask is kept.
    words: usize,
    room: usize,
    drawn: usize,
    stop: Option<Stop>,
    seed: u64,
}

pub(super) struct TreeRun<E> {
    job: usize,
    in_flight: InFlight,
    seed: u64,
    /// Distinguishes the contexts of this tree from those of every other tree that the worker's policy has seen.
    tag: u64,
    root: Option<E>,
    weights: WeightsVersion,
    driver: Driver<VecArena>,
    log: Log,
    /// By node: those that are with the driver or wait; `None` where the node is drawing or has ended.
    seats: Vec<Option<Box<Seat<E>>>>,
    /// Those that are drawing an action, in the order in which they began.
    drawing: Vec<(NodeId, Box<Seat<E>>)>,
    /// What ended children hand over, until their parent has read it.
    values: BTreeMap<NodeId, Vec<u8>>,
    transcripts: Vec<Transcript>,
    faults: Vec<String>,
    started: Instant,
    /// Answers that nobody has been asked about yet.
    submitted: Vec<Case>,
    /// Nodes whose worth is that of the root, once it has ended.
    proxied: Vec<NodeId>,
    /// Contexts that the policy may drop.
    forgotten: Vec<SequenceId>,
    scratch: Vec<Token>,
}

impl<E: Environment> TreeRun<E> {
    pub(super) fn open(
        job: usize,
        spec: super::Job<E>,
        tag: u64,
        weights: WeightsVersion,
        settings: &Settings,
    ) -> Self {
        let mut log = Log {
            sink: settings.sink.clone(),
            bytes: settings.keep_log.then(Vec::new),
            error: None,
        };
        let driver = Driver::open(
            VecArena::default(),
            spec.limits,
            &spec.task,
            spec.seed,
            weights,
            &mut log,
        );
        Self {
            job,
            in_flight: InFlight::begin(&settings.progress),
            seed: spec.seed,
            tag,
            root: Some(spec.root),
            weights,
            driver,
            log,
            seats: Vec::new(),
            drawing: Vec::new(),
            values: BTreeMap::new(),
            transcripts: Vec::new(),
            faults: Vec::new(),
            started: Instant::now(),
            submitted: Vec::new(),
            proxied: Vec::new(),
            forgotten: Vec::new(),
            scratch: vec![Token(0); spec.limits.context_max as usize],
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.driver.is_closed()
    }

    pub(super) fn drain_forgotten(&mut self) -> impl Iterator<Item = SequenceId> + '_ {
        self.forgotten.drain(..)
    }

    /// Does everything that needs no policy: opens nodes, resumes parents, lines up requests.
    pub(super) fn advance(&mut self, settings: &Settings) -> Result<(), RolloutError> {
        // A tree that has not begun has nothing to end: its root opens first.
        let begun = !self.driver.tree().nodes().is_empty();
        if begun && settings.is_cancelled() {
            let at_us = self.at_us();
            self.driver.handle_cancel(at_us, &mut self.log)?;
        }
        self.grade_by_root()?;
        let words = Mask::words(settings.vocab);
        loop {
            let at_us = self.at_us();
            match self.driver.poll(at_us, &mut self.log)? {
                None => break,
                Some(Want::Open { parent, index }) => self.open_node(parent, index, settings)?,
                Some(Want::Resume { node, launches }) => self.resume(node, launches, settings)?,
                Some(Want::Sample { node, room }) => self.line_up(node, room as usize, words),
                Some(Want::Retire { node }) => {
                    if let Some(seat) = self.seats.get_mut(node.index()).and_then(Option::take) {
                        self.put_back(node, seat, settings);
                    }
                }
            }
        }
        if self.driver.is_closed() {
            self.retire_all(settings);
        }
        Ok(())
    }

    /// Ends the tree for a reason that is not its own.
    pub(super) fn cancel(&mut self, fault: String, settings: &Settings) -> Result<(), RolloutError> {
        self.faults.push(fault);
        let at_us = self.at_us();
        self.driver.handle_cancel(at_us, &mut self.log)?;
        self.retire_all(settings);
        Ok(())
    }

    /// Has submitted answers judged; rulings arrive at `rulings`, or are given at once.
    pub(super) fn submit(&mut self, grader: &Grader, rulings: &mpsc::Sender<Ruling>) -> Result<(), RolloutError> {
        for case in std::mem::take(&mut self.submitted) {
            match grader {
                Grader::Judge(bench) => bench.submit(self.tag, case, rulings.clone()),
                Grader::Root if case.node != NodeId::ROOT => self.proxied.push(case.node),
                Grader::Root | Grader::Nobody => self.rule(case.node, Err(JudgeError::Nobody))?,
            }
        }
        Ok(())
    }

    /// Takes a ruling. One that comes when the run is closed is too late.
    pub(super) fn rule(&mut self, node: NodeId, verdict: Result<Success, JudgeError>) -> Result<(), RolloutError> {
        if self.driver.is_closed() {
            return Ok(());
        }
        let at_us = self.at_us();
        let verdict = verdict.map_err(|error| self.faults.push(error.to_string())).ok();
        self.driver.handle_verdict(node, verdict, at_us, &mut self.log)?;
        Ok(())
    }

    /// Names this tree in rulings.
    pub(super) fn tag(&self) -> u64 {
        self.tag
    }

    /// What the root is worth, for those that it stands for, once it has ended.
    fn grade_by_root(&mut self) -> Result<(), RolloutError> {
        let Some(root) = self.driver.tree().node(NodeId::ROOT) else {
            return Ok(());
        };
        if root.status.is_none() || self.proxied.is_empty() {
            return Ok(());
        }
        let member = Member::from(root);
        let verdict = member.counts().then_some(root.success);
        for node in std::mem::take(&mut self.proxied) {
            self.rule(node, verdict.ok_or(JudgeError::Nobody))?;
        }
        Ok(())
    }

    /// One request for every node that is drawing.
    pub(super) fn requests<'s>(&'s mut self, temperature: f32, out: &mut Vec<Request<'s>>) -> Result<(), RolloutError> {
        let tag = self.tag;
        for (node, seat) in &mut self.drawing {
            let seat = seat.as_mut();
            let completion = Completion::new(
                &mut seat.tokens[..seat.room],
                &mut seat.logprobs[..seat.room],
                &mut seat.masks[..seat.room * seat.words],
                seat.words,
            );
            let completion = completion?;
            out.push(Request {
                sequence: sequence(tag, *node),
                prompt: seat.transcript.context(),
                seed: seat.seed,
                temperature,
                constraint: seat.environment.constraint(),
                completion: completion.resumed(seat.drawn),
                stop: None,
            });
        }
        Ok(())
    }

    /// How many requests [`requests`](Self::requests) makes.
    pub(super) fn drawing(&self) -> usize {
        self.drawing.len()
    }

    /// Takes back what became of the requests, in the order in which they were made, and steps the environments of those that finished.
    pub(super) fn collect(
        &mut self,
        results: impl Iterator<Item = (usize, Option<Stop>)>,
        weights: WeightsVersion,
        settings: &Settings,
    ) -> Result<(), RolloutError> {
        for ((_, seat), (drawn, stop)) in self.drawing.iter_mut().zip(results) {
            seat.drawn = drawn;
            seat.stop = stop;
        }
        let finished: Vec<_> = self.drawing.extract_if(.., |(_, seat)| seat.stop.is_some()).collect();
        for (node, seat) in finished {
            self.act(node, seat, weights, settings)?;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Rollout, RolloutError> {
        if let Some(error) = self.log.error.take() {
            return Err(error.into());
        }
        let tree: Tree<VecArena> = self.driver.into_tree();
        self.in_flight.end();
        Ok(Rollout {
            job: self.job,
            tree,
            transcripts: self.transcripts,
            log: self.log.bytes.unwrap_or_default(),
            faults: self.faults,
            weights: self.weights,
            seconds: self.started.elapsed().as_secs_f64(),
        })
    }

    fn open_node(&mut self, parent: Option<NodeId>, index: u8, settings: &Settings) -> Result<(), RolloutError> {
        let made = match parent {
            None => Ok(self.root.take()),
            Some(id) => match self.seats.get_mut(id.index()).and_then(Option::as_mut) {
                Some(seat) => seat
                    .environment
                    .child(index)
                    .map(Some)
                    .map_err(|error| error.to_string()),
                None => Ok(None),
            },
        };
        let task = made
            .as_ref()
            .ok()
            .and_then(Option::as_ref)
            .map_or_else(String::new, Words::of);
        let seat = parent.and_then(|id| self.seats.get(id.index())?.as_ref());
        let wish = seat.map_or(Budget::UNLIMITED, |seat| seat.environment.budget(index));
        let at_us = self.at_us();
        let node = self.driver.handle_spawn(parent, &task, wish, at_us, &mut self.log)?;
        self.seats.resize_with(node.index() + 1, || None);
        let mut environment = match made {
            Ok(Some(environment)) => environment,
            Ok(None) => return self.broke(node, "its parent has no environment".into()),
            Err(error) => return self.broke(node, error),
        };
        let mut seen = Observation::new(&mut self.scratch);
        let observed = environment.observe(&mut seen);
        if let Err(error) = observed {
            let error = error.to_string();
            return self.broke(node, error);
        }
        let mut transcript = Transcript::default();
        observe(&mut transcript, &seen, &settings.progress);
        self.driver.handle_prompt(node, &seen, at_us, &mut self.log)?;
        let seat = Seat {
            environment,
            transcript,
            tokens: Vec::new(),
            logprobs: Vec::new(),
            masks: Vec::new(),
            words: 0,
            room: 0,
            drawn: 0,
            stop: None,
            seed: 0,
        };
        self.put_back(node, Box::new(seat), settings);
        Ok(())
    }

    fn line_up(&mut self, node: NodeId, room: usize, words: usize) {
        let steps = self.driver.tree().node(node).map_or(0, |entry| entry.steps);
        let Some(mut seat) = self.seats.get_mut(node.index()).and_then(Option::take) else {
            return;
        };
        if seat.tokens.len() < room {
            seat.tokens.resize(room, Token(0));
            seat.logprobs.resize(room, 0.0);
        }
        seat.words = if seat.environment.constraint().is_some() {
            words
        } else {
            0
        };
        if seat.masks.len() < room * seat.words {
            seat.masks.resize(room * seat.words, 0);
        }
        seat.room = room;
        seat.drawn = 0;
        seat.stop = None;
        seat.seed = crate::seed::derive(self.seed, &[u64::from(node.0), u64::from(steps)]);
        self.drawing.push((node, seat));
    }

    fn act(
        &mut self,
        node: NodeId,
        mut seat: Box<Seat<E>>,
        weights: WeightsVersion,
        settings: &Settings,
    ) -> Result<(), RolloutError> {
        let at_us = self.at_us();
        let (drawn, room) = (seat.drawn, seat.room);
        if drawn > room {
            // It is not in these buffers.
            let (tokens, room) = (drawn as u32, room as u32);
            self.broke(node, DriverError::OverRoom { node, tokens, room }.to_string())?;
            self.put_back(node, seat, settings);
            return Ok(());
        }
        let action = Action {
            tokens: &seat.tokens[..drawn],
            logprobs: &seat.logprobs[..drawn],
            weights,
            stop: seat.stop.unwrap_or(Stop::Length),
        };
        if settings.keep_transcripts && self.log.is_kept() {
            self.log.allow(node, &seat.masks[..drawn * seat.words], at_us);
        }
        let acted = self.driver.handle_action(node, action, at_us, &mut self.log);
        let Some(goes_on) = self.settle(node, acted)? else {
            self.put_back(node, seat, settings);
            return Ok(());
        };
        let start = seat.transcript.tokens.len() as u32;
        let Seat {
            transcript,
            tokens,
            logprobs,
            masks,
            words,
            ..
        } = seat.as_mut();
        transcript.tokens.extend_from_slice(&tokens[..drawn]);
        if settings.keep_transcripts && drawn > 0 {
            transcript.actions.push(Span {
                start,
                len: drawn as u32,
                masked: *words > 0,
            });
            transcript.logprobs.extend_from_slice(&logprobs[..drawn]);
            transcript.masks.extend_from_slice(&masks[..drawn * *words]);
        }
        if !goes_on {
            self.put_back(node, seat, settings);
            return Ok(());
        }
        let mut seen = Observation::after(&mut self.scratch, seat.transcript.context().len());
        let stepped = seat
            .environment
            .step(&seat.tokens[..drawn], &mut seen)
            .map_err(|error| error.to_string());
        match stepped.and_then(|outcome| Ok((outcome, handed_over(&seat.environment)?))) {
            Ok((outcome, value)) => {
                let taken = self
                    .driver
                    .handle_outcome(node, outcome, &seen, value, at_us, &mut self.log);
                // As in the log: it saw nothing where the outcome was refused.
                if taken.is_ok() {
                    observe(&mut seat.transcript, &seen, &settings.progress);
                }
                if self.settle(node, taken)?.is_some() && outcome == Outcome::Submit {
                    self.submitted.push(self.case(node, &seat.environment));
                }
            }
            Err(error) => self.broke(node, error)?,
        }
        self.put_back(node, seat, settings);
        Ok(())
    }

    fn resume(&mut self, node: NodeId, launches: u8, settings: &Settings) -> Result<(), RolloutError> {
        let Some(mut seat) = self.seats.get_mut(node.index()).and_then(Option::take) else {
            return self.broke(node, "it has no environment to resume".into());
        };
        let mut answers = Vec::with_capacity(usize::from(launches));
        for index in 0..launches {
            answers.push(match self.driver.launch(node, index) {
                Some(launch) => {
                    let said = launch.node().and_then(|child| self.values.get(&child));
                    launch.answer(said.map_or(&[], Vec::as_slice))
                }
                None => Answer::Ended {
                    status: NodeStatus::Invalid,
                    success: Success::ZERO,
                    value: &[],
                },
            });
        }
        let at_us = self.started.elapsed().as_micros() as u64;
        let mut seen = Observation::after(&mut self.scratch, seat.transcript.context().len());
        let resumed = seat
            .environment
            .resume(&answers, &mut seen)
            .map_err(|error| error.to_string());
        drop(answers);
        for index in 0..launches {
            if let Some(child) = self.driver.launch(node, index).and_then(|launch| launch.node()) {
                self.values.remove(&child);
            }
        }
        match resumed.and_then(|outcome| Ok((outcome, handed_over(&seat.environment)?))) {
            Ok((outcome, value)) => {
                let taken = self
                    .driver
                    .handle_outcome(node, outcome, &seen, value, at_us, &mut self.log);
                // As in the log: it saw nothing where the outcome was refused.
                if taken.is_ok() {
                    observe(&mut seat.transcript, &seen, &settings.progress);
                }
                if self.settle(node, taken)?.is_some() && outcome == Outcome::Submit {
                    self.submitted.push(self.case(node, &seat.environment));
                }
            }
            Err(error) => self.broke(node, error)?,
        }
        self.put_back(node, seat, settings);
        Ok(())
    }

    /// What there is to judge of a node.
    fn case(&self, node: NodeId, environment: &E) -> Case {
        Case {
            node,
            depth: self.driver.tree().node(node).map_or(Depth(0), |entry| entry.depth),
            task: Words::of(environment),
            answer: environment.answer().to_vec(),
        }
    }

    /// What a node's own policy or environment did wrong costs that node; anything else is a defect here and ends the rollout.
    fn settle<T>(&mut self, node: NodeId, result: Result<T, DriverError>) -> Result<Option<T>, RolloutError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(
                error @ (DriverError::EmptyDelegation(_)
                | DriverError::OverRoom { .. }
                | DriverError::Unpaired { .. }
                | DriverError::Logprob(_)),
            ) => self.broke(node, error.to_string()).map(|()| None),
            Err(error) => Err(error.into()),
        }
    }

    fn broke(&mut self, node: NodeId, error: String) -> Result<(), RolloutError> {
        self.faults.push(error);
        let at_us = self.at_us();
        self.driver.handle_broken(node, at_us, &mut self.log)?;
        Ok(())
    }

    /// Keeps the seat of a node that goes on; of one that has ended, only what somebody still needs.
    fn put_back(&mut self, node: NodeId, seat: Box<Seat<E>>, settings: &Settings) {
        let ended = self.driver.tree().node(node).is_none_or(|entry| entry.status.is_some());
        if !ended {
            self.seats[node.index()] = Some(seat);
            return;
        }
        let value = handed_over(&seat.environment).unwrap_or_default();
        if !value.is_empty() {
            self.values.insert(node, value.to_vec());
        }
        self.forgotten.push(sequence(self.tag, node));
        settings.progress.nodes.fetch_add(1, Ordering::Relaxed);
        if settings.keep_transcripts {
            if self.transcripts.len() <= node.index() {
                self.transcripts.resize_with(node.index() + 1, Transcript::default);
            }
            self.transcripts[node.index()] = seat.transcript;
        }
    }

    /// The run is closed: whatever a deadline or a cancellation left behind is retired too.
    fn retire_all(&mut self, settings: &Settings) {
        for (node, seat) in std::mem::take(&mut self.drawing) {
            self.put_back(node, seat, settings);
        }
        for index in 0..self.seats.len() {
            if let Some(seat) = self.seats[index].take() {
                self.put_back(NodeId(index as u32), seat, settings);
            }
        }
        if settings.keep_transcripts {
            self.transcripts
                .resize_with(self.driver.tree().nodes().len(), Transcript::default);
        }
    }

    fn at_us(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }
}

/// What an environment's node hands over.
fn handed_over<E: Environment>(environment: &E) -> Result<&[u8], String> {
    let value = environment.answer();
    if value.len() > ANSWER_MAX {
        let len = value.len();
        return Err(format!("its answer takes {len} bytes, the limit is {ANSWER_MAX}"));
    }
    Ok(value)
}

/// A node has read something.
fn observe(transcript: &mut Transcript, seen: &Observation<'_>, progress: &Progress) {
    transcript.observe(seen);
    progress.tokens.fetch_add(seen.tokens().len() as u64, Ordering::Relaxed);
}

fn sequence(tag: u64, node: NodeId) -> SequenceId {
    SequenceId(tag << 32 | u64::from(node.0))
}
