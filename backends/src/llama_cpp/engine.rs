//! One context of llama.cpp and what is decoded in it.

use super::adapter::Adapter;
use super::cache::{Key, Place, Slots};
use super::error::{LlamaCppError, LoadError};
use super::file::FileInfo;
use super::options::{KvPrecision, LlamaCppOptions};
use super::{backend, log};
use crate::sampling::Draw;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::{KvCacheType, LlamaContextParams};
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use pulp::Arch;
use rao_tree::Token;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

/// One token wanted. Its buffers are shared with the thread while it draws.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) key: Key,
    /// The whole context, oldest first; at least one token.
    pub(super) context: Arc<Vec<u32>>,
    /// What may be drawn; everything where `masked` is false.
    pub(super) mask: Arc<Vec<u64>>,
    pub(super) masked: bool,
    pub(super) temperature: f32,
    /// Picks from the distribution, in 0..1.
    pub(super) uniform: f64,
    /// The token and its log-probability; `None` where a logit was not finite.
    pub(super) drawn: Option<(Token, f32)>,
}

/// The context, the batch it decodes next, and what its sequences hold.
pub(super) struct Engine<'m> {
    model: &'m LlamaModel,
    context: LlamaContext<'m>,
    /// What the context adds to the model. Behind it, so that it is dropped after it.
    adapter: Option<Adapter<'m>>,
    batch: LlamaBatch<'static>,
    /// Tokens that fit the batch.
    room: usize,
    slots: Slots,
    /// Of the batch: where a job's last token is.
    wanted: Vec<(i32, usize)>,
    draw: Draw,
    arch: Arch,
}

impl<'m> Engine<'m> {
    pub(super) fn new(model: &'m LlamaModel, options: &LlamaCppOptions) -> Result<Self, LoadError> {
        let LlamaCppOptions {
            slots, window, batch, ..
        } = *options;
        let refused = |reason| LoadError::Context { slots, window, reason };
        // Each sequence has its own stretch, which llama.cpp rounds up to 256 tokens.
        let cells = window.next_multiple_of(256).checked_mul(slots);
        let cells = cells.filter(|cells| i32::try_from(*cells).is_ok());
        let cells = cells.ok_or_else(|| refused("that is more than 2^31 tokens".to_owned()))?;
        let kv = match options.kv {
            KvPrecision::F32 => KvCacheType::F32,
            KvPrecision::F16 => KvCacheType::F16,
        };
        let threads = i32::try_from(options.threads).unwrap_or(i32::MAX);
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(cells))
            .with_n_seq_max(slots)
            .with_n_batch(batch)
            .with_n_ubatch(batch)
            .with_n_threads(threads)
            .with_n_threads_batch(threads)
            .with_type_k(kv)
            .with_type_v(kv)
            .with_kv_unified(false)
            .with_no_perf(true)
            .with_flash_attention_policy(llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_DISABLED);
        let backend = backend()?;
        let _alone = super::thread::load_lock();
        log::clear();
        let context = model.new_context(backend, params).map_err(|_| refused(log::reason()))?;
        Ok(Self {
            model,
            context,
            adapter: None,
            batch: LlamaBatch::new(batch as usize, 1),
            room: batch as usize,
            slots: Slots::new(slots as usize, options.share_min as usize),
            wanted: Vec::new(),
            draw: Draw::default(),
            arch: Arch::new(),
        })
    }

    /// Samples the model with this adapter from now on, in the place of any other; `info` describes the model. Where the adapter is refused,
    /// everything stays as it was.
    pub(super) fn adapt(&mut self, info: &FileInfo, path: &Path) -> Result<(), LoadError> {
        let mut adapter = Adapter::load(self.model, info, path)?;
        let set = self.context.lora_adapter_set(adapter.inner(), 1.0);
        set.map_err(|error| LoadError::Rejected {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        // The old one goes only now: in its place in memory, the new one would be taken for it.
        self.adapter = Some(adapter);
        // Keys and values are of the old one.
        self.slots.clear();
        for slot in 0..self.slots.len() {
            // Without a range of positions it cannot fail.
            let _ = self.context.clear_kv_cache_seq(Some(slot as u32), None, None);
        }
        Ok(())
    }

    /// Draws one token for every job. Where it fails, or a logit is not finite, nothing is cached any more.
    pub(super) fn run(&mut self, jobs: &mut [Job]) -> Result<(), LlamaCppError> {
        let run = self.try_run(jobs);
        // Numbers that are none outlive their sequence: attention multiplies them by 0 in the next.
        if run.is_err() || jobs.iter().any(|job| job.drawn.is_none()) {
            self.batch.clear();
            self.wanted.clear();
            self.slots.clear();
            self.context.clear_kv_cache();
        }
        run
    }

    fn try_run(&mut self, jobs: &mut [Job]) -> Result<(), LlamaCppError> {
        let mut next = 0;
        while next < jobs.len() {
            // As many as there are slots for, and no more than fill a batch: what is decoded, later ones can share. Slot, job, and the first
            // token that is not there.
            let (mut entered, mut missing) = (Vec::with_capacity(jobs.len() - next), 0);
            while missing < self.room
                && let Some(job) = jobs.get(next)
                && let Some(place) = self.slots.enter(job.key, &job.context)
            {
                self.prepare(place)?;
                missing += jobs[next].context.len() - place.keep;
                entered.push((place.slot, next, place.keep));
                next += 1;
            }
            if entered.is_empty() {
                return Err(refused("no slot is free"));
            }
            // llama.cpp computes neighbouring sequences together, and only these: in another order each would be a pass of its own.
            entered.sort_unstable();
            for (slot, index, keep) in entered {
                let len = jobs[index].context.len();
                for at in keep..len {
                    if self.batch.n_tokens() as usize == self.room {
                        self.decode(jobs)?;
                    }
                    let token = jobs[index].context[at];
                    let position = self.slots.append(slot, token);
                    let last = at + 1 == len;
                    if last {
                        self.wanted.push((self.batch.n_tokens(), index));
                    }
                    // Ids are below the vocabulary's size, positions below the window, slots at most 256: all fit.
                    self.batch
                        .add(LlamaToken(token as i32), position as i32, &[slot as i32], last)
                        .map_err(|error| refused(&error.to_string()))?;
                }
            }
            self.decode(jobs)?;
            self.slots.unpin();
        }
        Ok(())
    }

    /// Makes llama.cpp's sequence hold what the cache says it keeps.
    fn prepare(&mut self, place: Place) -> Result<(), LlamaCppError> {
        let failed = |error: &dyn std::fmt::Display| refused(&format!("its cache: {error}"));
        let slot = place.slot;
        if let Some(from) = place.copy_from {
            // Whole sequences only: parts of one cannot be copied between two stretches.
            self.context
                .clear_kv_cache_seq(Some(slot as u32), None, None)
                .map_err(|error| failed(&error))?;
            self.context
                .copy_kv_cache_seq(from as i32, slot as i32, None, None)
                .map_err(|error| failed(&error))?;
        }
        if !place.trim {
            return Ok(());
        }
        let removed = self
            .context
            .clear_kv_cache_seq(Some(slot as u32), Some(place.keep as u32), None)
            .map_err(|error| failed(&error))?;
        if removed {
            Ok(())
        } else {
            Err(failed(&"a part of a sequence cannot be removed"))
        }
    }

    /// Decodes the batch and draws for the jobs whose context ends in it.
    fn decode(&mut self, jobs: &mut [Job]) -> Result<(), LlamaCppError> {
        if self.batch.n_tokens() == 0 {
            return Ok(());
        }
        log::clear();
        self.context
            .decode(&mut self.batch)
            .map_err(|error| refused(&format!("{error}; {}", log::reason())))?;
        for &(row, index) in &self.wanted {
            let job = &mut jobs[index];
            let logits = self.context.get_logits_ith(row);
            let mask = job.masked.then_some(job.mask.as_slice());
            let uniform = job.uniform;
            let drawn = self.draw.draw(self.arch, logits, mask, job.temperature, || uniform);
            job.drawn = drawn.ok();
        }
        self.wanted.clear();
        self.batch.clear();
        self.slots.decoded();
        Ok(())
    }

    /// The node has ended.
    pub(super) fn forget(&mut self, key: Key) {
        self.slots.forget(key);
    }
}

fn refused(reason: &str) -> LlamaCppError {
    LlamaCppError::Decode {
        reason: reason.to_owned(),
    }
}
