//! [`Adapter`]: a LoRA adapter beside a loaded model.

use super::error::LoadError;
use super::file::{FileInfo, inspect_adapter};
use super::{log, thread};
use llama_cpp_2::model::{LlamaLoraAdapter, LlamaModel};
use llama_cpp_sys_2 as sys;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::path::Path;

/// It takes memory until it is dropped, and must not be dropped while a context uses it.
pub(super) struct Adapter<'m> {
    adapter: ManuallyDrop<LlamaLoraAdapter>,
    /// llama.cpp frees a model's adapters together with it: the model outlives this.
    model: PhantomData<&'m LlamaModel>,
}

impl<'m> Adapter<'m> {
    /// Checks a file and loads it beside the model, which `info` describes.
    pub(super) fn load(model: &'m LlamaModel, info: &FileInfo, path: &Path) -> Result<Self, LoadError> {
        let found = inspect_adapter(path)?.fingerprint;
        if let (Some(found), Some(expected)) = (found, &info.fingerprint)
            && found != *expected
        {
            return Err(LoadError::Tokenizer {
                path: path.to_owned(),
                found,
                expected: expected.clone(),
            });
        }
        let _alone = thread::load_lock();
        log::clear();
        // SAFETY: a model is a pointer, and the copy is never dropped. The call wants the model for itself although a context borrows it: it
        // adds to the model's set of adapters, which that context reads while it is called. A model has one context here, and whoever has
        // it calls this.
        let mut model = ManuallyDrop::new(unsafe { std::ptr::read(model) });
        let adapter = model.lora_adapter_init(path).map_err(|_| LoadError::Rejected {
            path: path.to_owned(),
            reason: log::reason(),
        })?;
        Ok(Self {
            adapter: ManuallyDrop::new(adapter),
            model: PhantomData,
        })
    }

    /// What a context is told to use.
    pub(super) fn inner(&mut self) -> &mut LlamaLoraAdapter {
        &mut self.adapter
    }
}

impl Drop for Adapter<'_> {
    fn drop(&mut self) {
        // SAFETY: taken once, here. The wrapper is `repr(transparent)` over the pointer and has no `Drop` of its own; the model is alive,
        // and no context uses the adapter any more.
        unsafe {
            let adapter = ManuallyDrop::take(&mut self.adapter);
            let adapter: *mut sys::llama_adapter_lora = std::mem::transmute(adapter);
            sys::llama_adapter_lora_free(adapter);
        }
    }
}
