//! The same bits whatever the company, the chunking and the cache.

use crate::support::*;
use rao_backends::candle::sampler::SamplerWeights;
use rao_tree::{Policy, SequenceId};
use std::sync::Arc;

fn crowd(count: usize, vocab: usize, seed: u64) -> Vec<Node> {
    let mut noise = Noise(seed);
    (0..count as u64)
        .map(|i| {
            let prompt: Vec<u32> = (0..1 + noise.below(40)).map(|_| noise.below(vocab) as u32).collect();
            let mut node = Node::new(i, &prompt, noise.below(40));
            node.temperature = [1.0, 1.0, 0.0, 0.5][noise.below(4)];
            let grammar = Grammar {
                vocab: vocab as u32,
                phase: noise.below(3) as u32,
                end: noise.below(vocab) as u32,
            };
            if noise.below(2) == 0 {
                node.masked(grammar, 1)
            } else {
                node
            }
        })
        .collect()
}

/// Each node alone, its cache thrown away: nothing can interfere.
fn alone(weights: &Arc<SamplerWeights>, nodes: &[Node]) -> Vec<Node> {
    let one = |node: &Node| {
        let mut nodes = [node.clone()];
        finish(&mut sampler(weights, 1 << 20, 256), &mut nodes);
        let [node] = nodes;
        node
    };
    nodes.iter().map(one).collect()
}

fn assert_same(expected: &[Node], found: &[Node], what: &str) {
    for (expected, found) in expected.iter().zip(found) {
        assert_eq!(
            expected.outcome(),
            found.outcome(),
            "{what}: node {}",
            expected.sequence
        );
        let words = expected.len * expected.words;
        assert_eq!(
            expected.masks[..words],
            found.masks[..words],
            "{what}: masks of node {}",
            expected.sequence
        );
    }
}

#[test]
fn one_or_two_hundred_any_chunk_any_cache() {
    let g = geometry();
    let weights = weights(&g, 1);
    let nodes = crowd(200, g.vocab, 2);
    let expected = alone(&weights, &nodes);
    for (cache, chunk) in [
        (64 << 20, 256),
        (64 << 20, 1),
        (64 << 20, 13),
        (0, 256),
        (100_000, 64),
        (400_000, 5),
    ] {
        let mut sampler = sampler(&weights, cache, chunk);
        let mut found = nodes.clone();
        finish(&mut sampler, &mut found);
        assert_same(&expected, &found, &format!("cache {cache}, chunk {chunk}"));
    }
}

/// Random subsets per call, some evicted by hand, some requests recomputed from a completion that only the caller remembers.
#[test]
fn join_and_leave() {
    let g = geometry();
    let weights = weights(&g, 1);
    let nodes = crowd(60, g.vocab, 3);
    let expected = alone(&weights, &nodes);
    for cache in [64 << 20, 60_000] {
        let mut noise = Noise(cache as u64);
        let mut sampler = sampler(&weights, cache, 32);
        let mut found = nodes.clone();
        while found.iter().any(|node| node.stop.is_none()) {
            let mut chosen: Vec<&mut Node> = found.iter_mut().filter(|_| noise.below(4) == 0).collect();
            call(&mut sampler, &mut chosen).unwrap();
            sampler.forget(SequenceId(noise.below(60) as u64));
        }
        assert_same(&expected, &found, &format!("cache {cache}"));
    }
}

/// Turns of one node: what was drawn and what was observed become the next prompt, under the same name.
#[test]
fn turns_continue_where_the_cache_ends() {
    let g = geometry();
    let weights = weights(&g, 4);
    let mut kept = sampler(&weights, 64 << 20, 256);
    let mut prompt = vec![3, 1, 2];
    for turn in 0..8 {
        let mut cached = [Node::new(9, &prompt, 3)];
        cached[0].seed = turn;
        let fresh = alone(&weights, &cached);
        finish(&mut kept, &mut cached);
        assert_same(&fresh, &cached, &format!("turn {turn}"));
        prompt.extend(cached[0].tokens.iter().map(|token| token.0));
        prompt.extend([turn as u32, 7]);
        if turn == 5 {
            prompt.truncate(12);
            prompt[11] = 30;
        }
    }
}

/// The name is a hint: two requests that share one are still right.
#[test]
fn a_shared_name_harms_nobody() {
    let g = geometry();
    let weights = weights(&g, 4);
    let mut nodes = crowd(12, g.vocab, 8);
    for node in &mut nodes {
        node.sequence %= 3;
    }
    let expected = alone(&weights, &nodes);
    finish(&mut sampler(&weights, 64 << 20, 16), &mut nodes);
    assert_same(&expected, &nodes, "shared names");
}

#[test]
fn samplers_on_threads_agree() {
    let g = geometry();
    let weights = weights(&g, 1);
    let nodes = crowd(40, g.vocab, 5);
    let run = || {
        let mut nodes = nodes.clone();
        finish(&mut sampler(&weights, 1 << 20, 64), &mut nodes);
        nodes
    };
    let (a, b) = std::thread::scope(|scope| {
        let other = scope.spawn(run);
        (run(), other.join().unwrap())
    });
    assert_same(&a, &b, "threads");
}
