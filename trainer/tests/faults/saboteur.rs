//! An environment, a policy and a judge that work, but for what the plan says.

use crate::plan::{Fault, Plan, mix};
use Fault::*;
use futures::future::BoxFuture;
use rao_trainer::judge::{Case, Judge, JudgeError};
use rao_trainer::rollout::ANSWER_MAX;
use rao_tree::{
    Answer, Budget, Completion, Constraint, Environment, Mask, Next, Observation, Outcome, Policy, Request, SequenceId,
    Stop, Success, Token, WeightsVersion,
};
use std::collections::HashMap;
use std::fmt;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// In every panic that is meant, so that it is not printed.
pub const PURPOSE: &str = "on purpose";
/// Of the vocabulary: the last token ends an action, the others say what the node does.
pub const VOCAB: usize = 9;
const END: Token = Token(8);
/// What a slow call takes.
const SLOW: Duration = Duration::from_millis(3);

#[derive(Debug, thiserror::Error)]
#[error("broken on purpose")]
pub struct Broken;

/// A node whose first token says what it does: delegate to one, two or three children, go on, or end in one of several ways.
pub struct Saboteur {
    plan: Plan,
    /// Names the node among all of all trees.
    name: u64,
    turn: u64,
    /// What becomes of the constraint during this turn.
    constrains: Option<Fault>,
}

impl Saboteur {
    pub fn root(plan: &Plan, name: u64) -> Self {
        Self {
            plan: plan.clone(),
            name,
            turn: 0,
            constrains: None,
        }
    }

    fn strikes(&self, among: &[Fault]) -> Option<Fault> {
        self.plan.strikes(mix(self.name, self.turn), among)
    }
}

fn too_much(out: &mut Observation<'_>) {
    (0..10_000).for_each(|_| out.push(Token(1)));
}

fn slowly(worth: Outcome) -> Outcome {
    std::thread::sleep(SLOW);
    worth
}

impl Environment for Saboteur {
    type Error = Broken;

    fn observe(&mut self, out: &mut Observation<'_>) -> Result<(), Broken> {
        match self.strikes(&[ObserveError, ObservePanic, ObserveTooMuch, ObserveNothing, ObserveSlow]) {
            Some(ObserveError) => return Err(Broken),
            Some(ObservePanic) => panic!("{PURPOSE}"),
            Some(ObserveTooMuch) => too_much(out),
            Some(ObserveNothing) => return Ok(()),
            Some(_) => std::thread::sleep(SLOW),
            None => {}
        }
        out.push(Token(1));
        out.push(Token(2));
        Ok(())
    }

    fn constraint(&mut self) -> Option<&mut dyn Constraint> {
        // Asked several times in a turn: it is struck once.
        match self.constrains {
            Some(ConstraintPanic) => panic!("{PURPOSE}"),
            Some(ConstraintAbsent) => None,
            _ => Some(self),
        }
    }

    fn step(&mut self, action: &[Token], out: &mut Observation<'_>) -> Result<Outcome, Broken> {
        self.turn += 1;
        self.constrains = self.strikes(&[
            ConstraintPanic,
            ConstraintAbsent,
            NextPanic,
            NextNothingAllowed,
            NextEndless,
            EndsPanic,
        ]);
        out.push(Token(3));
        let does = match action.first().map_or(3, |token| token.0) {
            children @ 0..3 => Outcome::Delegate {
                children: children as u8 + 1,
            },
            3 => Outcome::Continue,
            4 => Outcome::Finish(Success::ZERO),
            5 => Outcome::Finish(Success::ONE),
            _ => Outcome::Submit,
        };
        Ok(
            match self.strikes(&[
                StepError,
                StepPanic,
                StepTooMuch,
                StepRestartTooMuch,
                StepEmptyDelegation,
                StepWideDelegation,
                StepFail,
                StepSlow,
            ]) {
                None => does,
                Some(StepError) => return Err(Broken),
                Some(StepPanic) => panic!("{PURPOSE}"),
                Some(StepEmptyDelegation) => Outcome::Delegate { children: 0 },
                Some(StepWideDelegation) => Outcome::Delegate { children: 255 },
                Some(StepFail) => Outcome::Fail,
                Some(StepTooMuch) => {
                    too_much(out);
                    does
                }
                Some(StepRestartTooMuch) => {
                    out.restart();
                    too_much(out);
                    does
                }
                Some(_) => slowly(does),
            },
        )
    }

    fn child(&mut self, index: u8) -> Result<Self, Broken> {
        let name = mix(mix(self.name, self.turn), u64::from(index) + 1);
        match self.plan.strikes(name, &[ChildError, ChildPanic]) {
            Some(ChildError) => Err(Broken),
            Some(_) => panic!("{PURPOSE}"),
            None => Ok(Self::root(&self.plan, name)),
        }
    }

    fn budget(&self, index: u8) -> Budget {
        let name = mix(self.name, u64::from(index));
        match self.plan.strikes(name, &[BudgetPanic, BudgetNothing]) {
            Some(BudgetPanic) => panic!("{PURPOSE}"),
            Some(_) => Budget {
                depth: 0,
                nodes: 0,
                children: 0,
                steps: 0,
                tokens: 0,
                deadline_us: None,
            },
            None => Budget::UNLIMITED,
        }
    }

    fn resume(&mut self, answers: &[Answer<'_>], out: &mut Observation<'_>) -> Result<Outcome, Broken> {
        for answer in answers {
            out.push(Token(match answer {
                Answer::Ended { success, .. } => u32::from(success.value() > 0.0),
                Answer::Refused(_) => 2,
            }));
        }
        Ok(
            match self.strikes(&[
                ResumeError,
                ResumePanic,
                ResumeTooMuch,
                ResumeAgain,
                ResumeEmptyDelegation,
                ResumeSlow,
            ]) {
                None => Outcome::Continue,
                Some(ResumeError) => return Err(Broken),
                Some(ResumePanic) => panic!("{PURPOSE}"),
                // It does so for ever: its turn is the same.
                Some(ResumeAgain) => Outcome::Delegate { children: 2 },
                Some(ResumeEmptyDelegation) => Outcome::Delegate { children: 0 },
                Some(ResumeTooMuch) => {
                    too_much(out);
                    Outcome::Continue
                }
                Some(_) => slowly(Outcome::Continue),
            },
        )
    }

    fn describe(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        match self.strikes(&[DescribeError, DescribePanic, DescribeTooMuch]) {
            Some(DescribeError) => return Err(fmt::Error),
            Some(DescribePanic) => panic!("{PURPOSE}"),
            Some(_) => (0..2_000).try_for_each(|_| out.write_str(&"ä".repeat(500)))?,
            None => {}
        }
        write!(out, "{:x}", self.name)
    }

    fn answer(&self) -> &[u8] {
        static LONG: [u8; ANSWER_MAX + 1] = [7; ANSWER_MAX + 1];
        match self.strikes(&[AnswerPanic, AnswerTooMuch]) {
            Some(AnswerPanic) => panic!("{PURPOSE}"),
            Some(_) => &LONG,
            None => b"done",
        }
    }
}

impl Constraint for Saboteur {
    fn next(&mut self, completion: &[Token], mask: &mut Mask<'_>) -> Next {
        match self.constrains {
            Some(NextPanic) => panic!("{PURPOSE}"),
            Some(NextNothingAllowed) => return Next::Draw,
            Some(NextEndless) => {
                mask.allow_all();
                return Next::Draw;
            }
            _ => {}
        }
        match completion {
            [] => (0..8).for_each(|token| mask.allow(Token(token))),
            [.., END] => return Next::Complete,
            _ => mask.allow_all(),
        }
        Next::Draw
    }

    fn ends(&self) -> Option<&[Token]> {
        if self.constrains == Some(EndsPanic) {
            panic!("{PURPOSE}");
        }
        None
    }
}

impl Drop for Saboteur {
    fn drop(&mut self) {
        // While another panic goes on, one more would end the process: that is how Rust is.
        if !std::thread::panicking() && self.plan.strikes(self.name, &[DropPanic]).is_some() {
            panic!("{PURPOSE}");
        }
    }
}

/// What policies were asked and told about contexts: how often each was forgotten.
pub type Forgotten = Arc<Mutex<HashMap<SequenceId, u32>>>;

/// A policy that does what the inner one does, but for what the plan says.
pub struct Sabotaged<P> {
    pub inner: P,
    pub plan: Plan,
    /// Names this policy among others.
    pub name: u64,
    pub calls: u64,
    /// Whether it may die.
    pub mortal: bool,
    pub forgotten: Forgotten,
}

impl<P: Policy> Policy for Sabotaged<P> {
    type Error = Broken;

    fn sample(&mut self, batch: &mut [Request<'_>]) -> Result<usize, Broken> {
        self.calls += 1;
        let call = mix(self.name, self.calls);
        match self.plan.strikes(
            call,
            &[SampleError, SampleErrorAfter, SampleNothing, SampleSlow, SampleDeath],
        ) {
            None => {}
            Some(SampleError) => return Err(Broken),
            Some(SampleNothing) => return Ok(0),
            Some(SampleSlow) => std::thread::sleep(SLOW),
            Some(SampleErrorAfter) => {
                self.act(batch);
                return Err(Broken);
            }
            Some(_) if self.mortal => panic!("{PURPOSE}"),
            Some(_) => {}
        }
        self.act(batch);
        Ok(batch.len())
    }

    fn weights(&self) -> WeightsVersion {
        let call = mix(self.name, self.calls);
        if self.mortal && self.calls.is_multiple_of(8) && self.plan.strikes(call, &[WeightsDeath]).is_some() {
            panic!("{PURPOSE}");
        }
        self.inner.weights()
    }

    fn forget(&mut self, sequence: SequenceId) {
        let call = mix(self.name, sequence.0);
        if self.mortal && sequence.0.is_multiple_of(64) && self.plan.strikes(call, &[ForgetDeath]).is_some() {
            panic!("{PURPOSE}");
        }
        *self.forgotten.lock().unwrap().entry(sequence).or_default() += 1;
    }
}

impl<P: Policy> Sabotaged<P> {
    fn act(&mut self, batch: &mut [Request<'_>]) {
        for at in 0..batch.len() {
            let strikes = self.plan.strikes(
                mix(batch[at].seed, 0),
                &[
                    LogprobNan,
                    LogprobInfinite,
                    LogprobNegativeInfinite,
                    LogprobPositive,
                    StopFailed,
                    StopStuck,
                    StopOverflow,
                    StopAtOnce,
                    StopShort,
                    Foreign,
                    Swapped,
                ],
            );
            let request = &mut batch[at];
            let draws = |request: &mut Request<'_>, logprob| {
                request.completion.push(Token(1), logprob, None);
                Some(Stop::Complete)
            };
            request.stop = match strikes {
                None => continue,
                Some(LogprobNan) => draws(request, f32::NAN),
                Some(LogprobInfinite) => draws(request, f32::INFINITY),
                Some(LogprobNegativeInfinite) => draws(request, f32::NEG_INFINITY),
                Some(LogprobPositive) => draws(request, 0.5),
                Some(StopFailed) => Some(Stop::Failed),
                Some(StopStuck) => Some(Stop::Stuck),
                Some(StopOverflow) => Some(Stop::ContextOverflow),
                Some(StopAtOnce) => Some(Stop::Complete),
                Some(StopShort) => {
                    draws(request, -1.0);
                    Some(Stop::Length)
                }
                Some(Foreign) => {
                    let (tokens, logprobs) = (vec![Token(1); 99].leak(), vec![-1.0; 99].leak());
                    let completion = Completion::new(tokens, logprobs, &mut [], 0).unwrap();
                    request.completion = completion.resumed(99);
                    Some(Stop::Complete)
                }
                Some(_) => {
                    let (one, rest) = batch[at..].split_first_mut().unwrap();
                    if let Some(other) = rest.last_mut() {
                        std::mem::swap(&mut one.completion, &mut other.completion);
                    }
                    continue;
                }
            };
        }
        // An inner policy never fails here.
        self.inner.sample(batch).map_err(|_| ()).unwrap();
    }
}

/// Half right is whoever is judged, unless the plan says otherwise.
pub struct Sabotaging(pub Plan);

impl Judge for Sabotaging {
    // By hand: what the macro makes never panics before there is a future.
    fn judge<'s, 'c, 'f>(&'s self, case: &'c Case) -> BoxFuture<'f, Result<Success, JudgeError>>
    where
        's: 'f,
        'c: 'f,
        Self: 'f,
    {
        let call = case.task.bytes().fold(0, |name, byte| mix(name, u64::from(byte)));
        if self.0.strikes(call, &[JudgePanicAtOnce]).is_some() {
            panic!("{PURPOSE}");
        }
        Box::pin(self.hear(call))
    }
}

impl Sabotaging {
    async fn hear(&self, call: u64) -> Result<Success, JudgeError> {
        let among = [JudgeFails, JudgePanic, JudgeLate, JudgeNever];
        match self.0.strikes(call, &among) {
            None => {}
            Some(JudgePanic) => panic!("{PURPOSE}"),
            Some(JudgeLate) => tokio::time::sleep(4 * SLOW).await,
            Some(JudgeNever) => pending().await,
            Some(_) => return Err(JudgeError::Failed(PURPOSE.into())),
        }
        Ok(Success::new(0.5).unwrap())
    }
}
