//! Answers that are judged by others, while the tree grows on and after.

use async_trait::async_trait;
use rao_backends::scripted::uniform;
use rao_trainer::judge::{Bench, Case, Grader, Judge, JudgeError};
use rao_trainer::rollout::{InProcess, Job, Progress, Rollout, RolloutEngine, Settings};
use rao_tree::{
    Answer, Constraint, Depth, Environment, Limits, Mask, Next, NodeStatus, Observation, Outcome, Success, Token,
};
use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Hands its task to three children, each with one letter of it, and submits what they said. The root may be graded at once.
struct Speller {
    task: String,
    answer: String,
    graded: Option<Success>,
}

impl Speller {
    fn of(task: &str) -> Self {
        Self {
            task: task.into(),
            answer: String::new(),
            graded: None,
        }
    }
}

impl Environment for Speller {
    type Error = Infallible;

    fn observe(&mut self, out: &mut Observation<'_>) -> Result<(), Infallible> {
        out.push(Token(0));
        Ok(())
    }

    fn constraint(&mut self) -> Option<&mut dyn Constraint> {
        Some(self)
    }

    fn step(&mut self, _: &[Token], _: &mut Observation<'_>) -> Result<Outcome, Infallible> {
        if self.task.len() > 1 {
            return Ok(Outcome::Delegate {
                children: self.task.len() as u8,
            });
        }
        self.answer = self.task.to_uppercase();
        Ok(Outcome::Submit)
    }

    fn child(&mut self, index: u8) -> Result<Self, Infallible> {
        let at = usize::from(index);
        Ok(Self::of(&self.task[at..=at]))
    }

    fn resume(&mut self, answers: &[Answer<'_>], _: &mut Observation<'_>) -> Result<Outcome, Infallible> {
        for answer in answers {
            let Answer::Ended { value, success, .. } = answer else {
                panic!("{answer:?}")
            };
            assert_eq!(*success, Success::ZERO, "nobody has judged it yet");
            self.answer += std::str::from_utf8(value).unwrap();
        }
        Ok(self.graded.map_or(Outcome::Submit, Outcome::Finish))
    }

    fn describe(&self, out: &mut dyn std::fmt::Write) -> std::fmt::Result {
        out.write_str(&self.task)
    }

    fn answer(&self) -> &[u8] {
        self.answer.as_bytes()
    }
}

impl Constraint for Speller {
    fn next(&mut self, completion: &[Token], mask: &mut Mask<'_>) -> Next {
        mask.allow(Token(1));
        if completion.is_empty() {
            Next::Draw
        } else {
            Next::Complete
        }
    }
}

/// Right is the task in capitals; letters after `c` are half right. What is asked about `!`, `?` and `.` ends badly.
#[derive(Default)]
struct Teacher {
    heard: AtomicUsize,
    at_once: AtomicUsize,
    most: AtomicUsize,
}

#[async_trait]
impl Judge for Teacher {
    async fn judge(&self, case: &Case) -> Result<Success, JudgeError> {
        self.heard.fetch_add(1, Ordering::SeqCst);
        let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        // Others may come in while this one is under way.
        tokio::task::yield_now().await;
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        match case.task.as_str() {
            "!" => panic!("on purpose"),
            "?" => pending().await,
            "." => Err(JudgeError::Failed("no idea".into())),
            task => {
                assert_eq!(case.answer, task.to_uppercase().as_bytes());
                assert_eq!(case.depth, Depth(u8::from(task.len() == 1)));
                let right = if task > "c" { 0.5 } else { 1.0 };
                Ok(Success::new(right).unwrap())
            }
        }
    }
}

async fn roll(root: Speller, grader: Grader, deadline: Duration) -> Rollout {
    let settings = Settings {
        temperature: 1.0,
        vocab: 2,
        keep_transcripts: false,
        keep_log: true,
        trees_in_flight: 2,
        grader,
        sink: None,
        cancel_on_stop: true,
        progress: Arc::new(Progress::default()),
    };
    let limits = Limits {
        depth_max: 2,
        nodes_max: 10,
        children_max: 9,
        steps_max: 4,
        tokens_max: 100,
        action_max: 1,
        context_max: 8,
        concurrent_max: 9,
        deadline_us: Some(deadline.as_micros() as u64),
    };
    let job = Job {
        root,
        task: "spell".into(),
        seed: 0,
        limits,
    };
    let mut engine = InProcess::new(vec![uniform(2)]);
    let mut rollouts = engine.rollout(vec![job], &settings).await.unwrap();
    rollouts.pop().unwrap()
}

const LONG: Duration = Duration::from_secs(60);

fn worth(rollout: &Rollout) -> Vec<Option<f32>> {
    let nodes = rollout.tree.nodes().iter();
    nodes
        .map(|node| (node.judged() == Some(NodeStatus::Finished)).then(|| node.success.value()))
        .collect()
}

#[tokio::test]
async fn a_judge_says_what_every_answer_is_worth() {
    let judge = Arc::new(Teacher::default());
    let bench = Bench::new(Arc::clone(&judge) as Arc<dyn Judge>, 2, LONG);
    let rollout = roll(Speller::of("abd"), Grader::Judge(bench), LONG).await;
    assert_eq!(worth(&rollout), [Some(1.0), Some(1.0), Some(1.0), Some(0.5)]);
    assert!(rollout.faults.is_empty() && rollout.is_judged());
    assert_eq!(judge.heard.load(Ordering::SeqCst), 4);
    assert!(
        judge.most.load(Ordering::SeqCst) <= 2,
        "more cases at once than it hears"
    );
    // The scores are in the log, after the returns.
    let mut scores = 0;
    for record in rao_proto::Frames::new(&rollout.log) {
        scores += usize::from(matches!(record.unwrap().event, rao_proto::Event::Score { .. }));
    }
    assert_eq!(scores, 4);
}

#[tokio::test]
async fn a_judge_that_fails_panics_or_hangs_makes_the_node_invalid_and_never_a_zero() {
    let bench = Bench::new(Arc::new(Teacher::default()), 8, Duration::from_millis(50));
    let rollout = roll(Speller::of("a!?."), Grader::Judge(bench), LONG).await;
    // The root's own answer is right: "a!?." is before "c".
    assert_eq!(worth(&rollout), [Some(1.0), Some(1.0), None, None, None]);
    let invalid = rollout.tree.nodes()[2..].iter();
    assert!(invalid.clone().all(|node| node.judged() == Some(NodeStatus::Invalid)));
    let mut faults = rollout.faults.clone();
    faults.sort();
    assert_eq!(
        faults,
        [
            "the judge failed: no idea",
            "the judge panicked",
            "the judge said nothing within 50ms"
        ]
    );
}

#[tokio::test]
async fn a_tree_does_not_wait_for_its_judge_past_its_deadline() {
    let bench = Bench::new(Arc::new(Teacher::default()), 8, LONG);
    let rollout = roll(Speller::of("a?"), Grader::Judge(bench), Duration::from_millis(200)).await;
    let [root, _, question] = worth(&rollout)[..] else {
        panic!()
    };
    assert_eq!((root, question), (Some(1.0), None));
}

#[tokio::test]
async fn the_root_stands_for_every_node() {
    let root = |success| Speller {
        graded: Some(Success::new(success).unwrap()),
        ..Speller::of("abd")
    };
    let rollout = roll(root(0.75), Grader::Root, LONG).await;
    assert_eq!(worth(&rollout), [Some(0.75); 4]);
    // A root that submits has nobody that stands for it.
    let rollout = roll(Speller::of("ab"), Grader::Root, LONG).await;
    assert_eq!(worth(&rollout), [None; 3]);
    assert!(!rollout.is_judged());
}

#[tokio::test]
async fn without_a_grader_answers_stay_unjudged() {
    let rollout = roll(Speller::of("ab"), Grader::Nobody, LONG).await;
    assert_eq!(worth(&rollout), [None; 3]);
    assert_eq!(rollout.faults.len(), 3);
    assert!(rollout.faults[0].contains("Settings::grader"), "{:?}", rollout.faults);
}
