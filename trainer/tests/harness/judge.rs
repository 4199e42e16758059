//! A judge that is a policy: asked about answers that an environment submits.

use crate::desk::{self, Run};
use rao_backends::scripted::Scripted;
use rao_trainer::judge::{Bench, Grader};
use rao_trainer::language::speech::ByteSpeech;
use rao_trainer::language::{PolicyJudge, RUBRIC, ToolCalls};
use rao_tree::{NodeStatus, Request, Token};
use std::sync::Arc;
use std::time::Duration;

/// Finishes with an answer that is to be judged, by a policy of this opinion.
async fn judged(opinion: &'static str) -> Run {
    let policy = Scripted::new(ByteSpeech::VOCAB, move |request: &Request<'_>, _: &mut _| {
        let asked = desk::text(request.prompt);
        assert!(
            asked.starts_with(RUBRIC) && asked.ends_with("Answer:\nsubmit"),
            "{asked}"
        );
        opinion
            .bytes()
            .map(|byte| Token(byte.into()))
            .chain([ByteSpeech::END])
            .collect()
    });
    let judge = PolicyJudge::new(policy, Arc::new(ByteSpeech), RUBRIC, 100).unwrap();
    let grader = Grader::Judge(Bench::new(Arc::new(judge), 2, Duration::from_secs(60)));
    let call = |answer: &str| {
        format!("<tool_call>{{\"name\": \"finish\", \"arguments\": {{\"answer\": \"{answer}\"}}}}</tool_call>")
    };
    desk::run_graded("submit", ToolCalls::root, |_| 0, call, grader).await
}

#[tokio::test]
async fn what_the_policy_says_is_what_the_answer_is_worth() {
    let run = judged("Half of it is there.\nscore: 0.5").await;
    assert_eq!(run.status(0), NodeStatus::Finished);
    assert_eq!(run.rollout.success(), 0.5);
    assert_eq!(run.rollout.faults, [""; 0]);
}

#[tokio::test]
async fn an_opinion_without_a_score_leaves_the_node_invalid() {
    for opinion in ["It is fine.", "score: 11", ""] {
        let run = judged(opinion).await;
        assert_eq!(run.status(0), NodeStatus::Invalid);
        assert!(
            run.rollout.faults[0].contains("ends without a score"),
            "{:?}",
            run.rollout.faults
        );
    }
}
