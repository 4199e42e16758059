//! What a policy is told when it is made.

use rao_tree::WeightsVersion;
use serde_json::{Map, Value};
use std::fmt;
use std::time::Duration;

/// How a server is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Token identifiers go out and come back (`POST completions`): what training needs. For servers that run the caller's own model.
    Tokens {
        /// Tokens of the caller's vocabulary; an answer with another is refused.
        vocab: usize,
        /// Longest context in tokens, prompt and completion together, as the server was started with. A server that says less is believed.
        window: usize,
    },
    /// Token identifiers go out, and the log-probabilities of every token come back, for one token a request (`POST completions`); the token is
    /// drawn here, as a local sampler draws it: under the environment's masks, at the request's temperature, from its seed. A request and an
    /// answer of some 100 bytes per token of the vocabulary for every token drawn: for vocabularies of hundreds or thousands, not of a hundred
    /// thousand.
    Distribution {
        /// Tokens of the caller's vocabulary; a server that gives fewer or others is refused.
        vocab: usize,
        /// Longest context in tokens, as in [`Wire::Tokens`]; a server that takes less after all is an error.
        window: usize,
    },
    /// Messages go out and text comes back (`POST chat/completions`): for servers that hide their tokens. The caller's tokens are those of
    /// [`crate::bytes`].
    Chat,
}

/// Whether log-probabilities matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logprobs {
    /// For training: a server that gives none is an error, and so is a request whose log-probabilities may be those of another distribution
    /// than it was drawn from. A single answer that lacks some fails alone.
    Required,
    /// For evaluation: where the server gives none, 0 stands for what is not known.
    IfGiven,
}

/// A secret that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// Around the secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    pub(super) fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// Where the server is, how it is asked, and how long it is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenAiOptions {
    /// Where its endpoints begin, with the version: `http://127.0.0.1:8080/v1`.
    pub url: String,
    /// Sent as a bearer token. Whoever calls reads it from the environment, so that it is in no file and no list of processes.
    pub api_key: Option<ApiKey>,
    /// Model to ask for; `None` takes the one that the server serves, and is an error where it serves several.
    pub model: Option<String>,
    /// How it is asked.
    pub wire: Wire,
    /// Whether log-probabilities matter. On the wire of distributions there always are some.
    pub logprobs: Logprobs,
    /// Version that its weights are reported as.
    pub version: WeightsVersion,
    /// Requests under way at once, those that wait to be tried again included; others queue. At least 1.
    pub concurrency: usize,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long one try may take, from the request's first byte to the answer's last: longer than the longest action takes to generate.
    pub timeout: Duration,
    /// How long a request may take, all its tries and pauses together, once it is its turn.
    pub deadline: Duration,
    /// How often a request is tried again before it fails.
    pub retries: u32,
    /// Longest pause before the first retry. It doubles with each, up to [`backoff_max`](Self::backoff_max); the pause itself is drawn
    /// uniformly below. A server's `Retry-After` is kept to where it is longer.
    pub backoff: Duration,
    /// Longest pause that is not the server's wish.
    pub backoff_max: Duration,
    /// Requests that fail one after another, with none answered in between, until the server is taken to be gone. At least 1.
    pub failures_max: u32,
    /// Longest answer that is read, in bytes. One token with its log-probability takes some 200.
    pub answer_max: usize,
    /// Members that every request's body gets besides, in the place of its own where they have the same name. For what is one server's alone:
    /// `{"chat_template_kwargs": {"enable_thinking": false}}`.
    pub extra: Map<String, Value>,
}

impl OpenAiOptions {
    /// A server at that place: no key, the one model that it serves, log-probabilities if given, 32 requests at once; 10 seconds to
    /// connect, 5 minutes a try, 15 minutes and 5 retries a request, pauses up to 0.5 to 30 seconds, 16 failures in a row, 64 MiB an answer.
    pub fn new(url: impl Into<String>, wire: Wire) -> Self {
        Self {
            url: url.into(),
            api_key: None,
            model: None,
            wire,
            logprobs: Logprobs::IfGiven,
            version: WeightsVersion(0),
            concurrency: 32,
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(300),
            deadline: Duration::from_secs(900),
            retries: 5,
            backoff: Duration::from_millis(500),
            backoff_max: Duration::from_secs(30),
            failures_max: 16,
            answer_max: 64 << 20,
            extra: Map::new(),
        }
    }

    /// Tokens that the caller speaks.
    #[must_use]
    pub fn vocab(&self) -> usize {
        match self.wire {
            Wire::Tokens { vocab, .. } | Wire::Distribution { vocab, .. } => vocab,
            Wire::Chat => crate::bytes::VOCAB,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_not_shown() {
        let mut options = OpenAiOptions::new("http://127.0.0.1:1/v1", Wire::Chat);
        options.api_key = Some(ApiKey::new("sk-secret"));
        let shown = format!("{options:?}");
        assert!(shown.contains("ApiKey(…)") && !shown.contains("secret"), "{shown}");
    }
}
