//! Stops, masks, errors, publishing.

use crate::support::*;
use rao_backends::candle::sampler::{
    Geometry, GeometryError, PackError, Sampler, SamplerError, SamplerOptions, SamplerWeights,
};
use rao_tree::{Constraint, Mask, Next, Policy, Request, SequenceId, Stop, Token, WeightsVersion};

#[test]
fn masks_are_respected_and_kept() {
    let g = Geometry {
        vocab: 70,
        ..geometry()
    };
    let mut sampler = sampler(&weights(&g, 1), 1 << 20, 64);
    let grammar = |phase| Grammar {
        vocab: 70,
        phase,
        end: 69,
    };
    let mut nodes: Vec<Node> = (0..30)
        .map(|i| Node::new(i, &[1, 2], 20).masked(grammar(i as u32 % 3), 2))
        .collect();
    finish(&mut sampler, &mut nodes);
    for node in &nodes {
        let grammar = node.grammar.as_ref().unwrap();
        for i in 0..node.len {
            assert!(grammar.allows(node.tokens[i].0, i));
            for token in 0..128u32 {
                let kept = node.masks[i * 2 + token as usize / 64] >> (token % 64) & 1 == 1;
                assert_eq!(kept, token < 70 && grammar.allows(token, i), "token {token} at {i}");
            }
        }
        match node.stop {
            Some(Stop::Complete) => assert_eq!(node.tokens[node.len - 1], Token(69)),
            stop => assert_eq!((stop, node.len), (Some(Stop::Length), 20)),
        }
    }
    assert!(
        nodes.iter().any(|node| node.stop == Some(Stop::Complete)),
        "some drew the end"
    );
}

/// Allows what it is told, whatever the completion.
struct Only(Vec<u32>);

impl Constraint for Only {
    fn next(&mut self, _: &[Token], mask: &mut Mask<'_>) -> Next {
        self.0.iter().for_each(|&token| mask.allow(Token(token)));
        Next::Draw
    }
}

fn sample_only(allowed: &[u32]) -> (Option<Stop>, Node) {
    let mut node = Node::new(1, &[1], 4);
    let mut only = Only(allowed.to_vec());
    let mut batch = [Request {
        constraint: Some(&mut only),
        ..node.request()
    }];
    sampler(&weights(&geometry(), 1), 1 << 20, 64)
        .sample(&mut batch)
        .unwrap();
    let (len, stop) = (batch[0].completion.len(), batch[0].stop);
    node.len = len;
    (stop, node)
}

#[test]
fn nothing_allowed_is_stuck_and_one_allowed_is_certain() {
    assert_eq!(sample_only(&[]).0, Some(Stop::Stuck));
    // Tokens 37 to 63 fit the mask's word, but not the vocabulary.
    assert_eq!(sample_only(&[40, 63]).0, Some(Stop::Stuck));
    let (stop, node) = sample_only(&[40, 5]);
    assert_eq!((stop, node.len), (Some(Stop::Length), 4));
    assert_eq!(node.outcome().0, [5; 4]);
    assert!(node.logprobs.iter().all(|x| *x == 0.0));
}

#[test]
fn a_context_too_long_ends_that_request_alone() {
    let g = geometry();
    let mut sampler = sampler(&weights(&g, 1), 1 << 20, 256);
    assert_eq!(sampler.window(), 64);
    let (mut long, mut full, mut growing, mut fine) = (
        Node::new(1, &[1; 65], 4),
        Node::new(2, &[1; 64], 4),
        Node::new(3, &[1; 60], 10),
        Node::new(4, &[1, 2], 6),
    );
    let mut nodes = [&mut long, &mut full, &mut growing, &mut fine];
    while call(&mut sampler, &mut nodes).unwrap() < 4 {}
    assert_eq!((long.stop, long.len), (Some(Stop::ContextOverflow), 0));
    assert_eq!((full.stop, full.len), (Some(Stop::ContextOverflow), 1));
    assert_eq!((growing.stop, growing.len), (Some(Stop::ContextOverflow), 5));
    assert_eq!((fine.stop, fine.len), (Some(Stop::Length), 6));
}

#[test]
fn each_call_advances_everyone_and_returns_at_the_first_end() {
    let mut sampler = sampler(&weights(&geometry(), 1), 1 << 20, 256);
    let mut nodes: Vec<Node> = (0..3).map(|i| Node::new(i, &[1], 3 + 2 * i as usize)).collect();
    let lens = |nodes: &[Node]| nodes.iter().map(|node| node.len).collect::<Vec<_>>();
    let mut step = |nodes: &mut [Node]| call(&mut sampler, &mut nodes.iter_mut().collect::<Vec<_>>()).unwrap();
    assert_eq!((step(&mut nodes), lens(&nodes)), (1, vec![3, 3, 3]));
    assert_eq!((step(&mut nodes), lens(&nodes)), (2, vec![3, 5, 5]));
    assert_eq!((step(&mut nodes), lens(&nodes)), (3, vec![3, 5, 7]));
    assert_eq!((step(&mut nodes), lens(&nodes)), (3, vec![3, 5, 7]));
    assert_eq!(step(&mut []), 0);
    let mut roomless = [Node::new(7, &[1], 0)];
    assert_eq!(step(&mut roomless), 1);
    assert_eq!(roomless[0].stop, Some(Stop::Length));
}

#[test]
fn publishing_changes_results_and_clears_the_cache() {
    let g = geometry();
    let (first, second) = (weights(&g, 1), weights(&g, 2));
    let mut sampler = sampler(&first, 1 << 20, 64);
    let run = |sampler: &mut Sampler| {
        let mut nodes = [Node::new(1, &[1, 2, 3], 8), Node::new(2, &[4], 8)];
        finish(sampler, &mut nodes);
        nodes.map(|node| node.outcome())
    };
    let before = run(&mut sampler);
    assert_eq!((sampler.cached(), sampler.weights()), (2, WeightsVersion(0)));
    sampler.publish(second.clone(), WeightsVersion(7));
    assert_eq!((sampler.cached(), sampler.weights()), (0, WeightsVersion(7)));
    let after = run(&mut sampler);
    assert_ne!(before, after);
    assert_eq!(
        after,
        run(&mut Sampler::new(second, WeightsVersion(0), SamplerOptions::default()))
    );
    sampler.publish(first, WeightsVersion(8));
    assert_eq!(run(&mut sampler), before);
    sampler.publish(weights(&Geometry { hidden: 32, ..g }, 1), WeightsVersion(9));
    assert_ne!(run(&mut sampler), before);
}

#[test]
fn forgetting_frees() {
    // As the trainer does it: it knows the policy by the trait alone.
    fn forget<P: Policy>(policy: &mut P, sequence: u64) {
        policy.forget(SequenceId(sequence));
    }
    let mut sampler = sampler(&weights(&geometry(), 1), 1 << 20, 64);
    finish(&mut sampler, &mut [Node::new(1, &[1], 2), Node::new(2, &[1], 2)]);
    assert_eq!(sampler.cached(), 2);
    forget(&mut sampler, 1);
    forget(&mut sampler, 1);
    assert_eq!(sampler.cached(), 1);
    forget(&mut sampler, 2);
    assert_eq!(sampler.cached(), 0);
}

#[test]
fn broken_weights_and_requests_are_named() {
    let g = geometry();
    for name in [
        "lm_head",
        "model.layers.0.self_attn.k_proj",
        "model.layers.1.mlp.gate_proj",
        "model.norm",
    ] {
        let mut raw = raw_weights(&g, 1);
        raw.get_mut(&format!("{name}.weight")).unwrap().1[5] = f32::NAN;
        let weights = SamplerWeights::pack(&g, &tensors(&raw)).unwrap();
        let error = call(
            &mut sampler(&weights, 1 << 20, 64),
            &mut [&mut Node::new(42, &[1, 2, 3], 4)],
        );
        assert_eq!(
            error,
            Err(SamplerError::NonFinite {
                sequence: SequenceId(42)
            }),
            "{name}"
        );
    }
    let mut sampler = sampler(&weights(&g, 1), 1 << 20, 64);
    let mut fine = Node::new(1, &[1], 4);
    let unknown = SamplerError::UnknownToken {
        sequence: SequenceId(2),
        token: Token(37),
        vocab: 37,
    };
    assert_eq!(
        call(&mut sampler, &mut [&mut fine, &mut Node::new(2, &[1, 37], 4)]),
        Err(unknown)
    );
    let empty = SamplerError::EmptyPrompt {
        sequence: SequenceId(3),
    };
    assert_eq!(
        call(&mut sampler, &mut [&mut fine, &mut Node::new(3, &[], 4)]),
        Err(empty)
    );
    let mut cold = Node {
        temperature: -1.0,
        ..Node::new(4, &[1], 4)
    };
    let error = call(&mut sampler, &mut [&mut fine, &mut cold]).unwrap_err();
    assert_eq!(error.to_string(), "sequence 4 asks for temperature -1");
    assert_eq!(fine.len, 0, "a refused batch draws nothing");
    assert_eq!(call(&mut sampler, &mut [&mut fine]), Ok(1));
}

#[test]
fn wrong_tensors_are_named() {
    let g = geometry();
    let mut raw = raw_weights(&g, 1);
    raw.insert("model.norm.weight".into(), (vec![23], vec![1.0; 23]));
    let error = SamplerWeights::pack(&g, &tensors(&raw)).unwrap_err();
    assert_eq!(error.to_string(), "`model.norm.weight` has shape [23], expected [24]");
    raw.remove("model.layers.1.mlp.up_proj.weight");
    let error = SamplerWeights::pack(&g, &tensors(&raw)).unwrap_err();
    assert_eq!(error.to_string(), "weights lack `model.layers.1.mlp.up_proj.weight`");
    for (rope_theta, rms_eps) in [(0.0, 1e-6), (-1.0, 1e-6), (f64::NAN, 1e-6), (1e4, 0.0)] {
        let g = Geometry {
            rope_theta,
            rms_eps,
            ..g.clone()
        };
        assert!(
            matches!(g.validate(), Err(GeometryError::Constant { .. })),
            "{rope_theta} {rms_eps}"
        );
    }
    let error = SamplerWeights::pack(&Geometry { kv_heads: 3, ..g }, &tensors(&raw)).unwrap_err();
    assert!(matches!(
        error,
        PackError::Geometry(GeometryError::Heads { heads: 4, kv_heads: 3 })
    ));
}
