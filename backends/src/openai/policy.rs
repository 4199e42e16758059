//! [`OpenAi`]: a handle on a server.

use super::error::OpenAiError;
use super::http::{Outcome, Server};
use super::options::{Logprobs, OpenAiOptions, Wire};
use super::stats::{Stats, add};
use super::thread::Thread;
use super::wire::{self, Ask, Ending, Given, Prompt, Said};
use crate::random::{bits, uniform};
use crate::sampling::{Draw, begin, consult};
use pulp::Arch;
use rao_tree::{Mask, Policy, Request, SequenceId, Stop, Token, WeightsVersion};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;

/// How long a call waits for an answer before its caller may look at the clock.
const TICK: Duration = Duration::from_millis(100);
/// Log-probabilities from here on stand for "none": vLLM says -9999, llama-server the lowest number there is.
const NONE: f32 = -9_000.0;

/// Asks a server; the [module](super) says what it promises. Clones share the thread, the connections and the limit on requests.
pub struct OpenAi {
    shared: Arc<Shared>,
    live: HashMap<Key, Live>,
    /// What was answered and is not written down yet.
    heard: HashMap<Key, Outcome>,
    /// Counts the requests of this handle.
    sent: u64,
    outcomes: Receiver<Told>,
    tell: Sender<Told>,
    /// Requests that failed since the last that was answered.
    failures: u32,
    /// Why the server is not asked any more.
    broken: Option<OpenAiError>,
    /// What each request of a batch may draw next.
    masks: Vec<u64>,
    arch: Arch,
    draw: Draw,
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
    /// A policy over that server. Asks for its models where the options name none, and on the wire of distributions for one of those; otherwise
    /// the first action is the first request.
    ///
    /// # Errors
    /// [`OpenAiError`]: options that make no sense, or a server that does not answer, serves several models, or gives no whole distribution.
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
            Wire::Tokens { window, .. } | Wire::Distribution { window, .. } => {
                limit.map_or(window, |limit| limit.min(window))
            }
            // In tokens of the server, which nobody but the server can count.
            Wire::Chat => usize::MAX,
        };
        let shared = Shared {
            server,
            model: model.into(),
            window,
            thread,
        };
        shared.greet()?;
        Ok(Self::handle(Arc::new(shared)))
    }

    fn handle(shared: Arc<Shared>) -> Self {
        let (tell, outcomes) = channel();
        Self {
            shared,
            live: HashMap::new(),
            heard: HashMap::new(),
            sent: 0,
            outcomes,
            tell,
            failures: 0,
            broken: None,
            masks: Vec::new(),
            arch: Arch::new(),
            draw: Draw::default(),
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
        self.heard.retain(|key, _| wanted.contains_key(key));
        for (key, index) in wanted {
            if self.live.contains_key(&key) || self.heard.contains_key(&key) {
                continue;
            }
            match self.ask(&batch[index])? {
                Some(ask) => self.spawn(key, ask),
                None => batch[index].stop = Some(Stop::ContextOverflow),
            }
        }
        Ok(!self.live.is_empty() || !self.heard.is_empty())
    }

    /// What is to be asked for a request; nothing where its context leaves no room.
    fn ask(&self, request: &Request<'_>) -> Result<Option<Ask>, OpenAiError> {
        let options = &self.shared.server.options;
        let (sequence, temperature) = (request.sequence, request.temperature);
        let draws = !matches!(options.wire, Wire::Distribution { .. });
        if draws && options.logprobs == Logprobs::Required && temperature != 1.0 && temperature != 0.0 {
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
            Wire::Tokens { .. } | Wire::Distribution { .. } => Prompt::Tokens(context),
            Wire::Chat => {
                let messages = wire::messages(&context);
                Prompt::Messages(messages.map_err(|reason| OpenAiError::Messages { sequence, reason })?)
            }
        };
        let seed = bits(request.seed, request.completion.len());
        Ok(Some(match options.wire {
            Wire::Distribution { .. } => Ask::one_token(prompt, seed),
            Wire::Tokens { .. } | Wire::Chat => Ask {
                prompt,
                room,
                ends: ends(request)?.to_vec(),
                temperature,
                seed,
            },
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
    fn hear(&mut self) {
        // Nobody else can close the channel: this handle holds a sender itself.
        let first = self.outcomes.recv_timeout(TICK).ok();
        for (key, number, outcome) in first.into_iter().chain(self.outcomes.try_iter()) {
            // What was taken back may have been answered just before.
            if self.live.get(&key).is_none_or(|live| live.number != number) {
                continue;
            }
            self.live.remove(&key);
            self.heard.insert(key, outcome);
        }
    }

    /// Whether nothing can be written down yet. Where the draw is ours, everybody draws the next token before anybody draws the one after it, as
    /// local samplers do: which node of a tree ends first, and so what the tree is, depends on nothing but what they say.
    fn waits(&self) -> bool {
        match self.shared.server.options.wire {
            Wire::Distribution { .. } => !self.live.is_empty(),
            Wire::Tokens { .. } | Wire::Chat => self.heard.is_empty(),
        }
    }

    /// Writes down what became of the request at this place of the batch.
    fn settle(&mut self, request: &mut Request<'_>, place: usize, outcome: Outcome) -> Result<(), OpenAiError> {
        self.failures = match outcome {
            Outcome::Failed(_) => self.failures.saturating_add(1),
            _ => 0,
        };
        let outcome = match outcome {
            Outcome::Said(Said {
                logprobs: Given::Every(logprobs),
                ..
            }) => {
                request.stop = self.draw(request, place, &logprobs);
                return Ok(());
            }
            outcome => outcome,
        };
        let server = &self.shared.server;
        request.stop = Some(match outcome {
            Outcome::Said(said) if self.lacks(&said) => {
                add(&server.counters.failures, 1);
                Stop::Failed
            }
            Outcome::Said(said) => self.write(request, &said)?,
            Outcome::Overflow if matches!(server.options.wire, Wire::Distribution { .. }) => {
                let (url, window) = (server.url(), self.shared.window);
                return Err(self.give_up(OpenAiError::Window { url, window }));
            }
            Outcome::Overflow => Stop::ContextOverflow,
            Outcome::Failed(reason) if self.failures >= server.options.failures_max.max(1) => {
                let (url, failures) = (server.url(), self.failures);
                return Err(self.give_up(OpenAiError::Down { url, failures, reason }));
            }
            Outcome::Failed(_) => Stop::Failed,
            Outcome::Fatal(error) => return Err(self.give_up(error)),
        });
        Ok(())
    }

    /// Asks no more: what is wrong with the server is so for every other request. Whoever calls again is told again.
    fn give_up(&mut self, error: OpenAiError) -> OpenAiError {
        self.broken = Some(error.clone());
        error
    }

    /// Draws one token; whether that was the last, and why.
    fn draw(&mut self, request: &mut Request<'_>, place: usize, logprobs: &[f32]) -> Option<Stop> {
        let (vocab, window) = (self.vocab(), self.shared.window);
        let words = Mask::words(vocab);
        let mask = &mut self.masks[place * words..][..words];
        let allowed = request.constraint.is_some().then_some(&*mask);
        let number = || uniform(request.seed, request.completion.len());
        let drawn = self
            .draw
            .draw(self.arch, logprobs, allowed, request.temperature, number);
        match drawn {
            Ok((token, logprob)) if logprobs[token.0 as usize] > NONE => {
                request.completion.push(token, logprob, allowed);
                consult(request, mask, window, vocab)
            }
            // So unlikely beside what is not allowed that the server has no numbers for what is.
            _ => {
                add(&self.shared.server.counters.failures, 1);
                Some(Stop::Failed)
            }
        }
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
                Given::Some | Given::Every(_) | Given::None => 0.0,
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

impl Shared {
    /// Has the server show once that it can do what the wire of distributions needs; nothing on the others.
    fn greet(&self) -> Result<(), OpenAiError> {
        if !matches!(self.server.options.wire, Wire::Distribution { .. }) {
            return Ok(());
        }
        let (reply, answer) = channel();
        let (server, model) = (Arc::clone(&self.server), Arc::clone(&self.model));
        self.thread.handle().spawn(async move {
            let ask = Ask::one_token(Prompt::Tokens(vec![Token(0)]), 0);
            let _ = reply.send(server.ask(&ask, &model).await);
        });
        let url = self.server.url();
        match answer.recv() {
            Ok(Outcome::Said(_)) => Ok(()),
            Ok(Outcome::Fatal(error)) => Err(error),
            Ok(Outcome::Failed(reason)) => Err(OpenAiError::Unreachable { url, reason }),
            Ok(Outcome::Overflow) => Err(OpenAiError::Unreachable {
                url,
                reason: "it has no room for one token".to_owned(),
            }),
            Err(_) => Err(OpenAiError::Thread(
                "it died while it asked for a distribution".to_owned(),
            )),
        }
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
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let (before, begun) = (finished(batch), Instant::now());
        loop {
            let under_way = self.send(batch)?;
            // Something has ended without the server, or nothing is to be waited for.
            if !under_way || finished(batch) > before {
                return Ok(finished(batch));
            }
            while self.waits() {
                if begun.elapsed() >= TICK {
                    return Ok(finished(batch));
                }
                self.hear();
            }
            for (index, request) in batch.iter_mut().enumerate() {
                if let Some(outcome) = self.heard.remove(&key(request)) {
                    self.settle(request, index, outcome)?;
                }
            }
            // One token is rarely a whole action.
            if finished(batch) > before || begun.elapsed() >= TICK {
                return Ok(finished(batch));
            }
        }
    }

    fn weights(&self) -> WeightsVersion {
        self.shared.server.options.version
    }

    fn forget(&mut self, sequence: SequenceId) {
        self.live.retain(|(other, _), _| *other != sequence);
        self.heard.retain(|(other, _), _| *other != sequence);
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
