//! Log-probabilities against the plain f64 decoder.

use crate::support::*;
use rao_backends::candle::sampler::Geometry;

fn check(g: &Geometry, seed: u64) {
    let raw = raw_weights(g, seed);
    let mut noise = Noise(seed ^ 0xabc);
    let mut nodes: Vec<Node> = (0..5)
        .map(|i| {
            let prompt: Vec<u32> = (0..1 + noise.below(30)).map(|_| noise.below(g.vocab) as u32).collect();
            let mut node = Node::new(i, &prompt, 1 + noise.below(24));
            node.temperature = [1.0, 0.0, 0.7, 2.5][noise.below(4)];
            let grammar = Grammar {
                vocab: g.vocab as u32,
                phase: (i % 3) as u32,
                end: u32::MAX,
            };
            if i % 2 == 0 { node.masked(grammar, 0) } else { node }
        })
        .collect();
    let mut sampler = sampler(&weights(g, seed), 1 << 20, 7);
    finish(&mut sampler, &mut nodes);
    for node in &nodes {
        let context: Vec<u32> = node.prompt.iter().chain(&node.tokens).map(|token| token.0).collect();
        let logits = reference(g, &raw, &context);
        let temperature = if node.temperature == 0.0 {
            1.0
        } else {
            f64::from(node.temperature)
        };
        for i in 0..node.len {
            let allow = |token| node.grammar.as_ref().is_none_or(|grammar| grammar.allows(token, i));
            let exact = log_softmax(&logits[node.prompt.len() + i - 1], temperature, allow);
            let token = node.tokens[i].0 as usize;
            let error = (f64::from(node.logprobs[i]) - exact[token]).abs();
            assert!(error < 1e-4, "{g:?}: off by {error} at {i} of {node:?}");
            if node.temperature == 0.0 {
                assert!(
                    exact.iter().all(|other| *other < exact[token] + 1e-4),
                    "greedy took a lesser token"
                );
            }
        }
    }
}

#[test]
fn grouped_heads_and_odd_sizes() {
    for (seed, (heads, kv_heads)) in [(4, 4), (4, 2), (4, 1), (6, 3), (3, 1)].into_iter().enumerate() {
        for tied in [false, true] {
            check(
                &Geometry {
                    heads,
                    kv_heads,
                    tied,
                    ..geometry()
                },
                seed as u64,
            );
        }
    }
}

#[test]
fn random_geometries() {
    let mut noise = Noise(11);
    for seed in 0..24 {
        let kv_heads = 1 + noise.below(3);
        let g = Geometry {
            vocab: 2 + noise.below(150),
            hidden: 1 + noise.below(70),
            layers: 1 + noise.below(3),
            heads: kv_heads << noise.below(3),
            kv_heads,
            head_dim: 2 * (1 + noise.below(20)),
            ff: 1 + noise.below(90),
            rope_theta: [1000.0, 1e6][noise.below(2)],
            rope_scaling: None,
            rms_eps: 1e-6,
            tied: noise.below(2) == 0,
            max_positions: 64,
        };
        check(&g, seed);
    }
}

#[test]
fn the_quickstart_shape() {
    let shape = Geometry {
        vocab: 113,
        hidden: 64,
        heads: 4,
        kv_heads: 4,
        head_dim: 16,
        ff: 128,
        ..geometry()
    };
    check(&shape, 3);
}
