//! [`LlamaCpp`]: a handle on the thread, which draws for whoever holds it.

use super::engine::Job;
use super::error::{LlamaCppError, LoadError};
use super::file::FileInfo;
use super::gather::Gatherer;
use super::options::{LlamaCppOptions, ModelFile};
use super::thread::{Command, Thread};
use rao_tree::{Policy, Request, SequenceId, WeightsVersion};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Samples a GGUF file with llama.cpp; the [module](super) says what it promises. Clones share the thread, its cache and its weights, and
/// what they ask for at the same time is decoded together.
pub struct LlamaCpp {
    shared: Arc<Shared>,
    /// Tells this handle's sequences from those of others.
    client: u64,
    gatherer: Gatherer,
}

struct Shared {
    options: LlamaCppOptions,
    version: Arc<AtomicU64>,
    clients: AtomicU64,
    /// Held while weights are published, so that `state` names those that the thread got last.
    publishing: Mutex<()>,
    state: Mutex<State>,
}

struct State {
    thread: Option<Thread>,
    /// Counts the threads that were started.
    generation: u64,
    /// What the running thread samples, or would if it were restarted.
    file: ModelFile,
    info: FileInfo,
    /// Why the first thread died.
    incident: Option<String>,
}

impl Shared {
    fn publishing(&self) -> MutexGuard<'_, ()> {
        self.publishing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LlamaCpp {
    /// Loads a file, with its adapter if it has one, on a thread of its own and waits for it. Options outside their range are brought inside.
    ///
    /// # Errors
    /// [`LoadError`] names the file and what is wrong with it.
    pub fn load(file: ModelFile, version: WeightsVersion, options: LlamaCppOptions) -> Result<Self, LoadError> {
        let options = options.in_range();
        let version = Arc::new(AtomicU64::new(version.0));
        let (thread, info) = start(&file, &options, &version)?;
        let state = State {
            thread: Some(thread),
            generation: 0,
            file,
            info,
            incident: None,
        };
        let shared = Shared {
            options,
            version,
            clients: AtomicU64::new(1),
            publishing: Mutex::new(()),
            state: Mutex::new(state),
        };
        Ok(Self::handle(Arc::new(shared), 0))
    }

    fn handle(shared: Arc<Shared>, client: u64) -> Self {
        Self {
            shared,
            client,
            gatherer: Gatherer::default(),
        }
    }

    /// Draws from another file, with its own adapter or none, from the next token on, for every handle; what was cached is forgotten. Returns once
    /// the thread has it.
    ///
    /// # Errors
    /// [`LlamaCppError::Load`]: the file is refused, and the old weights stay.
    pub fn publish(&self, file: ModelFile, version: WeightsVersion) -> Result<(), LlamaCppError> {
        let _alone = self.shared.publishing();
        let info = self.ask(|reply| Command::Publish {
            file: file.clone(),
            version,
            reply,
        })??;
        let mut state = self.shared.state();
        (state.file, state.info) = (file, info);
        Ok(())
    }

    /// Draws from the loaded file with this LoRA adapter from the next token on, for every handle; an earlier adapter is taken away, and what was
    /// cached is forgotten. The file has to stay as long as `file` lives: a thread that is restarted reads it again. Returns once the thread
    /// has it.
    ///
    /// # Errors
    /// [`LlamaCppError::Load`]: the file is refused, and the old weights, with the old adapter, stay.
    pub fn publish_adapter(&self, file: ModelFile, version: WeightsVersion) -> Result<(), LlamaCppError> {
        let _alone = self.shared.publishing();
        self.ask(|reply| Command::Adapt {
            file: file.clone(),
            version,
            reply,
        })??;
        let mut state = self.shared.state();
        state.file = state.file.clone().with_adapter(file);
        Ok(())
    }

    /// What the header of the file says that is sampled.
    #[must_use]
    pub fn info(&self) -> FileInfo {
        self.shared.state().info.clone()
    }

    /// Longest context it takes: the smaller of [`LlamaCppOptions::window`] and the model's limit.
    #[must_use]
    pub fn window(&self) -> usize {
        let length = self.shared.state().info.context_length;
        length.min(self.shared.options.window) as usize
    }

    /// Why the thread had to be restarted, if it had.
    #[must_use]
    pub fn incident(&self) -> Option<String> {
        self.shared.state().incident.clone()
    }

    /// Sends a command and waits for its answer. Should the thread die meanwhile, it is restarted, once, and asked again.
    fn ask<T>(&self, command: impl Fn(SyncSender<T>) -> Command) -> Result<T, LlamaCppError> {
        let waited = self.shared.options.deadline;
        let deadline = Instant::now() + waited;
        loop {
            let (commands, generation) = self.thread()?;
            let (reply, answer) = sync_channel(1);
            if send(&commands, command(reply), deadline) {
                drop(commands);
                let left = deadline.saturating_duration_since(Instant::now());
                match answer.recv_timeout(left) {
                    Ok(answer) => return Ok(answer),
                    Err(RecvTimeoutError::Timeout) => return Err(LlamaCppError::Timeout { waited }),
                    Err(RecvTimeoutError::Disconnected) => {}
                }
            } else if Instant::now() >= deadline {
                return Err(LlamaCppError::Timeout { waited });
            }
            self.restart(generation)?;
        }
    }

    /// The running thread's queue and number.
    fn thread(&self) -> Result<(SyncSender<Command>, u64), LlamaCppError> {
        let state = self.shared.state();
        match &state.thread {
            Some(thread) => Ok((thread.commands.clone(), state.generation)),
            None => Err(LlamaCppError::Died {
                reason: state.incident.clone().unwrap_or_default(),
            }),
        }
    }

    /// Starts another thread in the place of number `generation`, unless somebody has.
    fn restart(&self, generation: u64) -> Result<(), LlamaCppError> {
        let mut state = self.shared.state();
        if state.generation != generation {
            return Ok(());
        }
        let reason = state.thread.take().map(Thread::last_words).unwrap_or_default();
        if state.incident.is_some() {
            state.incident = Some(reason.clone());
            return Err(LlamaCppError::Died { reason });
        }
        state.incident = Some(reason);
        let (thread, info) = start(&state.file, &self.shared.options, &self.shared.version)?;
        state.generation += 1;
        (state.thread, state.info) = (Some(thread), info);
        Ok(())
    }
}

impl Clone for LlamaCpp {
    fn clone(&self) -> Self {
        let client = self.shared.clients.fetch_add(1, Ordering::Relaxed);
        Self::handle(Arc::clone(&self.shared), client)
    }
}

impl std::fmt::Debug for LlamaCpp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.shared.state();
        f.debug_struct("LlamaCpp")
            .field("client", &self.client)
            .field("file", &state.file)
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

/// Starts a thread and waits until it has loaded the file.
fn start(
    file: &ModelFile,
    options: &LlamaCppOptions,
    version: &Arc<AtomicU64>,
) -> Result<(Thread, FileInfo), LoadError> {
    let started = Thread::start(file.clone(), options.clone(), Arc::clone(version));
    let (thread, loaded): (Thread, Receiver<Result<FileInfo, LoadError>>) =
        started.map_err(|error| LoadError::Died {
            reason: error.to_string(),
        })?;
    let waited = options.deadline;
    match loaded.recv_timeout(waited) {
        Ok(info) => Ok((thread, info?)),
        Err(RecvTimeoutError::Timeout) => Err(LoadError::Timeout { waited }),
        Err(RecvTimeoutError::Disconnected) => Err(LoadError::Died {
            reason: thread.last_words(),
        }),
    }
}

/// Whether the thread took the command before the deadline; false also where it has died.
fn send(commands: &SyncSender<Command>, mut command: Command, deadline: Instant) -> bool {
    loop {
        match commands.try_send(command) {
            Ok(()) => return true,
            Err(TrySendError::Disconnected(_)) => return false,
            Err(TrySendError::Full(back)) if Instant::now() < deadline => {
                command = back;
                // The queue is full of others' requests: each takes the thread longer than this.
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(TrySendError::Full(_)) => return false,
        }
    }
}

impl Policy for LlamaCpp {
    type Error = LlamaCppError;

    fn sample(&mut self, batch: &mut [Request<'_>]) -> Result<usize, LlamaCppError> {
        let vocab = self.shared.state().info.vocab;
        let window = self.window();
        let mut gatherer = std::mem::take(&mut self.gatherer);
        let sampled = gatherer.sample(batch, self.client, vocab, window, |jobs| self.run(jobs));
        self.gatherer = gatherer;
        sampled
    }

    fn weights(&self) -> WeightsVersion {
        WeightsVersion(self.shared.version.load(Ordering::Acquire))
    }

    /// Makes the sequence's slot the first to be given away. Only a hint: dropped where the thread is busy.
    fn forget(&mut self, sequence: SequenceId) {
        if let Ok((commands, _)) = self.thread() {
            let _ = commands.try_send(Command::Forget((self.client, sequence)));
        }
    }
}

impl LlamaCpp {
    /// Has the thread draw. Jobs that died with a thread are sent again to the next.
    fn run(&self, jobs: &mut Vec<Job>) -> Result<(), LlamaCppError> {
        *jobs = self.ask(|reply| Command::Sample {
            jobs: jobs.clone(),
            reply,
        })??;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rao_tree::{Completion, PolicyExt, Token};
    use std::path::Path;

    fn file(name: &str) -> ModelFile {
        ModelFile::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name))
    }

    fn policy() -> LlamaCpp {
        let options = LlamaCppOptions {
            slots: 4,
            window: 64,
            threads: 1,
            ..LlamaCppOptions::default()
        };
        LlamaCpp::load(file("tiny-f32.gguf"), WeightsVersion(3), options).unwrap()
    }

    fn say(policy: &mut LlamaCpp) -> Result<[Token; 6], LlamaCppError> {
        let (mut tokens, mut logprobs) = ([Token(0); 6], [0.0; 6]);
        let mut batch = [Request {
            sequence: SequenceId(0),
            prompt: &[Token(1), Token(2)],
            seed: 9,
            temperature: 1.0,
            constraint: None,
            completion: Completion::new(&mut tokens, &mut logprobs, &mut [], 0).unwrap(),
            stop: None,
        }];
        policy.sample_all(&mut batch)?;
        Ok(tokens)
    }

    /// Has the thread die of itself at its next command.
    fn kill(policy: &LlamaCpp) {
        let (commands, _) = policy.thread().unwrap();
        commands.send(Command::Die).unwrap();
    }

    #[test]
    fn a_thread_that_dies_is_restarted_once_with_the_last_weights() {
        let mut policy = policy();
        let mut other = policy.clone();
        let before = say(&mut policy).unwrap();
        assert_eq!(policy.incident(), None);
        kill(&policy);
        assert_eq!(say(&mut policy).unwrap(), before);
        assert_eq!(policy.incident().as_deref(), Some("told to die"));
        assert_eq!((say(&mut other).unwrap(), other.weights()), (before, WeightsVersion(3)));

        kill(&policy);
        for _ in 0..2 {
            for policy in [&mut policy, &mut other] {
                let error = say(policy).unwrap_err();
                assert!(
                    matches!(&error, LlamaCppError::Died { reason } if reason == "told to die"),
                    "{error}"
                );
            }
        }
    }

    #[test]
    fn a_thread_that_is_restarted_takes_the_last_adapter_up_again() {
        let mut policy = policy();
        let bare = say(&mut policy).unwrap();
        policy
            .publish_adapter(file("tiny-adapter.gguf"), WeightsVersion(4))
            .unwrap();
        let adapted = say(&mut policy).unwrap();
        assert_ne!(adapted, bare);
        kill(&policy);
        assert_eq!(
            (say(&mut policy).unwrap(), policy.weights()),
            (adapted, WeightsVersion(4))
        );
        assert!(policy.incident().is_some());
    }

    #[test]
    fn nobody_hangs_on_a_thread_that_dies_under_them() {
        let policy = policy();
        std::thread::scope(|scope| {
            let speakers: Vec<_> = (0..4)
                .map(|_| {
                    let mut policy = policy.clone();
                    scope.spawn(move || (0..50).map(|_| say(&mut policy)).collect::<Result<Vec<_>, _>>())
                })
                .collect();
            kill(&policy);
            let said: Vec<_> = speakers
                .into_iter()
                .map(|speaker| speaker.join().unwrap().unwrap())
                .collect();
            assert!(said.iter().flatten().all(|tokens| *tokens == said[0][0]));
        });
        assert!(policy.incident().is_some());
    }

    #[test]
    fn a_wait_has_its_deadline() {
        let mut policy = policy();
        let shared = Arc::get_mut(&mut policy.shared).unwrap();
        shared.options.deadline = Duration::ZERO;
        assert!(matches!(say(&mut policy), Err(LlamaCppError::Timeout { .. })));
    }
}
