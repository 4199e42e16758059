//! [`PolicyJudge`]: a policy that says what answers are worth.

use super::Value;
use super::speech::{EndOfTurn, Message, Role, Speech};
use crate::judge::{Case, Judge, JudgeError};
use async_trait::async_trait;
use rao_tree::{Completion, Policy, Request, SequenceId, Stop, Success, Token};
use std::io;
use std::sync::{Arc, mpsc};
use std::thread;
use tokio::sync::oneshot;

/// What a judge is told, unless it is told something else.
pub const RUBRIC: &str = "You judge how well an agent did what it was asked. You see the task and the answer, nothing else. Think briefly: is the \
    answer right, is it whole, is it what was asked for? Then end with one line\nscore: X\nwhere X is a number from 0 (wrong or missing) to 1 (right).";

/// A judge that asks a policy: a model of its own, on a server for instance, or the very one that is trained.
///
/// The policy is sampled on a thread of its own, greedily, many cases at once. What it says must end with a line `score: X`; whatever else it says,
/// or fails to say, is an error, and the node is invalid, never a zero.
pub struct PolicyJudge {
    cases: mpsc::Sender<Hearing>,
    speech: Arc<dyn Speech>,
    rubric: String,
}

/// A case on its way to the policy.
struct Hearing {
    prompt: Vec<Token>,
    opinion: oneshot::Sender<Result<Vec<Token>, JudgeError>>,
}

impl PolicyJudge {
    /// A judge of that rubric ([`RUBRIC`] for instance), whose opinions have at most so many tokens.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn new(
        policy: impl Policy + Send + 'static,
        speech: Arc<dyn Speech>,
        rubric: impl Into<String>,
        tokens: usize,
    ) -> io::Result<Self> {
        let (cases, hearings) = mpsc::channel();
        let ends = EndOfTurn::of(speech.as_ref());
        thread::Builder::new()
            .name("rao-judge".into())
            .spawn(move || hear(policy, &hearings, &ends, tokens))?;
        Ok(Self {
            cases,
            speech,
            rubric: rubric.into(),
        })
    }

    fn prompt(&self, case: &Case) -> Result<Vec<Token>, JudgeError> {
        let answer = match Value::decode(&case.answer) {
            Ok(Value::Str(text)) => text,
            Ok(value) => value.to_string(),
            // An environment that hands over something else than values.
            Err(_) => String::from_utf8_lossy(&case.answer).into_owned(),
        };
        let question = format!("Task:\n{}\n\nAnswer:\n{answer}", case.task);
        let messages = [
            Message::new(Role::System, &self.rubric),
            Message::new(Role::User, question),
        ];
        self.speech.opening(&messages, &[]).map_err(failed)
    }
}

#[async_trait]
impl Judge for PolicyJudge {
    async fn judge(&self, case: &Case) -> Result<Success, JudgeError> {
        let (opinion, heard) = oneshot::channel();
        let prompt = self.prompt(case)?;
        let gone = || JudgeError::Failed("its policy is gone".into());
        self.cases.send(Hearing { prompt, opinion }).map_err(|_| gone())?;
        let tokens = heard.await.map_err(|_| gone())??;
        score(&self.speech.text(&tokens).map_err(failed)?)
    }
}

fn failed(error: impl std::fmt::Display) -> JudgeError {
    JudgeError::Failed(error.to_string())
}

/// The number on the last line that begins with `score:`.
fn score(opinion: &str) -> Result<Success, JudgeError> {
    let lines = opinion.lines().rev();
    let number = lines.map(str::trim).find_map(|line| {
        let (name, number) = line.split_once(':')?;
        name.trim()
            .trim_matches('*')
            .eq_ignore_ascii_case("score")
            .then_some(number.trim().trim_matches('*'))
    });
    let success = number.and_then(|number| Success::new(number.trim().parse().ok()?).ok());
    success.ok_or_else(|| {
        let end: String = opinion
            .chars()
            .rev()
            .take(80)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect();
        JudgeError::Failed(format!("its opinion ends without a score from 0 to 1: {end:?}"))
    })
}

/// Cases that are heard at once: a bound on what is held, not a target.
const AT_ONCE: usize = 64;

/// A case that the policy is at.
struct Open {
    sequence: SequenceId,
    hearing: Hearing,
    tokens: Vec<Token>,
    logprobs: Vec<f32>,
    len: usize,
    ends: EndOfTurn,
}

impl Open {
    fn request(&mut self) -> Request<'_> {
        let completion = Completion::new(&mut self.tokens, &mut self.logprobs, &mut [], 0);
        Request {
            sequence: self.sequence,
            prompt: &self.hearing.prompt,
            seed: self.sequence.0,
            temperature: 0.0,
            constraint: Some(&mut self.ends),
            completion: completion.expect("buffers of one length").resumed(self.len),
            stop: None,
        }
    }
}

/// Hears cases until nobody can bring one any longer.
fn hear(mut policy: impl Policy, hearings: &mpsc::Receiver<Hearing>, ends: &EndOfTurn, room: usize) {
    let mut open: Vec<Open> = Vec::new();
    let mut heard = 0;
    loop {
        while open.len() < AT_ONCE {
            let next = if open.is_empty() {
                hearings.recv().map_err(|_| mpsc::TryRecvError::Disconnected)
            } else {
                hearings.try_recv()
            };
            match next {
                Ok(hearing) => {
                    heard += 1;
                    open.push(Open {
                        sequence: SequenceId(heard),
                        hearing,
                        tokens: vec![Token(0); room],
                        logprobs: vec![0.0; room],
                        len: 0,
                        ends: ends.clone(),
                    });
                }
                Err(_) if open.is_empty() => return,
                Err(_) => break,
            }
        }
        // Who asked may have given up since.
        let (live, given_up) = open.drain(..).partition(|case| !case.hearing.opinion.is_closed());
        open = live;
        given_up.iter().for_each(|case: &Open| policy.forget(case.sequence));
        advance(&mut policy, &mut open);
    }
}

/// Advances all cases, and answers those that are through.
fn advance(policy: &mut impl Policy, open: &mut Vec<Open>) {
    let mut requests: Vec<Request<'_>> = open.iter_mut().map(Open::request).collect();
    let sampled = policy.sample(&mut requests).map_err(failed);
    let ends = requests.iter().map(|request| (request.completion.len(), request.stop));
    let ends: Vec<(usize, Option<Stop>)> = ends.collect();
    drop(requests);
    for (mut case, (len, stop)) in std::mem::take(open).into_iter().zip(ends) {
        case.len = len;
        let opinion = match (&sampled, stop) {
            (Err(error), _) => Err(error.clone()),
            (Ok(_), Some(Stop::Complete | Stop::Length)) => Ok(case.tokens[..len].to_vec()),
            (Ok(_), Some(stop)) => Err(JudgeError::Failed(format!("its policy stopped: {stop:?}"))),
            (Ok(_), None) => {
                open.push(case);
                continue;
            }
        };
        policy.forget(case.sequence);
        // Whoever asked may have given up.
        let _ = case.hearing.opinion.send(opinion);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_with_a_score_counts() {
        let right = |opinion: &str| score(opinion).map(Success::value);
        assert_eq!(right("score: 1"), Ok(1.0));
        assert_eq!(right("score: 1\nNo, wait.\n**Score:** 0.25\n"), Ok(0.25));
        for wrong in [
            "",
            "fine",
            "score: good",
            "score: 2",
            "score: -1",
            "score: nan",
            "the score: 1",
        ] {
            assert!(matches!(right(wrong), Err(JudgeError::Failed(_))), "{wrong:?}");
        }
    }
}
