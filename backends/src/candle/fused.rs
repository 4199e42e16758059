//! The decoder on the CPU: forward and backward over plain slices, with every intermediate in memory that is kept between calls.
//!
//! The backward pass is written out instead of recorded: a recorded graph allocates and clears a tensor per operation and per
//! gradient, which at small widths costs more than the arithmetic. The chain is pinned to Candle's differentiation by tests.

use super::batch::Micro;
use super::config::ModelConfig;
use super::ops::head::{self, Choice, Choices, HeadGradient};
use super::ops::linear::Store;
use super::ops::projection::{self, Gradient, Scratch, Size, Weight};
use super::ops::{Team, attention, rms_norm, rope, swiglu};
use super::parts::{LayerParts, Parts};

/// What the way back needs of one block, besides what entered it. `n` tokens, `m` rows after attention: in the last block only those
/// that an action reads.
#[derive(Debug, Default)]
struct Tape {
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
    /// `[n, h]` by block: what entered it.
    inputs: Vec<Vec<f32>>,
    /// One for every block, or one that all share where blocks are computed again on the way back.
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
    attention: Vec<f32>,
    scratch: Scratch,
    /// Gradients of norms that do not learn: nobody reads them.
    void: Vec<f32>,
}

/// One model on some weights.
#[derive(Clone, Copy)]
pub(crate) struct Fused<'a> {
    pub config: &'a ModelConfig,
    pub weights: &'a Parts<Weight<'a>>,
    pub team: Team,
    /// Keep only what enters a block, and compute the block again on the way back (Chen et al., arXiv 1604.06174).
    pub checkpoint: bool,
}

/// What a choice does to the loss: called once per action with its index in the part.
pub(crate) type Slope<'a> = &'a mut dyn FnMut(usize, Choice) -> f32;

impl<'a> Fused<'a> {
    /// Looks at every choice of the part, after [`forward`](Self::forward). May be called again: it leaves what it reads as it is.
    pub(crate) fn look(self, choices: Choices<'_>, space: &mut Workspace, look: Slope<'_>) {
        let Workspace {
            hidden,
            logits,
            scratch,
            ..
        } = space;
        let (h, weight) = (self.config.hidden_size, self.head());
        let memory = (logits, &mut scratch.panel);
        head::run(self.team, hidden, weight, h, choices, memory, look, None);
    }

    /// Looks at every choice of the part, after [`forward`](Self::forward), and adds to the gradients.
    pub(crate) fn differentiate(
        self,
        micro: &Micro,
        choices: Choices<'_>,
        space: &mut Workspace,
        slope: Slope<'_>,
        gradients: &mut Parts<Gradient<'_>>,
    ) {
        let h = self.config.hidden_size;
        let Workspace {
            hidden,
            logits,
            slope_normed,
            scratch,
            ..
        } = space;
        let slope_hidden = zeroed(slope_normed, micro.rows.len() * h);
        let weight_gradient = gradients.head.as_mut().unwrap_or(&mut gradients.embed);
        let gradient = HeadGradient {
            hidden: slope_hidden,
            weight: weight_gradient.full(),
        };
        let memory = (logits, &mut scratch.panel);
        head::run(
            self.team,
            hidden,
            self.head(),
            h,
            choices,
            memory,
            slope,
            Some(gradient),
        );
        self.backward(micro, space, gradients);
    }

    fn head(self) -> projection::Stored<'a> {
        self.weights.head.unwrap_or(self.weights.embed).stored
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
        space.angles.reach(longest, config);
        let tapes = if self.checkpoint { 1 } else { config.num_hidden_layers };
        space.tapes.resize_with(tapes, Tape::default);
        space.inputs.resize_with(config.num_hidden_layers, Vec::new);
        let (input, panel) = (
            sized(&mut space.inputs[0], micro.tokens.len() * h),
            &mut space.scratch.panel,
        );
        for (row, &token) in input.chunks_exact_mut(h).zip(&micro.tokens) {
            let embed = self.weights.embed.stored;
            row.copy_from_slice(embed.widened(Team::SERIAL, token as usize * h, h, panel));
        }
        for layer in 0..config.num_hidden_layers {
            self.forward_layer(layer, micro, space);
        }
        let m = micro.rows.len();
        let (hidden, inv) = (sized(&mut space.hidden, m * h), sized(&mut space.output_inv, m));
        rms_norm::forward(team, &space.output, self.weights.norm.stored.gains(), eps, hidden, inv);
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
        let tape = &mut space.tapes[if self.checkpoint { 0 } else { layer }];
        let (inputs, later) = space.inputs.split_at_mut(layer + 1);
        let (input, scratch) = (&inputs[layer], &mut space.scratch);
        let size = |n, inner, outer, stride| Size {
            n,
            inner,
            outer,
            stride,
        };

        let normed = sized(&mut tape.input_normed, n * h);
        let inv = sized(&mut tape.input_inv, n);
        rms_norm::forward(team, input, w.input_norm.stored.gains(), eps, normed, inv);
        let projections = sized(&mut tape.projections, n * stride);
        for (weight, width, column) in [(w.q, q, 0), (w.k, k, q), (w.v, k, q + k)] {
            let (size, y) = (size(n, h, width, stride), &mut projections[column..]);
            projection::forward(team, normed, weight, size, y, Store::Set, scratch);
        }
        let query_key = sized(&mut tape.query_key, n * (q + k));
        let angles = space.angles.rows();
        rope::forward(
            team,
            self.heads(),
            projections,
            &micro.positions,
            angles,
            w.q_norm.stored.gains(),
            w.k_norm.stored.gains(),
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
                &mut space.attention,
            );
            gather(&micro.rows, q, all, sized(&mut tape.attended, m * q));
            gather(&micro.rows, h, input, middle);
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
                &mut space.attention,
            );
            middle.copy_from_slice(input);
        }
        let attended = &tape.attended;
        projection::forward(team, attended, w.o, size(m, q, h, h), middle, Store::Add, scratch);

        let normed = sized(&mut tape.middle_normed, m * h);
        let inv = sized(&mut tape.middle_inv, m);
        rms_norm::forward(team, middle, w.post_norm.stored.gains(), eps, normed, inv);
        let gate_up = sized(&mut tape.gate_up, m * 2 * f);
        for (weight, column) in [(w.gate, 0), (w.up, f)] {
            let (size, y) = (size(m, h, f, 2 * f), &mut gate_up[column..]);
            projection::forward(team, normed, weight, size, y, Store::Set, scratch);
        }
        let activation = sized(&mut space.activation, m * f);
        swiglu::forward(team, gate_up, f, activation);
        let output = later.first_mut().unwrap_or(&mut space.output);
        let output = sized(output, m * h);
        output.copy_from_slice(middle);
        projection::forward(team, activation, w.down, size(m, f, h, h), output, Store::Add, scratch);
    }

    /// From the gradient of `hidden`, which stands in `slope_normed`.
    fn backward(self, micro: &Micro, space: &mut Workspace, gradients: &mut Parts<Gradient<'_>>) {
        let h = self.config.hidden_size;
        let slope = zeroed(&mut space.slope, micro.rows.len() * h);
        rms_norm::backward(
            self.team,
            &space.slope_normed,
            &space.output,
            &space.output_inv,
            self.weights.norm.stored.gains(),
            slope,
            gains(&mut gradients.norm, &mut space.void, h),
        );
        let last = self.config.num_hidden_layers - 1;
        for layer in (0..=last).rev() {
            // The tape of the last block is still there.
            if self.checkpoint && layer < last {
                self.forward_layer(layer, micro, space);
            }
            let goes_on = layer > 0 || gradients.embed.full().is_some();
            self.backward_layer(layer, micro, space, &mut gradients.layers[layer], goes_on);
        }
        let Some(embed) = gradients.embed.full() else { return };
        for (row, &token) in space.slope.chunks_exact(h).zip(&micro.tokens) {
            let to = &mut embed[token as usize * h..][..h];
            to.iter_mut().zip(row).for_each(|(sum, part)| *sum += part);
        }
    }

    /// `goes_on`: somebody below learns from the gradient of what entered the block.
    fn backward_layer(
        self,
        layer: usize,
        micro: &Micro,
        space: &mut Workspace,
        g: &mut LayerParts<Gradient<'_>>,
        goes_on: bool,
    ) {
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
        let tape = &mut space.tapes[if self.checkpoint { 0 } else { layer }];
        let (set, scratch) = (Store::Set, &mut space.scratch);
        let size = |n, inner, outer, stride| Size {
            n,
            inner,
            outer,
            stride,
        };

        let activation = sized(&mut space.activation, m * f);
        let down = size(m, f, h, h);
        projection::backward_input(team, &space.slope, w.down, down, activation, set, scratch);
        swiglu::backward(team, &mut tape.gate_up, f, activation);
        projection::backward_weight(team, &space.slope, activation, w.down, down, &mut g.down, scratch);
        let normed = sized(&mut space.slope_normed, m * h);
        for (weight, grad, column, store) in [(w.gate, &mut g.gate, 0, set), (w.up, &mut g.up, f, Store::Add)] {
            let (slope, size) = (&tape.gate_up[column..], size(m, h, f, 2 * f));
            projection::backward_input(team, slope, weight, size, normed, store, scratch);
            projection::backward_weight(team, slope, &tape.middle_normed, weight, size, grad, scratch);
        }
        rms_norm::backward(
            team,
            normed,
            &tape.middle,
            &tape.middle_inv,
            w.post_norm.stored.gains(),
            &mut space.slope,
            gains(&mut g.post_norm, &mut space.void, h),
        );

        let attended = sized(&mut space.slope_attended, m * q);
        let out = size(m, q, h, h);
        projection::backward_input(team, &space.slope, w.o, out, attended, set, scratch);
        projection::backward_weight(team, &space.slope, &tape.attended, w.o, out, &mut g.o, scratch);
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
            &mut space.attention,
        );
        let (void_query, void_key) = sized(&mut space.void, 2 * config.head_dim).split_at_mut(config.head_dim);
        let dw = [
            g.q_norm.full().unwrap_or(void_query),
            g.k_norm.full().unwrap_or(void_key),
        ];
        let angles = space.angles.rows();
        let heads = self.heads();
        rope::backward(
            team,
            heads,
            &tape.projections,
            &micro.positions,
            angles,
            w.q_norm.stored.gains(),
            w.k_norm.stored.gains(),
            projections,
            dw,
        );
        let normed = sized(&mut space.slope_normed, n * h);
        let goes_on = goes_on || g.input_norm.full().is_some();
        for (weight, grad, width, column, store) in [
            (w.q, &mut g.q, q, 0, set),
            (w.k, &mut g.k, k, q, Store::Add),
            (w.v, &mut g.v, k, q + k, Store::Add),
        ] {
            let (slope, size) = (&projections[column..], size(n, h, width, stride));
            if goes_on {
                projection::backward_input(team, slope, weight, size, normed, store, scratch);
            }
            projection::backward_weight(team, slope, &tape.input_normed, weight, size, grad, scratch);
        }
        if goes_on {
            rms_norm::backward(
                team,
                normed,
                &space.inputs[layer],
                &tape.input_inv,
                w.input_norm.stored.gains(),
                &mut space.slope,
                gains(&mut g.input_norm, &mut space.void, h),
            );
        }
    }
}

/// Where the gradient of a norm goes: into `void` if it does not learn.
fn gains<'s>(gradient: &'s mut Gradient<'_>, void: &'s mut Vec<f32>, count: usize) -> &'s mut [f32] {
    match gradient.full() {
        Some(values) => values,
        None => sized(void, count),
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
