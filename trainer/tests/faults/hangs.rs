//! What never comes back, and what comes back as another: nothing is waited for without end.

use crate::saboteur::VOCAB;
use crate::{eventually, keep_quiet, settings};
use async_trait::async_trait;
use rao_backends::scripted::uniform;
use rao_trainer::judge::{Bench, Case, Grader, Judge, JudgeError};
use rao_trainer::rollout::{Doing, InProcess, Job, Rollout, RolloutEngine, RolloutError};
use rao_tree::{
    Constraint, Environment, Limits, Mask, Next, NodeStatus, Observation, Outcome, Policy, Request, Stop, Success,
    Token, WeightsVersion,
};
use std::convert::Infallible;
use std::future::pending;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

/// Waits for as long as somebody holds the other end.
#[derive(Clone)]
struct Gate(Arc<Mutex<mpsc::Receiver<()>>>);

impl Gate {
    fn closed() -> (mpsc::Sender<()>, Self) {
        let (opens, gate) = mpsc::channel();
        (opens, Self(Arc::new(Mutex::new(gate))))
    }

    fn wait(&self) {
        let _ = self.0.lock().unwrap().recv();
    }
}

/// Acts twice, with an action of three tokens, and submits. It may wait at a gate when it acts.
struct Plain {
    gate: Option<Gate>,
    acted: bool,
}

impl Environment for Plain {
    type Error = Infallible;

    fn observe(&mut self, out: &mut Observation<'_>) -> Result<(), Infallible> {
        out.push(Token(0));
        Ok(())
    }

    fn constraint(&mut self) -> Option<&mut dyn Constraint> {
        Some(self)
    }

    fn step(&mut self, _: &[Token], _: &mut Observation<'_>) -> Result<Outcome, Infallible> {
        if let Some(gate) = &self.gate {
            gate.wait();
        }
        let acted = std::mem::replace(&mut self.acted, true);
        Ok(if acted { Outcome::Submit } else { Outcome::Continue })
    }

    fn child(&mut self, _: u8) -> Result<Self, Infallible> {
        unreachable!("it delegates nothing")
    }

    fn resume(&mut self, _: &[rao_tree::Answer<'_>], _: &mut Observation<'_>) -> Result<Outcome, Infallible> {
        unreachable!("it delegates nothing")
    }
}

impl Constraint for Plain {
    fn next(&mut self, completion: &[Token], mask: &mut Mask<'_>) -> Next {
        mask.allow_all();
        if completion.len() < 3 {
            Next::Draw
        } else {
            Next::Complete
        }
    }
}

fn plain_jobs(count: u64, gate: Option<&Gate>, deadline: Option<Duration>) -> Vec<Job<Plain>> {
    let jobs = (0..count).map(|seed| Job {
        root: Plain {
            gate: gate.cloned(),
            acted: false,
        },
        task: seed.to_string(),
        seed,
        limits: Limits {
            deadline_us: deadline.map(|deadline| deadline.as_micros() as u64),
            ..crate::LIMITS
        },
    });
    jobs.collect()
}

const STALL: Duration = Duration::from_secs(1);

#[tokio::test]
async fn an_environment_that_hangs_ends_the_rollout() {
    let settings = settings(Grader::Nobody);
    let (opens, gate) = Gate::closed();
    let mut engine = InProcess::new(vec![uniform(VOCAB)]).with_stall(STALL);
    let stalled = engine.rollout(plain_jobs(3, Some(&gate), None), &settings).await;
    let Err(error @ RolloutError::Stalled { doing, since }) = stalled.map(|_| ()) else {
        panic!("it does not hang")
    };
    assert!(doing == Doing::Environments && since >= STALL);
    assert!(
        error.to_string().contains("in an environment or a judge for"),
        "{error}"
    );
    assert_eq!(settings.progress.in_flight(), 3, "nobody can end it");
    drop(opens);
    eventually(|| settings.progress.in_flight() == 0).await;
    let again = engine.rollout(plain_jobs(1, None, None), &settings).await;
    assert!(matches!(again, Err(RolloutError::NoPolicy)));
}

/// Waits at a gate whenever it is asked.
struct Hanging(Gate);

impl Policy for Hanging {
    type Error = Infallible;

    fn sample(&mut self, _: &mut [Request<'_>]) -> Result<usize, Infallible> {
        self.0.wait();
        panic!("{}", crate::PURPOSE)
    }

    fn weights(&self) -> WeightsVersion {
        WeightsVersion(0)
    }
}

#[tokio::test]
async fn a_policy_that_hangs_ends_the_rollout() {
    keep_quiet();
    let settings = settings(Grader::Nobody);
    let (opens, gate) = Gate::closed();
    let mut engine = InProcess::new(vec![Hanging(gate)]).with_stall(STALL);
    let stalled = engine.rollout(plain_jobs(3, None, None), &settings).await;
    assert!(matches!(
        stalled,
        Err(RolloutError::Stalled {
            doing: Doing::Sampling,
            ..
        })
    ));
    drop(opens);
    eventually(|| settings.progress.in_flight() == 0).await;
}

/// A policy without an end: it says every time that nothing has moved yet.
struct Idle;

impl Policy for Idle {
    type Error = Infallible;

    fn sample(&mut self, _: &mut [Request<'_>]) -> Result<usize, Infallible> {
        Ok(0)
    }

    fn weights(&self) -> WeightsVersion {
        WeightsVersion(0)
    }
}

fn assert_timed_out(rollouts: &[Rollout], count: usize) {
    assert_eq!(rollouts.len(), count);
    for rollout in rollouts {
        assert!(!rollout.is_judged());
        crate::audit(
            rollout,
            &Limits {
                deadline_us: Some(50_000),
                ..crate::LIMITS
            },
        );
    }
}

const DEADLINE: Option<Duration> = Some(Duration::from_millis(50));

#[tokio::test]
async fn a_policy_that_never_draws_anything_meets_the_deadline_of_its_trees() {
    let settings = settings(Grader::Nobody);
    let mut engine = InProcess::new(vec![Idle]);
    let rollouts = engine.rollout(plain_jobs(3, None, DEADLINE), &settings).await.unwrap();
    assert_timed_out(&rollouts, 3);
    assert!(
        rollouts
            .iter()
            .all(|rollout| rollout.tree.nodes()[0].status == Some(NodeStatus::TimedOut))
    );
}

/// Nor does it wait for ever where a tree has no deadline.
#[tokio::test]
async fn a_policy_that_never_draws_anything_ends_the_rollout() {
    let settings = settings(Grader::Nobody);
    let mut engine = InProcess::new(vec![Idle]).with_stall(STALL / 4);
    let stalled = engine.rollout(plain_jobs(3, None, None), &settings).await;
    let doing = Doing::Sampling;
    assert!(matches!(stalled, Err(RolloutError::Stalled { doing: at, since }) if at == doing && since >= STALL));
    assert_eq!(settings.progress.in_flight(), 0, "nothing is left behind");
}

/// Never says anything: by waiting, or by blocking the thread that it runs on, which no deadline of its own can end.
struct Silent(Option<Gate>);

#[async_trait]
impl Judge for Silent {
    async fn judge(&self, _: &Case) -> Result<Success, JudgeError> {
        if let Some(gate) = &self.0 {
            gate.wait();
        }
        pending().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_judge_that_never_speaks_meets_the_deadline_of_the_trees() {
    let (opens, gate) = Gate::closed();
    for gate in [None, Some(gate)] {
        let bench = Bench::new(Arc::new(Silent(gate)), 2, Duration::from_secs(3_600));
        let settings = settings(Grader::Judge(bench));
        let mut engine = InProcess::new(vec![uniform(VOCAB)]);
        let rollouts = engine.rollout(plain_jobs(2, None, DEADLINE), &settings).await.unwrap();
        assert_timed_out(&rollouts, 2);
        assert_eq!(settings.progress.in_flight(), 0);
    }
    drop(opens);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_judge_that_never_speaks_ends_the_rollout_where_trees_have_no_deadline() {
    let (opens, gate) = Gate::closed();
    let bench = Bench::new(Arc::new(Silent(Some(gate))), 1, Duration::from_secs(3_600));
    let settings = settings(Grader::Judge(bench));
    let mut engine = InProcess::new(vec![uniform(VOCAB)]).with_stall(STALL / 4);
    let stalled = engine.rollout(plain_jobs(2, None, None), &settings).await;
    let doing = Doing::Environments;
    assert!(matches!(stalled, Err(RolloutError::Stalled { doing: at, since }) if at == doing && since >= STALL));
    assert_eq!(settings.progress.in_flight(), 0, "nothing is left behind");
    drop(opens);
}

#[derive(Debug, thiserror::Error)]
#[error("the thread of the policy died, and was restarted")]
struct Died;

type Question = Vec<(u64, usize)>;

/// What asks a thread, what hears it, and the thread.
struct Thread(mpsc::Sender<Question>, mpsc::Receiver<Vec<Token>>, JoinHandle<()>);

/// A policy that draws on a thread of its own, which dies of every so-manieth question; it says so, and starts another.
struct Threaded {
    mortal: bool,
    thread: Option<Thread>,
    deaths: Arc<Mutex<u32>>,
}

impl Threaded {
    fn start(&mut self) {
        let (asks, questions) = mpsc::channel::<Question>();
        let (says, answers) = mpsc::channel();
        let mortal = self.mortal;
        let thread = std::thread::spawn(move || {
            for (at, question) in questions.iter().enumerate() {
                assert!(!mortal || at < 5, "{}", crate::PURPOSE);
                let draw = |&(seed, len): &(u64, usize)| Token((crate::mix(seed, len as u64) % VOCAB as u64) as u32);
                let _ = says.send(question.iter().map(draw).collect());
            }
        });
        self.thread = Some(Thread(asks, answers, thread));
    }
}

impl Policy for Threaded {
    type Error = Died;

    fn sample(&mut self, batch: &mut [Request<'_>]) -> Result<usize, Died> {
        if self.thread.is_none() {
            self.start();
        }
        let Thread(asks, answers, _) = self.thread.as_ref().unwrap();
        let unfinished = batch.iter_mut().filter(|request| request.stop.is_none());
        let mut unfinished: Vec<_> = unfinished.collect();
        let question = unfinished
            .iter()
            .map(|request| (request.seed, request.completion.len()));
        let _ = asks.send(question.collect());
        let Ok(tokens) = answers.recv() else {
            let Thread(.., thread) = self.thread.take().unwrap();
            assert!(thread.join().is_err());
            *self.deaths.lock().unwrap() += 1;
            return Err(Died);
        };
        for (request, token) in unfinished.iter_mut().zip(tokens) {
            request.completion.push(token, -1.0, None);
            if request.completion.len() == 3 {
                request.stop = Some(Stop::Complete);
            }
        }
        Ok(batch.iter().filter(|request| request.stop.is_some()).count())
    }

    fn weights(&self) -> WeightsVersion {
        WeightsVersion(0)
    }
}

#[tokio::test]
async fn a_policy_whose_thread_dies_and_is_restarted_loses_no_step() {
    keep_quiet();
    let mut outcomes = Vec::new();
    for mortal in [false, true] {
        let settings = settings(Grader::Nobody);
        let deaths = Arc::default();
        let mut engine = InProcess::new(vec![Threaded {
            mortal,
            thread: None,
            deaths: Arc::clone(&deaths),
        }]);
        let rollouts = engine.rollout(plain_jobs(40, None, None), &settings).await.unwrap();
        assert_eq!(*deaths.lock().unwrap() > 2, mortal);
        let outcome = rollouts
            .into_iter()
            .map(|rollout| (rollout.transcripts, rollout.faults));
        outcomes.push(outcome.collect::<Vec<_>>());
    }
    assert!(outcomes[0] == outcomes[1]);
}
