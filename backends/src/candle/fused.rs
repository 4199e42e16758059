//! The decoder on the CPU: forward and backward over plain slices, with every intermediate in memory that is kept between calls.
//!
//! The backward pass is written out instead of recorded: a recorded graph allocates and clears a tensor per operation and per
//! gradient, which at small widths costs more than the arithmetic. The chain is pinned to Candle's differentiation by tests.

use super::batch::Micro;
use super::config::ModelConfig;
use super::ops::head::{self, Choice, Choices, HeadGradient};
use super::ops::linear::{self, Store};
use super::ops::{Team, attention, rms_norm, rope, swiglu};
use super::parts::{LayerParts, Parts};

/// What the way back needs of one block. `n` tokens, `m` rows after attention: in the last block only those that an action reads.
#[derive(Debug, Default)]
struct Tape {
    /// `[n, h]`: what entered the block.
    input: Vec<f32>,
    /// `[n]`.
    input_inv: Vec<f32>,
    /// `[n, h]`.
    input_normed: Vec<f32>,
    /// `[n, q + 2 k]`: queries, keys and values as projected.
    projections: Vec<f32>,
    /// `[n, q + k]`: queries and keys, normalised and turned.
    query_key: Vec<f32>,
    /// What attention keeps.
    kept: Vec<f32>,
    /// `[m, q]`.
    attended: Vec<f32>,
    /// `[m, h]`: between attention and SwiGLU.
    middle: Vec<f32>,
    /// `[m]`.
    middle_inv: Vec<f32>,
    /// `[m, h]`.
    middle_normed: Vec<f32>,
    /// `[m, 2 f]`.
    gate_up: Vec<f32>,
}

/// Memory of one forward and backward pass, reused from call to call.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    tapes: Vec<Tape>,
    angles: rope::Angles,
    /// `[m, h]`: what left the last block.
    output: Vec<f32>,
    output_inv: Vec<f32>,
    /// `[m, h]`: what the output layer reads.
    pub(super) hidden: Vec<f32>,
    /// `[n, q]`: attention of the last block, before rows are chosen.
    attended_all: Vec<f32>,
    /// `[n, f]`.
    activation: Vec<f32>,
    /// `[n, h]`: gradient of the residual stream.
    slope: Vec<f32>,
    /// `[n, h]`: gradient of a normed input.
    slope_normed: Vec<f32>,
    /// `[n, h]`, `[n, q]`: the rows of the last block, back among all tokens.
    slope_all: Vec<f32>,
    slope_attended_all: Vec<f32>,
    slope_attended: Vec<f32>,
    slope_projections: Vec<f32>,
    logits: Vec<f32>,
    scratch: Vec<f32>,
}

/// One model on some weights.
#[derive(Clone, Copy)]
pub(crate) struct Fused<'a> {
    pub config: &'a ModelConfig,
    pub weights: &'a Parts<&'a [f32]>,
    pub team: Team,
}

/// What a choice does to the loss: called once per action with its index in the part.
pub(crate) type Slope<'a> = &'a mut dyn FnMut(usize, Choice) -> f32;

impl Fused<'_> {
    /// Looks at every choice of the part, after [`forward`](Self::forward). May be called again: it leaves what it reads as it is.
    pub(crate) fn look(self, choices: Choices<'_>, space: &mut Workspace, look: Slope<'_>) {
        let Workspace { hidden, logits, .. } = space;
        let (h, weight) = (self.config.hidden_size, self.weights.head.unwrap_or(self.weights.embed));
        head::run(self.team, hidden, weight, h, choices, logits, look, None);
    }

    /// Looks at every choice of the part, after [`forward`](Self::forward), and adds to the gradients.
    pub(crate) fn differentiate(
        self,
        micro: &Micro,
        choices: Choices<'_>,
        space: &mut Workspace,
        slope: Slope<'_>,
        gradients: &mut Parts<&mut [f32]>,
    ) {
        let h = self.config.hidden_size;
        let weight = self.weights.head.unwrap_or(self.weights.embed);
        let Workspace {
            hidden,
            logits,
            slope_normed,
            ..
        } = space;
        let slope_hidden = zeroed(slope_normed, micro.rows.len() * h);
        let weight_gradient = gradients.head.as_deref_mut().unwrap_or(gradients.embed);
        let gradient = HeadGradient {
            hidden: slope_hidden,
            weight: weight_gradient,
        };
        head::run(self.team, hidden, weight, h, choices, logits, slope, Some(gradient));
        self.backward(micro, space, gradients);
    }

    fn heads(self) -> rope::Heads {
        let config = self.config;
        rope::Heads {
            query: config.num_attention_heads,
            key: config.num_key_value_heads,
            dim: config.head_dim,
            stride: self.stride(),
            eps: config.rms_norm_eps as f32,
        }
    }

    fn shape(self) -> attention::Shape {
        let config = self.config;
        attention::Shape {
            query: config.num_attention_heads,
            key: config.num_key_value_heads,
            dim: config.head_dim,
        }
    }

    /// Width of queries, keys and values together.
    fn stride(self) -> usize {
        self.config.query_width() + 2 * self.config.key_width()
    }

    /// Computes what the output layer reads, and keeps what the way back needs.
    pub(crate) fn forward(self, micro: &Micro, space: &mut Workspace) {
        let (config, team) = (self.config, self.team);
        let (h, eps) = (config.hidden_size, config.rms_norm_eps as f32);
        let longest = micro.positions.iter().max().map_or(0, |last| *last as usize + 1);
        space.angles.reach(longest, config.head_dim, config.rope_theta);
        space.tapes.resize_with(config.num_hidden_layers, Tape::default);
        let input = sized(&mut space.tapes[0].input, micro.tokens.len() * h);
        for (row, &token) in input.chunks_exact_mut(h).zip(&micro.tokens) {
            row.copy_from_slice(&self.weights.embed[token as usize * h..][..h]);
        }
        for layer in 0..config.num_hidden_layers {
            self.forward_layer(layer, micro, space);
        }
        let m = micro.rows.len();
        let (hidden, inv) = (sized(&mut space.hidden, m * h), sized(&mut space.output_inv, m));
        rms_norm::forward(team, &space.output, self.weights.norm, eps, hidden, inv);
    }

    fn forward_layer(self, layer: usize, micro: &Micro, space: &mut Workspace) {
        let (config, team, n) = (self.config, self.team, micro.tokens.len());
        let (h, q, k, f) = (
            config.hidden_size,
            config.query_width(),
            config.key_width(),
            config.intermediate_size,
        );
        let (eps, stride) = (config.rms_norm_eps as f32, self.stride());
        let w = &self.weights.layers[layer];
        let last = layer + 1 == config.num_hidden_layers;
        let (tapes, later) = space.tapes.split_at_mut(layer + 1);
        let tape = &mut tapes[layer];

        let normed = sized(&mut tape.input_normed, n * h);
        rms_norm::forward(
            team,
            &tape.input,
            w.input_norm,
            eps,
            normed,
            sized(&mut tape.input_inv, n),
        );
        let projections = sized(&mut tape.projections, n * stride);
        for (weight, width, column) in [(w.q, q, 0), (w.k, k, q), (w.v, k, q + k)] {
            linear::forward(
                team,
                normed,
                weight,
                n,
                (h, width),
                &mut projections[column..],
                stride,
                Store::Set,
            );
        }
        let query_key = sized(&mut tape.query_key, n * (q + k));
        let angles = space.angles.rows();
        rope::forward(
            team,
            self.heads(),
            projections,
            &micro.positions,
            angles,
            w.q_norm,
            w.k_norm,
            query_key,
        );
        let kept = sized(&mut tape.kept, attention::kept(self.shape(), &micro.offsets));
        let m = if last { micro.rows.len() } else { n };
        let middle = sized(&mut tape.middle, m * h);
        if last {
            let all = sized(&mut space.attended_all, n * q);
            attention::forward(
                team,
                self.shape(),
                &micro.offsets,
                query_key,
                projections,
                all,
                kept,
                &mut space.scratch,
            );
            gather(&micro.rows, q, all, sized(&mut tape.attended, m * q));
            gather(&micro.rows, h, &tape.input, middle);
        } else {
            let attended = sized(&mut tape.attended, m * q);
            attention::forward(
                team,
                self.shape(),
                &micro.offsets,
                query_key,
                projections,
                attended,
                kept,
                &mut space.scratch,
            );
            middle.copy_from_slice(&tape.input);
        }
        linear::forward(team, &tape.attended, w.o, m, (q, h), middle, h, Store::Add);

        let normed = sized(&mut tape.middle_normed, m * h);
        rms_norm::forward(team, middle, w.post_norm, eps, normed, sized(&mut tape.middle_inv, m));
        let gate_up = sized(&mut tape.gate_up, m * 2 * f);
        for (weight, column) in [(w.gate, 0), (w.up, f)] {
            linear::forward(
                team,
                normed,
                weight,
                m,
                (h, f),
                &mut gate_up[column..],
                2 * f,
                Store::Set,
            );
        }
        let activation = sized(&mut space.activation, m * f);
        swiglu::forward(team, gate_up, f, activation);
        let output = later.first_mut().map_or(&mut space.output, |next| &mut next.input);
        let output = sized(output, m * h);
        output.copy_from_slice(middle);
        linear::forward(team, activation, w.down, m, (f, h), output, h, Store::Add);
    }

    /// From the gradient of `hidden`, which stands in `slope_normed`.
    fn backward(self, micro: &Micro, space: &mut Workspace, gradients: &mut Parts<&mut [f32]>) {
        let h = self.config.hidden_size;
        let slope = zeroed(&mut space.slope, micro.rows.len() * h);
        rms_norm::backward(
            self.team,
            &space.slope_normed,
            &space.output,
            &space.output_inv,
            self.weights.norm,
            slope,
            gradients.norm,
        );
        for layer in (0..self.config.num_hidden_layers).rev() {
            self.backward_layer(layer, micro, space, &mut gradients.layers[layer]);
        }
        for (row, &token) in space.slope.chunks_exact(h).zip(&micro.tokens) {
            let to = &mut gradients.embed[token as usize * h..][..h];
            to.iter_mut().zip(row).for_each(|(sum, part)| *sum += part);
        }
    }

    fn backward_layer(self, layer: usize, micro: &Micro, space: &mut Workspace, g: &mut LayerParts<&mut [f32]>) {
        let (config, team, n) = (self.config, self.team, micro.tokens.len());
        let (h, q, k, f) = (
            config.hidden_size,
            config.query_width(),
            config.key_width(),
            config.intermediate_size,
        );
        let stride = self.stride();
        let w = &self.weights.layers[layer];
        let last = layer + 1 == config.num_hidden_layers;
        let m = if last { micro.rows.len() } else { n };
        let tape = &mut space.tapes[layer];
        let set = Store::Set;

        let activation = sized(&mut space.activation, m * f);
        linear::backward_input(team, &space.slope, h, w.down, m, (f, h), activation, set);
        swiglu::backward(team, &mut tape.gate_up, f, activation);
        linear::backward_weight(team, &space.slope, h, activation, m, (f, h), g.down);
        let normed = sized(&mut space.slope_normed, m * h);
        for (weight, grad, column, store) in [(w.gate, &mut g.gate, 0, set), (w.up, &mut g.up, f, Store::Add)] {
            let slope = &tape.gate_up[column..];
            linear::backward_input(team, slope, 2 * f, weight, m, (h, f), normed, store);
            linear::backward_weight(team, slope, 2 * f, &tape.middle_normed, m, (h, f), grad);
        }
        rms_norm::backward(
            team,
            normed,
            &tape.middle,
            &tape.middle_inv,
            w.post_norm,
            &mut space.slope,
            g.post_norm,
        );

        let attended = sized(&mut space.slope_attended, m * q);
        linear::backward_input(team, &space.slope, h, w.o, m, (q, h), attended, set);
        linear::backward_weight(team, &space.slope, h, &tape.attended, m, (q, h), g.o);
        let attended: &[f32] = if last {
            let all = zeroed(&mut space.slope_all, n * h);
            scatter(&micro.rows, h, &space.slope, all);
            std::mem::swap(&mut space.slope, &mut space.slope_all);
            let all = zeroed(&mut space.slope_attended_all, n * q);
            scatter(&micro.rows, q, attended, all);
            all
        } else {
            attended
        };
        let projections = sized(&mut space.slope_projections, n * stride);
        let (query_key, kept) = (&tape.query_key, &tape.kept);
        attention::backward(
            team,
            self.shape(),
            &micro.offsets,
            query_key,
            &tape.projections,
            kept,
            attended,
            projections,
            &mut space.scratch,
        );
        let dw = [&mut *g.q_norm, &mut *g.k_norm];
        let angles = space.angles.rows();
        let heads = self.heads();
        rope::backward(
            team,
            heads,
            &tape.projections,
            &micro.positions,
            angles,
            w.q_norm,
            w.k_norm,
            projections,
            dw,
        );
        let normed = sized(&mut space.slope_normed, n * h);
        for (weight, grad, width, column, store) in [
            (w.q, &mut g.q, q, 0, set),
            (w.k, &mut g.k, k, q, Store::Add),
            (w.v, &mut g.v, k, q + k, Store::Add),
        ] {
            let slope = &projections[column..];
            linear::backward_input(team, slope, stride, weight, n, (h, width), normed, store);
            linear::backward_weight(team, slope, stride, &tape.input_normed, n, (h, width), grad);
        }
        rms_norm::backward(
            team,
            normed,
            &tape.input,
            &tape.input_inv,
            w.input_norm,
            &mut space.slope,
            g.input_norm,
        );
    }
}

/// A buffer of exactly `count` numbers, whatever they are.
fn sized(buffer: &mut Vec<f32>, count: usize) -> &mut [f32] {
    buffer.resize(count, 0.0);
    buffer
}

/// A buffer of exactly `count` zeros.
fn zeroed(buffer: &mut Vec<f32>, count: usize) -> &mut [f32] {
    buffer.clear();
    buffer.resize(count, 0.0);
    buffer
}

/// `to[i] = from[rows[i]]`, rows of `width`.
fn gather(rows: &[usize], width: usize, from: &[f32], to: &mut [f32]) {
    for (to, row) in to.chunks_exact_mut(width).zip(rows) {
        to.copy_from_slice(&from[row * width..][..width]);
    }
}

/// `to[rows[i]] = from[i]`, rows of `width`.
fn scatter(rows: &[usize], width: usize, from: &[f32], to: &mut [f32]) {
    for (from, row) in from.chunks_exact(width).zip(rows) {
        to[row * width..][..width].copy_from_slice(from);
    }
}
