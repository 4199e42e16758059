//! One server: single tries over HTTP, and requests that are tried again.

use super::error::OpenAiError;
use super::options::OpenAiOptions;
use super::retry;
use super::stats::{Counters, add};
use super::wire::{self, Ask, Nonsense, Said};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, StatusCode, Url};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};

/// Refusals are short; of a longer one, so much is read.
const REFUSAL_MAX: usize = 64 << 10;

pub(super) struct Server {
    pub(super) options: OpenAiOptions,
    pub(super) counters: Counters,
    client: Client,
    base: String,
    turns: Semaphore,
    /// Something was answered: what is refused from then on is so for what it is, not for how the server was reached.
    answered: AtomicBool,
}

/// What became of a request.
#[derive(Debug)]
pub(super) enum Outcome {
    Said(Said),
    /// Its context is too long for the server.
    Overflow,
    /// It was given up, for this reason.
    Failed(String),
    /// Every other would meet the same.
    Fatal(OpenAiError),
}

/// Why a try came to nothing.
enum Fault {
    Passing { reason: String, wish: Option<Duration> },
    Lasting(Outcome),
}

impl Fault {
    fn passing(reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self::Passing { reason, wish: None }
    }
}

impl Server {
    /// Checks what can be checked without asking.
    pub(super) fn new(options: OpenAiOptions) -> Result<Self, OpenAiError> {
        let base = base(&options.url)?;
        let mut headers = HeaderMap::new();
        if let Some(key) = &options.api_key {
            let bearer = HeaderValue::from_str(&format!("Bearer {}", key.secret()));
            let mut bearer = bearer.map_err(|_| OpenAiError::ApiKey)?;
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        // An application that has chosen its own cryptography keeps it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = Client::builder()
            .default_headers(headers)
            .connect_timeout(options.connect_timeout)
            // A key goes where it was meant to go, and nowhere else.
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(options.concurrency);
        if is_local(&base) {
            client = client.no_proxy();
        }
        Ok(Self {
            client: client.build().map_err(|error| OpenAiError::Client(chain(&error)))?,
            base: base.as_str().trim_end_matches('/').to_owned(),
            turns: Semaphore::new(options.concurrency.clamp(1, Semaphore::MAX_PERMITS)),
            counters: Counters::default(),
            answered: AtomicBool::new(false),
            options,
        })
    }

    /// The endpoint that actions are asked of.
    pub(super) fn url(&self) -> String {
        format!("{}/{}", self.base, wire::endpoint(&self.options.wire))
    }

    /// The model to ask for, and the longest context it takes where the server says so.
    pub(super) async fn model(&self) -> Result<(String, Option<usize>), OpenAiError> {
        if let Some(model) = &self.options.model {
            return Ok((model.clone(), None));
        }
        let url = format!("{}/models", self.base);
        let list = |answer: Vec<u8>| wire::models(&answer).map_err(Fault::passing);
        match self.persist(Method::GET, &url, &[], 0, list).await {
            Ok(models) => match <[_; 1]>::try_from(models) {
                Ok([model]) => Ok(model),
                Err(models) => {
                    let models = models.into_iter().map(|(name, _)| name).collect();
                    Err(OpenAiError::Model { url, models })
                }
            },
            Err(Outcome::Fatal(error)) => Err(error),
            Err(Outcome::Failed(reason)) => Err(OpenAiError::Unreachable { url, reason }),
            Err(Outcome::Said(_) | Outcome::Overflow) => Err(OpenAiError::Unreachable {
                url,
                reason: "it takes this for a context that is too long".to_owned(),
            }),
        }
    }

    /// Carries a request out, however many tries it takes, once it is its turn.
    pub(super) async fn ask(&self, ask: &Ask, model: &str) -> Outcome {
        let Ok(_turn) = self.turns.acquire().await else {
            return Outcome::Failed("the policy is gone".to_owned());
        };
        add(&self.counters.requests, 1);
        let body = wire::body(ask, model, &self.options);
        let read = |answer: Vec<u8>| {
            wire::read(&self.options.wire, ask.room, &answer).map_err(|nonsense| match nonsense {
                Nonsense::Malformed(reason) => Fault::passing(format!("its answer makes no sense: {reason}")),
                Nonsense::Withheld(reason) => {
                    Fault::Lasting(Outcome::Failed(format!("it withholds its answer: {reason}")))
                }
                Nonsense::NoTokenIds => Fault::Lasting(Outcome::Fatal(OpenAiError::NoTokenIds { url: self.url() })),
                Nonsense::Unknown(token) => {
                    let (url, vocab) = (self.url(), self.options.vocab());
                    Fault::Lasting(Outcome::Fatal(OpenAiError::UnknownToken { url, token, vocab }))
                }
                Nonsense::Partial(given) => Fault::Lasting(self.partial(given)),
            })
        };
        match self.persist(Method::POST, &self.url(), &body, ask.seed, read).await {
            Ok(said) => {
                self.answered.store(true, Ordering::Relaxed);
                let (prompt, completion) = said.usage.unwrap_or_default();
                add(&self.counters.tokens_in, prompt);
                add(&self.counters.tokens_out, completion);
                Outcome::Said(said)
            }
            Err(outcome) => {
                if matches!(outcome, Outcome::Failed(_)) {
                    add(&self.counters.failures, 1);
                }
                outcome
            }
        }
    }

    /// Tries until something is read, the retries are used up, or the deadline leaves no time for another.
    async fn persist<T>(
        &self,
        method: Method,
        url: &str,
        body: &[u8],
        seed: u64,
        read: impl Fn(Vec<u8>) -> Result<T, Fault>,
    ) -> Result<T, Outcome> {
        let options = &self.options;
        let deadline = Instant::now() + options.deadline;
        let mut retry = 0;
        loop {
            let begun = Instant::now();
            let end = deadline.min(begun + options.timeout);
            let tried = timeout_at(end, self.attempt(method.clone(), url, body)).await;
            self.counters.add_asking(begun.elapsed());
            let silent = || Err(Fault::passing(format!("no answer within {:.1?}", begun.elapsed())));
            let (reason, wish) = match tried.unwrap_or_else(|_| silent()).and_then(&read) {
                Ok(read) => return Ok(read),
                Err(Fault::Lasting(outcome)) => return Err(outcome),
                Err(Fault::Passing { reason, wish }) => (reason, wish),
            };
            if retry == options.retries {
                return Err(Outcome::Failed(reason));
            }
            let pause = retry::pause(options.backoff, options.backoff_max, retry, seed);
            let pause = pause.max(wish.unwrap_or_default());
            if Instant::now() + pause >= deadline {
                return Err(Outcome::Failed(format!(
                    "{reason}; there is no time left for another try"
                )));
            }
            let paused = Instant::now();
            sleep(pause).await;
            self.counters.add_pausing(paused.elapsed());
            add(&self.counters.retries, 1);
            retry += 1;
        }
    }

    /// One request and the whole of its answer.
    async fn attempt(&self, method: Method, url: &str, body: &[u8]) -> Result<Vec<u8>, Fault> {
        let mut request = self.client.request(method, url);
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_vec());
        }
        let response = request.send().await.map_err(|error| Fault::passing(chain(&error)))?;
        let status = response.status();
        let wish = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|header| header.to_str().ok());
        let wish = wish.and_then(|header| retry::wish(header, SystemTime::now()));
        if status.is_success() {
            let (answer, whole) = read_up_to(response, self.options.answer_max).await?;
            if whole {
                return Ok(answer);
            }
            let reason = format!("its answer is longer than {} bytes", self.options.answer_max);
            return Err(Fault::Lasting(Outcome::Failed(reason)));
        }
        let (refusal, _) = read_up_to(response, REFUSAL_MAX).await?;
        Err(self.refused(url, status, wish, &refusal))
    }

    /// A distribution lacks tokens.
    fn partial(&self, given: usize) -> Outcome {
        let (url, vocab) = (self.url(), self.options.vocab());
        let error = OpenAiError::Distribution { url, given, vocab };
        if self.answered.load(Ordering::Relaxed) {
            Outcome::Failed(error.to_string())
        } else {
            Outcome::Fatal(error)
        }
    }

    fn refused(&self, url: &str, status: StatusCode, wish: Option<Duration>, refusal: &[u8]) -> Fault {
        let code = status.as_u16();
        let message = wire::words(refusal);
        if retry::is_passing(code) && !wire::is_quota(refusal) {
            let reason = format!("status {code}: {message}");
            return Fault::Passing { reason, wish };
        }
        if wire::is_overflow(refusal) {
            return Fault::Lasting(Outcome::Overflow);
        }
        let way_out = match code {
            401 | 403 => "is the API key set, and does it belong to this server?",
            402 | 429 => "the account has no means left",
            404 | 405 => "does the URL end with the version, as in …/v1, and is the model's name right?",
            300..=399 => "it has moved: use the URL that it moved to",
            // The server is the right one, and this request is not.
            _ if self.answered.load(Ordering::Relaxed) => {
                return Fault::Lasting(Outcome::Failed(format!("status {code}: {message}")));
            }
            _ => "it does not understand the request: is it OpenAI-compatible, and does it serve this wire?",
        };
        Fault::Lasting(Outcome::Fatal(OpenAiError::Refused {
            url: url.to_owned(),
            status: code,
            message,
            way_out,
        }))
    }
}

/// The body, and whether that is all of it.
async fn read_up_to(mut response: reqwest::Response, max: usize) -> Result<(Vec<u8>, bool), Fault> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > max => {
                body.extend_from_slice(&chunk[..max - body.len()]);
                return Ok((body, false));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok((body, true)),
            Err(error) => return Err(Fault::passing(format!("its answer was cut off: {}", chain(&error)))),
        }
    }
}

fn base(url: &str) -> Result<Url, OpenAiError> {
    let refuse = |reason: &str| {
        // A password in it is not shown.
        let url = url.rsplit_once('@').map_or(url, |(_, host)| host).to_owned();
        let reason = reason.to_owned();
        Err(OpenAiError::Url { url, reason })
    };
    match Url::parse(url) {
        Err(error) => refuse(&error.to_string()),
        Ok(parsed) if !matches!(parsed.scheme(), "http" | "https") => {
            refuse("it begins neither with http:// nor with https://")
        }
        Ok(parsed) if !parsed.username().is_empty() || parsed.password().is_some() => {
            refuse("credentials belong into the API key")
        }
        Ok(parsed) if parsed.query().is_some() || parsed.fragment().is_some() => refuse("it holds a ? or a #"),
        Ok(parsed) => Ok(parsed),
    }
}

/// No proxy leads back to this machine.
fn is_local(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// An error and what caused it, without the URL, which stands beside it.
fn chain(error: &reqwest::Error) -> String {
    let mut words = Vec::new();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        words.push(cause.to_string());
        next = cause.source();
    }
    if words.is_empty() {
        words.push(error.to_string());
    }
    words.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_checked_before_anything_is_sent() {
        for (url, reason) in [
            ("", "relative URL"),
            ("127.0.0.1:8080/v1", "relative URL"),
            ("localhost:8080/v1", "neither with http"),
            ("ftp://host/v1", "neither with http"),
            ("http://", "empty host"),
            ("http://me:secret@host/v1", "credentials"),
            ("http://host/v1?key=1", "holds a ?"),
        ] {
            let error = base(url).unwrap_err().to_string();
            assert!(error.contains(reason) && !error.contains("secret"), "{url}: {error}");
        }
        for (url, local) in [
            ("http://127.0.0.1:8080/v1", true),
            ("http://[::1]:8080/v1/", true),
            ("http://localhost/v1", true),
            ("https://api.example.com/v1", false),
        ] {
            assert_eq!(is_local(&base(url).unwrap()), local, "{url}");
        }
    }
}
