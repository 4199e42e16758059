//! A judge of one's own: an answer that no rule can check is submitted, and somebody else says what it is worth.
//!
//! Shows the seam for a model as a judge, a human, or a service: [`Judge`] is asynchronous, may be slow, and may fail; the tree grows on
//! meanwhile. An answer that could not be judged is no failure: its node is invalid and trains nothing.
//!
//! ```text
//! cargo run --release --example own_judge
//! ```

use async_trait::async_trait;
use rao_backends::scripted::Scripted;
use rao_trainer::judge::{Bench, Case, Grader, Judge, JudgeError};
use rao_trainer::rollout::{InProcess, Job, Progress, RolloutEngine, Settings};
use rao_tree::{Answer, Constraint, Environment, Limits, Observation, Outcome, Request, Success, Token};
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Bytes are tokens here.
const VOCAB: usize = 256;

/// Writes a line about a topic, or has its two halves written by others and puts them together.
struct Writer {
    topic: String,
    text: String,
}

impl Writer {
    fn on(topic: &str) -> Self {
        Self {
            topic: topic.into(),
            text: String::new(),
        }
    }
}

impl Environment for Writer {
    type Error = Infallible;

    fn observe(&mut self, out: &mut Observation<'_>) -> Result<(), Infallible> {
        self.topic.bytes().for_each(|byte| out.push(Token(byte.into())));
        Ok(())
    }

    fn constraint(&mut self) -> Option<&mut dyn Constraint> {
        None
    }

    fn step(&mut self, action: &[Token], _: &mut Observation<'_>) -> Result<Outcome, Infallible> {
        if self.topic.contains(" and ") {
            return Ok(Outcome::Delegate { children: 2 });
        }
        let bytes = action.iter().filter_map(|token| u8::try_from(token.0).ok());
        self.text = String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned();
        // Who could say here how good it is?
        Ok(Outcome::Submit)
    }

    fn child(&mut self, index: u8) -> Result<Self, Infallible> {
        let (first, second) = self.topic.split_once(" and ").unwrap_or((&self.topic, ""));
        Ok(Self::on(if index == 0 { first } else { second }))
    }

    fn resume(&mut self, answers: &[Answer<'_>], _: &mut Observation<'_>) -> Result<Outcome, Infallible> {
        for answer in answers {
            if let Answer::Ended { value, .. } = answer {
                self.text += &String::from_utf8_lossy(value);
            }
        }
        Ok(Outcome::Submit)
    }

    fn describe(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        out.write_str(&self.topic)
    }

    fn answer(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

/// Likes lines that keep to their topic. In earnest, this would ask a model.
struct Critic;

#[async_trait]
impl Judge for Critic {
    async fn judge(&self, case: &Case) -> Result<Success, JudgeError> {
        let text = std::str::from_utf8(&case.answer).map_err(|error| JudgeError::Failed(error.to_string()))?;
        let topics: Vec<&str> = case.task.split(" and ").collect();
        let kept = topics.iter().filter(|topic| text.contains(**topic)).count();
        Success::new(kept as f32 / topics.len() as f32).map_err(|error| JudgeError::Failed(error.to_string()))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // It can write about rivers; about anything else it writes about rivers, too.
    let policy = Scripted::new(VOCAB, |_: &Request<'_>, _: &mut _| {
        b"a river runs. ".map(|byte| Token(byte.into())).to_vec()
    });
    let settings = Settings {
        temperature: 1.0,
        vocab: VOCAB,
        keep_transcripts: false,
        keep_log: false,
        trees_in_flight: 1,
        grader: Grader::Judge(Bench::new(Arc::new(Critic), 4, Duration::from_secs(10))),
        sink: None,
        cancel_on_stop: true,
        progress: Arc::new(Progress::default()),
    };
    let job = Job {
        root: Writer::on("river and mountain"),
        task: "two topics".into(),
        seed: 0,
        limits: Limits {
            depth_max: 1,
            nodes_max: 3,
            children_max: 2,
            steps_max: 1,
            tokens_max: 100,
            action_max: 14,
            context_max: 64,
            concurrent_max: 2,
            deadline_us: Some(20_000_000),
        },
    };
    let rollouts = InProcess::new(vec![policy]).rollout(vec![job], &settings).await?;
    let nodes = rollouts[0].tree.nodes();
    let worth: Vec<f32> = nodes.iter().map(|node| node.success.value()).collect();
    println!("the whole {}, river {}, mountain {}", worth[0], worth[1], worth[2]);
    assert_eq!(worth, [0.5, 1.0, 0.0]);
    Ok(())
}
