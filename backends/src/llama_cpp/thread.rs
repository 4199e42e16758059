//! The thread that owns model and context, and what is said to it.

use super::adapter::Adapter;
use super::cache::Key;
use super::engine::{Engine, Job};
use super::error::{LlamaCppError, LoadError};
use super::file::{FileInfo, inspect};
use super::options::{LlamaCppOptions, ModelFile};
use super::{backend, log};
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use rao_tree::WeightsVersion;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Requests that wait for the thread. Every handle has one under way, so more than that are hints to forget.
const QUEUE: usize = 64;

/// How long the thread looks for the next request before it sleeps.
const AWAKE: Duration = Duration::from_micros(200);

/// Layers on the accelerator, where there is one: all.
const LAYERS_ON_DEVICE: u32 = if cfg!(any(feature = "cuda", feature = "metal")) {
    u32::MAX >> 1
} else {
    0
};

/// Where an answer goes. It has room for the one answer, so that the thread never waits.
pub(super) type Reply<T> = SyncSender<T>;

/// Jobs that wait, and where they go back to.
type Waiting = (Vec<Job>, Reply<Result<Vec<Job>, LlamaCppError>>);

/// What is asked of the thread.
pub(super) enum Command {
    /// One token for every job.
    Sample {
        jobs: Vec<Job>,
        reply: Reply<Result<Vec<Job>, LlamaCppError>>,
    },
    /// Other weights from the next token on.
    Publish {
        file: ModelFile,
        version: WeightsVersion,
        reply: Reply<Result<FileInfo, LoadError>>,
    },
    /// Another adapter from the next token on.
    Adapt {
        file: ModelFile,
        version: WeightsVersion,
        reply: Reply<Result<(), LoadError>>,
    },
    /// The node has ended.
    Forget(Key),
    /// Dies, for the tests of what happens then.
    #[cfg(test)]
    Die,
}

/// A running thread.
pub(super) struct Thread {
    pub(super) commands: SyncSender<Command>,
    handle: JoinHandle<()>,
}

impl Thread {
    /// Starts it on a file; the receiver gets what came of loading it.
    pub(super) fn start(
        file: ModelFile,
        options: LlamaCppOptions,
        version: Arc<AtomicU64>,
    ) -> std::io::Result<(Self, Receiver<Result<FileInfo, LoadError>>)> {
        let (commands, inbox) = sync_channel(QUEUE);
        let (reply, loaded) = sync_channel(1);
        let handle = std::thread::Builder::new()
            .name("rao-llama-cpp".to_owned())
            .spawn(move || serve(file, &options, &version, &inbox, reply))?;
        Ok((Self { commands, handle }, loaded))
    }

    /// What it said when it died. Waits for its end, which is near: its queue is closed.
    pub(super) fn last_words(self) -> String {
        drop(self.commands);
        match self.handle.join() {
            Ok(()) => "it ended".to_owned(),
            Err(panic) => panic
                .downcast_ref::<&str>()
                .map(|words| (*words).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "it panicked".to_owned()),
        }
    }
}

/// llama.cpp changes a model while it makes a context of it, and its log has no names: one at a time.
pub(super) fn load_lock() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Checks a model's file and loads it. Its adapter, if it has one, is tried.
pub(super) fn load(file: &ModelFile, options: &LlamaCppOptions) -> Result<(LlamaModel, FileInfo), LoadError> {
    let path = file.path();
    let info = inspect(path)?;
    if let Some(expected) = options.vocab
        && info.vocab != expected
    {
        return Err(LoadError::Vocabulary {
            path: path.to_owned(),
            found: info.vocab,
            expected,
        });
    }
    if let Some(expected) = &options.fingerprint
        && info.fingerprint.as_ref() != Some(expected)
    {
        return Err(LoadError::Tokenizer {
            path: path.to_owned(),
            found: info.fingerprint.unwrap_or_else(|| "none".to_owned()),
            expected: expected.clone(),
        });
    }
    let backend = backend()?;
    let model = {
        let _alone = load_lock();
        log::clear();
        let params = LlamaModelParams::default().with_n_gpu_layers(LAYERS_ON_DEVICE);
        LlamaModel::load_from_file(backend, path, &params).map_err(|_| LoadError::Rejected {
            path: path.to_owned(),
            reason: log::reason(),
        })?
    };
    if let Some(adapter) = file.adapter() {
        // Now, while what is sampled until then is still there.
        Adapter::load(&model, &info, adapter)?;
    }
    Ok((model, info))
}

/// Why a context is no longer used.
enum End {
    /// Nobody asks any more.
    Closed,
    /// Other weights have been loaded.
    Replaced {
        base: Base,
        version: WeightsVersion,
        reply: Reply<Result<FileInfo, LoadError>>,
    },
}

/// A loaded model, what its header says, and where it and its adapter lie.
struct Base {
    model: LlamaModel,
    info: FileInfo,
    file: ModelFile,
}

impl Base {
    fn load(file: ModelFile, options: &LlamaCppOptions) -> Result<Self, LoadError> {
        let (model, info) = load(&file, options)?;
        Ok(Self { model, info, file })
    }

    /// A context of it, with its adapter.
    fn engine(&self, options: &LlamaCppOptions) -> Result<Engine<'_>, LoadError> {
        let mut engine = Engine::new(&self.model, options)?;
        if let Some(adapter) = self.file.adapter() {
            engine.adapt(&self.info, adapter)?;
        }
        Ok(engine)
    }
}

fn serve(
    file: ModelFile,
    options: &LlamaCppOptions,
    version: &AtomicU64,
    inbox: &Receiver<Command>,
    loaded: Reply<Result<FileInfo, LoadError>>,
) {
    let mut base = match Base::load(file, options) {
        Ok(base) => base,
        Err(error) => {
            let _ = loaded.send(Err(error));
            return;
        }
    };
    let mut answer = Some(loaded);
    loop {
        let end = match base.engine(options) {
            Ok(mut engine) => {
                if let Some(reply) = answer.take() {
                    let _ = reply.send(Ok(base.info.clone()));
                }
                session(&mut engine, &base.info, options, version, inbox)
            }
            Err(error) => {
                if let Some(reply) = answer.take() {
                    let _ = reply.send(Err(error));
                }
                return;
            }
        };
        match end {
            End::Closed => return,
            End::Replaced {
                base: next,
                version: number,
                reply,
            } => {
                // The old context is gone by now, so that the two never need room at the same time.
                version.store(number.0, Ordering::Release);
                base = next;
                answer = Some(reply);
            }
        }
    }
}

/// Answers until the weights change or nobody is left.
fn session(
    engine: &mut Engine<'_>,
    info: &FileInfo,
    options: &LlamaCppOptions,
    version: &AtomicU64,
    inbox: &Receiver<Command>,
) -> End {
    let mut waiting = Vec::new();
    let mut next = None;
    loop {
        let command = match next.take() {
            Some(command) => command,
            None => match wait(inbox) {
                Some(command) => command,
                None => return End::Closed,
            },
        };
        match command {
            Command::Sample { jobs, reply } => {
                waiting.push((jobs, reply));
                // What others ask for by now is decoded together with it.
                loop {
                    match inbox.try_recv() {
                        Ok(Command::Sample { jobs, reply }) => waiting.push((jobs, reply)),
                        Ok(Command::Forget(key)) => engine.forget(key),
                        Ok(other) => {
                            next = Some(other);
                            break;
                        }
                        Err(_) => break,
                    }
                }
                answer(engine, &mut waiting);
            }
            Command::Forget(key) => engine.forget(key),
            Command::Publish { file, version, reply } => match Base::load(file, options) {
                Ok(base) => return End::Replaced { base, version, reply },
                Err(error) => {
                    let _ = reply.send(Err(error));
                }
            },
            Command::Adapt {
                file,
                version: number,
                reply,
            } => {
                let adapted = engine.adapt(info, file.path());
                if adapted.is_ok() {
                    version.store(number.0, Ordering::Release);
                }
                let _ = reply.send(adapted);
            }
            #[cfg(test)]
            Command::Die => panic!("told to die"),
        }
    }
}

/// The next command, or `None` once nobody can ask any more. Looks for it a moment before it sleeps: between two steps the caller takes less
/// time than waking a thread does, on a virtual machine above all.
fn wait(inbox: &Receiver<Command>) -> Option<Command> {
    let until = Instant::now() + AWAKE;
    while Instant::now() < until {
        match inbox.try_recv() {
            Ok(command) => return Some(command),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => std::hint::spin_loop(),
        }
    }
    inbox.recv().ok()
}

/// Runs everything that waits as one batch and sends each part back to where it came from.
fn answer(engine: &mut Engine<'_>, waiting: &mut Vec<Waiting>) {
    // Whoever no longer waits is dropped here: its reply goes nowhere.
    if let [(jobs, _)] = waiting.as_mut_slice() {
        let run = engine.run(jobs);
        if let Some((jobs, reply)) = waiting.pop() {
            let _ = reply.send(run.map(|()| jobs));
        }
        return;
    }
    let mut parts = Vec::with_capacity(waiting.len());
    let mut all = Vec::new();
    for (jobs, reply) in waiting.drain(..) {
        parts.push((jobs.len(), reply));
        all.extend(jobs);
    }
    let run = engine.run(&mut all);
    let mut all = all.into_iter();
    for (len, reply) in parts {
        let jobs = all.by_ref().take(len).collect();
        let _ = reply.send(match &run {
            Ok(()) => Ok(jobs),
            Err(error) => Err(LlamaCppError::Decode {
                reason: error.to_string(),
            }),
        });
    }
}
