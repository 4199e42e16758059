//! Why a server is no policy.

use crate::sampling::SamplerError;
use rao_tree::SequenceId;

/// Why a server cannot be asked, or a batch not be advanced. What concerns one request only is its [`rao_tree::Stop`].
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenAiError {
    /// The URL is none of a server.
    #[error("{url:?} is no URL of a server: {reason}; it looks like http://127.0.0.1:8080/v1")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The key cannot be sent.
    #[error("the API key holds characters that no header may hold: is there a line break at its end?")]
    ApiKey,
    /// The client could not be set up.
    #[error("cannot set up the HTTP client: {0}")]
    Client(String),
    /// The thread could not be started, or has died.
    #[error("the thread that talks to the server: {0}")]
    Thread(String),
    /// Token log-probabilities are wanted of messages.
    #[error(
        "training needs the policy's own tokens, and a server that is sent messages hides them: use the wire of tokens, which vLLM, SGLang and llama-server serve"
    )]
    ChatLogprobs,
    /// The server did not answer when it was first asked.
    #[error("{url} does not answer: {reason}; is the server running?")]
    Unreachable {
        /// What was asked.
        url: String,
        /// What happened last.
        reason: String,
    },
    /// Nothing was answered for long.
    #[error("{failures} requests to {url} have failed in a row, the last with: {reason}")]
    Down {
        /// What was asked.
        url: String,
        /// Requests that failed.
        failures: u32,
        /// What happened last.
        reason: String,
    },
    /// The server refuses to answer, and would again.
    #[error("{url} refuses with status {status}: {message}; {way_out}")]
    Refused {
        /// What was asked.
        url: String,
        /// Its status.
        status: u16,
        /// Its words, shortened.
        message: String,
        /// What to look at.
        way_out: &'static str,
    },
    /// The server does not say what it serves.
    #[error("{url} lists {} models: name one{}", models.len(), listed(models))]
    Model {
        /// What was asked.
        url: String,
        /// What it serves.
        models: Vec<String>,
    },
    /// The answer holds no token identifiers.
    #[error(
        "{url} answers without token ids: vLLM gives them from version 0.10.2 on and SGLang where it knows `return_token_ids`, llama-server where it knows `verbose`; with other servers, use the wire of messages, for evaluation alone"
    )]
    NoTokenIds {
        /// What was asked.
        url: String,
    },
    /// The answer holds no log-probabilities.
    #[error(
        "{url} answers without log-probabilities, which training needs: vLLM, SGLang and llama-server give them on the wire of tokens; evaluation does without"
    )]
    NoLogprobs {
        /// What was asked.
        url: String,
    },
    /// The answer holds no whole distribution.
    #[error(
        "{url} answers with log-probabilities of {given} tokens, of the {vocab} that there are: llama-server gives all of them, vLLM with --max-logprobs {vocab} or more; otherwise it serves another model"
    )]
    Distribution {
        /// What was asked.
        url: String,
        /// Tokens that have one.
        given: usize,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// It takes less context than it was said to.
    #[error("{url} takes less context than the {window} tokens that it was said to: give each of its slots that many")]
    Window {
        /// What was asked.
        url: String,
        /// Longest context, in tokens.
        window: usize,
    },
    /// What the log-probabilities of such a draw are is another thing with every server.
    #[error(
        "sequence {} is drawn at temperature {temperature}: servers give log-probabilities before or after temperature and do not say which, so train with temperature 1",
        sequence.0
    )]
    Temperature {
        /// The sequence.
        sequence: SequenceId,
        /// Its temperature.
        temperature: f32,
    },
    /// The environment has a grammar.
    #[error(
        "sequence {} may say only what its environment's grammar allows, and a server that draws cannot be told token by token: use the wire of distributions, a local backend (candle, llama-cpp) or a text harness",
        sequence.0
    )]
    Constraint {
        /// The sequence.
        sequence: SequenceId,
    },
    /// A prompt that is no conversation.
    #[error("the context of sequence {} cannot be sent as messages: {reason}", sequence.0)]
    Messages {
        /// The sequence.
        sequence: SequenceId,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The server has another vocabulary.
    #[error("{url} says token {token}, the vocabulary ends at {vocab}: it serves another model")]
    UnknownToken {
        /// What was asked.
        url: String,
        /// The token.
        token: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// A request that no policy can answer.
    #[error(transparent)]
    Request(#[from] SamplerError),
}

fn listed(models: &[String]) -> String {
    const SHOWN: usize = 8;
    if models.is_empty() {
        return String::new();
    }
    let dots = if models.len() > SHOWN { ", …" } else { "" };
    format!(" of {}{dots}", models[..models.len().min(SHOWN)].join(", "))
}
