//! Weights as the sampler streams them.

use super::geometry::{Geometry, GeometryError};
use super::matmul::Panels;
use super::simd::Aligned;
use candle_core::{DType, Tensor};
use std::collections::HashMap;
use std::sync::Arc;

/// One version of a decoder's weights, repacked for sampling. Share it between samplers by [`Arc`].
///
/// Takes about `4 * (parameters + vocab * hidden)` bytes: a tied output projection is stored a second time, as panels.
#[derive(Debug)]
pub struct SamplerWeights {
    pub(super) geometry: Geometry,
    /// `[vocab][hidden stride]`.
    pub(super) embedding: Aligned,
    pub(super) layers: Vec<Layer>,
    pub(super) norm: Aligned,
    pub(super) head: Panels,
}

/// Weights of one decoder layer.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) input_norm: Aligned,
    /// Queries, keys and values, each head padded to its stride.
    pub(super) qkv: Panels,
    /// Holds the attention's `1 / sqrt(head_dim)` as well.
    pub(super) q_norm: Aligned,
    pub(super) k_norm: Aligned,
    pub(super) o: Panels,
    pub(super) post_norm: Aligned,
    /// All gates, then all ups.
    pub(super) gate_up: Panels,
    pub(super) down: Panels,
}

/// Weights that cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The shape itself makes no sense.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// A tensor is not there.
    #[error("weights lack `{0}`")]
    Missing(String),
    /// A tensor has another shape than the geometry says.
    #[error("`{name}` has shape {found:?}, expected {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// What the geometry asks for.
        expected: Vec<usize>,
        /// What was found.
        found: Vec<usize>,
    },
    /// Candle could not hand the tensor over.
    #[error("cannot read `{name}`")]
    Tensor {
        /// The tensor.
        name: String,
        /// Candle's reason.
        source: candle_core::Error,
    },
}

impl SamplerWeights {
    /// Packs tensors under their Hugging Face names (`model.layers.0.self_attn.q_proj.weight` and so on, `[out, in]`), of any float type
    /// and on any device. `lm_head.weight` is read only when the geometry is not tied.
    ///
    /// # Errors
    /// [`PackError`] when the geometry is impossible or a tensor is missing, misshapen or unreadable.
    pub fn pack(geometry: &Geometry, tensors: &HashMap<String, Tensor>) -> Result<Arc<Self>, PackError> {
        Self::pack_from(geometry, |name| Ok(tensors.get(name).cloned()))
    }

    /// As [`pack`](Self::pack), from a function that makes each tensor when it is asked for, once, and says `None` where there is none: no
    /// second copy of all weights has to exist.
    ///
    /// # Errors
    /// [`PackError`], also where the function fails.
    pub fn pack_from(
        geometry: &Geometry,
        mut tensor: impl FnMut(&str) -> candle_core::Result<Option<Tensor>>,
    ) -> Result<Arc<Self>, PackError> {
        Self::pack_with(geometry, |name| {
            let made = tensor(name).map_err(|source| PackError::Tensor {
                name: name.to_owned(),
                source,
            })?;
            let tensor = made.ok_or_else(|| PackError::Missing(name.to_owned()))?;
            let data = tensor
                .to_dtype(DType::F32)
                .and_then(|t| t.flatten_all())
                .and_then(|t| t.to_vec1::<f32>());
            let data = data.map_err(|source| PackError::Tensor {
                name: name.to_owned(),
                source,
            })?;
            Ok((tensor.dims().to_vec(), data))
        })
    }

    /// As [`pack`](Self::pack), from any source of `(shape, row-major floats)` by name.
    ///
    /// # Errors
    /// The source's own, and those of [`pack`](Self::pack).
    pub(super) fn pack_with(
        geometry: &Geometry,
        mut source: impl FnMut(&str) -> Result<(Vec<usize>, Vec<f32>), PackError>,
    ) -> Result<Arc<Self>, PackError> {
        geometry.validate()?;
        let mut read = |name: String, expected: &[usize]| -> Result<Vec<f32>, PackError> {
            let (found, data) = source(&name)?;
            if found != expected || data.len() != expected.iter().product::<usize>() {
                return Err(PackError::Shape {
                    name,
                    expected: expected.to_vec(),
                    found,
                });
            }
            Ok(data)
        };
        let g = geometry;
        let (hidden, vocab) = (g.hidden, g.vocab);
        let embed = read("model.embed_tokens.weight".into(), &[vocab, hidden])?;
        let layers = (0..g.layers)
            .map(|n| Layer::pack(g, &format!("model.layers.{n}"), &mut read))
            .collect::<Result<_, _>>()?;
        let norm = padded(&read("model.norm.weight".into(), &[hidden])?, g.hidden_stride(), 1.0);
        let head = if g.tied {
            None
        } else {
            Some(read("lm_head.weight".into(), &[vocab, hidden])?)
        };
        let head_rows = head.as_ref().unwrap_or(&embed);
        let head = Panels::pack(hidden, vocab, |c| Some(&head_rows[c * hidden..][..hidden]));
        let mut embedding = Aligned::zeroed(vocab * g.hidden_stride());
        for (to, from) in embedding
            .chunks_exact_mut(g.hidden_stride())
            .zip(embed.chunks_exact(hidden))
        {
            to[..hidden].copy_from_slice(from);
        }
        Ok(Arc::new(Self {
            geometry: g.clone(),
            embedding,
            layers,
            norm,
            head,
        }))
    }

    /// The shape they were packed for.
    #[must_use]
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }
}

impl Layer {
    fn pack(
        g: &Geometry,
        name: &str,
        read: &mut impl FnMut(String, &[usize]) -> Result<Vec<f32>, PackError>,
    ) -> Result<Self, PackError> {
        let (hidden, ff, dim, stride) = (g.hidden, g.ff, g.head_dim, g.head_stride());
        let (q_out, kv_out) = (g.heads * dim, g.kv_heads * dim);
        let mut projection =
            |part: &str, out: usize, depth: usize| read(format!("{name}.{part}.weight"), &[out, depth]);
        let q = projection("self_attn.q_proj", q_out, hidden)?;
        let k = projection("self_attn.k_proj", kv_out, hidden)?;
        let v = projection("self_attn.v_proj", kv_out, hidden)?;
        let o = projection("self_attn.o_proj", hidden, q_out)?;
        let gate = projection("mlp.gate_proj", ff, hidden)?;
        let up = projection("mlp.up_proj", ff, hidden)?;
        let down = projection("mlp.down_proj", hidden, ff)?;

        let qkv = Panels::pack(hidden, g.qkv_stride(), |column| {
            let (head, d) = (column / stride, column % stride);
            let (rows, head) = match head {
                head if head < g.heads => (&q, head),
                head if head < g.heads + g.kv_heads => (&k, head - g.heads),
                head if head < g.heads + 2 * g.kv_heads => (&v, head - g.heads - g.kv_heads),
                _ => return None,
            };
            (d < dim).then(|| &rows[(head * dim + d) * hidden..][..hidden])
        });
        let mut o_rows = vec![0.0; hidden * g.heads_stride()];
        for (to, from) in o_rows.chunks_exact_mut(stride).zip(o.chunks_exact(dim)) {
            to[..dim].copy_from_slice(from);
        }
        let o = Panels::pack(g.heads_stride(), g.hidden_stride(), |c| {
            (c < hidden).then(|| &o_rows[c * g.heads_stride()..][..g.heads_stride()])
        });
        let gate_up = Panels::pack(hidden, 2 * g.ff_stride(), |c| {
            let (rows, c) = if c < g.ff_stride() {
                (&gate, c)
            } else {
                (&up, c - g.ff_stride())
            };
            (c < ff).then(|| &rows[c * hidden..][..hidden])
        });
        let down = Panels::pack(ff, g.hidden_stride(), |c| (c < hidden).then(|| &down[c * ff..][..ff]));

        let mut norm = |part: &str, width: usize, stride: usize, scale: f32| {
            read(format!("{name}.{part}.weight"), &[width]).map(|weights| padded(&weights, stride, scale))
        };
        Ok(Self {
            input_norm: norm("input_layernorm", hidden, g.hidden_stride(), 1.0)?,
            qkv,
            q_norm: norm("self_attn.q_norm", dim, stride, 1.0 / (dim as f32).sqrt())?,
            k_norm: norm("self_attn.k_norm", dim, stride, 1.0)?,
            o,
            post_norm: norm("post_attention_layernorm", hidden, g.hidden_stride(), 1.0)?,
            gate_up,
            down,
        })
    }
}

fn padded(weights: &[f32], stride: usize, scale: f32) -> Aligned {
    let mut out = Aligned::zeroed(stride);
    for (out, weight) in out.iter_mut().zip(weights) {
        *out = weight * scale;
    }
    out
}
