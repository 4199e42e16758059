//! [`OpenAi`]: a handle on a server.

use super::error::OpenAiError;
use super::http::{Outcome, Server};
use super::options::{Logprobs, OpenAiOptions, Wire};
use super::stats::{Stats, add};
use super::thread::Thread;
use super::wire::{self, Ask, Ending, Given, Prompt, Said};
use crate::random::bits;
use crate::sampling::begin;
use rao_tree::{Policy, Request, SequenceId, Stop, Token, WeightsVersion};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;
use tokio::task::AbortHandle;

/// How long a call waits for an answer before its caller may look at the clock.
const TICK: Duration = Duration::from_millis(100);

/// Asks a server; the [module](super) says what it promises. Clones share the thread, the connections and the limit on requests.
pub struct OpenAi {
    shared: Arc<Shared>,
    live: HashMap<Key, Live>,
    /// Counts the requests of this handle.
    sent: u64,
    outcomes: Receiver<Told>,
    tell: Sender<Told>,
    /// Requests that failed since the last that was answered.
    failures: u32,
    masks: Vec<u64>,
}

struct Shared {
    server: Arc<Server>,
    model: Arc<str>,
    window: usize,
    thread: Thread,
}

/// A request, as a caller repeats it from call to call.
type Key = (SequenceId, u64);

/// What became of a request, with its key and its number.
type Told = (Key, u64, Outcome);

/// A request under way; dropped, it is taken back.
struct Live {
    number: u64,
    abort: AbortHandle,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

impl OpenAi {
    /// A policy over that server. Asks for its models where the options name none; otherwise the first action is the first request.
    ///
    /// # Errors
    /// [`OpenAiError`]: options that make no sense, or a server that does not answer or serves several models.
    pub fn open(options: OpenAiOptions) -> Result<Self, OpenAiError> {
        if options.wire == Wire::Chat && options.logprobs == Logprobs::Required {
            return Err(OpenAiError::ChatLogprobs);
        }
        let server = Arc::new(Server::new(options)?);
        let thread = Thread::start()?;
        let (reply, answer) = channel();
        let asked = Arc::clone(&server);
        thread.handle().spawn(async move {
            let _ = reply.send(asked.model().await);
        });
        // The deadline of the request is kept by the task; this one is against the death of the thread alone.
        let (model, limit) = answer
            .recv()
            .map_err(|_| OpenAiError::Thread("it died while it asked for the models".to_owned()))??;
        let window = match server.options.wire {
            Wire::Tokens { window, .. } => limit.map_or(window, |limit| limit.min(window)),
            // In tokens of the server, which nobody but the server can count.
            Wire::Chat => usize::MAX,
        };
        let shared = Shared {
            server,
            model: model.into(),
            window,
            thread,
        };
        Ok(Self::handle(Arc::new(shared)))
    }

    fn handle(shared: Arc<Shared>) -> Self {
        let (tell, outcomes) = channel();
        Self {
            shared,
            live: HashMap::new(),
            sent: 0,
            outcomes,
            tell,
            failures: 0,
            masks: Vec::new(),
        }
    }

    /// The model that is asked for.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.shared.model
    }

    /// Longest context it takes, in tokens; no limit is known for messages.
    #[must_use]
    pub fn window(&self) -> Option<usize> {
        (self.shared.window < usize::MAX).then_some(self.shared.window)
    }

    /// Tokens that it speaks.
    #[must_use]
    pub fn vocab(&self) -> usize {
        self.shared.server.options.vocab()
    }

    /// What it cost so far, all handles together.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.server.counters.snapshot()
    }

    /// Sends what is not under way yet, and takes back what is no longer asked for. Returns whether anything is under way.
    fn send(&mut self, batch: &mut [Request<'_>]) -> Result<bool, OpenAiError> {
        let mut unfinished = Vec::new();
        let (vocab, window) = (self.vocab(), self.shared.window);
        begin(batch, vocab, window, &mut self.masks, |index| unfinished.push(index))?;
        let wanted: HashMap<Key, usize> = unfinished.iter().map(|&index| (key(&batch[index]), index)).collect();
        self.live.retain(|key, _| wanted.contains_key(key));
        for (key, index) in wanted {
            if self.live.contains_key(&key) {
                continue;
            }
            match self.ask(&batch[index])? {
                Some(ask) => self.spawn(key, ask),
                None => batch[index].stop = Some(Stop::ContextOverflow),
            }
        }
        Ok(!self.live.is_empty())
    }

    /// What is to be asked for a request; nothing where its context leaves no room.
    fn ask(&self, request: &Request<'_>) -> Result<Option<Ask>, OpenAiError> {
        let options = &self.shared.server.options;
        let (sequence, temperature) = (request.sequence, request.temperature);
        if options.logprobs == Logprobs::Required && temperature != 1.0 && temperature != 0.0 {
            return Err(OpenAiError::Temperature { sequence, temperature });
        }
        let context: Vec<Token> = request
            .prompt
            .iter()
            .chain(request.completion.tokens())
            .copied()
            .collect();
        let room = request
            .completion
            .room()
            .min(self.shared.window.saturating_sub(context.len()));
        if room == 0 {
            return Ok(None);
        }
        let prompt = match options.wire {
            Wire::Tokens { .. } => Prompt::Tokens(context),
            Wire::Chat => {
                let messages = wire::messages(&context);
                Prompt::Messages(messages.map_err(|reason| OpenAiError::Messages { sequence, reason })?)
            }
        };
        Ok(Some(Ask {
            prompt,
            room,
            ends: ends(request)?.to_vec(),
            temperature,
            seed: bits(request.seed, request.completion.len()),
        }))
    }

    fn spawn(&mut self, key: Key, ask: Ask) {
        self.sent += 1;
        let (number, tell) = (self.sent, self.tell.clone());
        let (server, model) = (Arc::clone(&self.shared.server), Arc::clone(&self.shared.model));
        let task = self.shared.thread.handle().spawn(async move {
            let outcome = server.ask(&ask, &model).await;
            // Nobody listens any more where the policy is gone.
            let _ = tell.send((key, number, outcome));
        });
        let abort = task.abort_handle();
        self.live.insert(key, Live { number, abort });
    }

    /// Waits for one outcome, at most for a moment, and takes what else is there.
    fn hear(&self) -> Vec<Told> {
        match self.outcomes.recv_timeout(TICK) {
            Ok(first) => std::iter::once(first).chain(self.outcomes.try_iter()).collect(),
            // This handle holds a sender itself.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Vec::new(),
        }
    }

    /// Writes down what became of a request.
    fn settle(&mut self, request: &mut Request<'_>, outcome: Outcome) -> Result<(), OpenAiError> {
        let server = &self.shared.server;
        self.failures = match outcome {
            Outcome::Failed(_) => self.failures.saturating_add(1),
            _ => 0,
        };
        request.stop = Some(match outcome {
            Outcome::Said(said) if self.lacks(&said) => {
                add(&server.counters.failures, 1);
                Stop::Failed
            }
            Outcome::Said(said) => self.write(request, &said)?,
            Outcome::Overflow => Stop::ContextOverflow,
            Outcome::Failed(reason) if self.failures >= server.options.failures_max.max(1) => {
                let (url, failures) = (server.url(), self.failures);
                return Err(OpenAiError::Down { url, failures, reason });
            }
            Outcome::Failed(_) => Stop::Failed,
            Outcome::Fatal(error) => return Err(error),
        });
        Ok(())
    }

    /// Whether an answer cannot be trained on although its server gives log-probabilities.
    fn lacks(&self, said: &Said) -> bool {
        self.shared.server.options.logprobs == Logprobs::Required && said.logprobs == Given::Some
    }

    /// Appends an answer, up to the first token that ends the action.
    fn write(&self, request: &mut Request<'_>, said: &Said) -> Result<Stop, OpenAiError> {
        let (options, vocab) = (&self.shared.server.options, self.vocab());
        let url = || self.shared.server.url();
        if let Some(&Token(token)) = said.tokens.iter().find(|token| token.0 as usize >= vocab) {
            let url = url();
            return Err(OpenAiError::UnknownToken { url, token, vocab });
        }
        if said.logprobs == Given::None && !said.tokens.is_empty() && options.logprobs == Logprobs::Required {
            return Err(OpenAiError::NoLogprobs { url: url() });
        }
        let ends = ends(request)?.to_vec();
        for (index, &token) in said.tokens.iter().enumerate() {
            let logprob = match &said.logprobs {
                Given::Each(logprobs) => logprobs[index],
                Given::Some | Given::None => 0.0,
            };
            request.completion.push(token, logprob, None);
            if ends.contains(&token) {
                return Ok(Stop::Complete);
            }
        }
        Ok(match (said.ending, &options.wire) {
            (Ending::Turn, _) => Stop::Complete,
            (Ending::Room, Wire::Tokens { .. }) if !request.completion.is_full() => Stop::ContextOverflow,
            (Ending::Room, _) => Stop::Length,
        })
    }
}

impl Clone for OpenAi {
    fn clone(&self) -> Self {
        Self::handle(Arc::clone(&self.shared))
    }
}

impl std::fmt::Debug for OpenAi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenAi")
            .field("model", &self.shared.model)
            .field("options", &self.shared.server.options)
            .field("live", &self.live.len())
            .finish_non_exhaustive()
    }
}

impl Policy for OpenAi {
    type Error = OpenAiError;

    fn sample(&mut self, batch: &mut [Request<'_>]) -> Result<usize, OpenAiError> {
        let before = finished(batch);
        let under_way = self.send(batch)?;
        // Something has ended without the server, or nothing is to be waited for.
        if !under_way || finished(batch) > before {
            return Ok(finished(batch));
        }
        let places: HashMap<Key, usize> = batch
            .iter()
            .enumerate()
            .map(|(index, request)| (key(request), index))
            .collect();
        for (key, number, outcome) in self.hear() {
            // What was taken back may have been answered just before.
            if self.live.get(&key).is_none_or(|live| live.number != number) {
                continue;
            }
            self.live.remove(&key);
            if let Some(&index) = places.get(&key) {
                self.settle(&mut batch[index], outcome)?;
            }
        }
        Ok(finished(batch))
    }

    fn weights(&self) -> WeightsVersion {
        self.shared.server.options.version
    }

    fn forget(&mut self, sequence: SequenceId) {
        self.live.retain(|(other, _), _| *other != sequence);
    }
}

fn key(request: &Request<'_>) -> Key {
    (request.sequence, request.seed)
}

fn finished(batch: &[Request<'_>]) -> usize {
    batch.iter().filter(|request| request.stop.is_some()).count()
}

/// The tokens that end an action, where that is all there is to its constraint.
fn ends<'a>(request: &'a Request<'_>) -> Result<&'a [Token], OpenAiError> {
    match request.constraint.as_deref() {
        None => Ok(&[]),
        Some(constraint) => constraint.ends().ok_or(OpenAiError::Constraint {
            sequence: request.sequence,
        }),
    }
}
