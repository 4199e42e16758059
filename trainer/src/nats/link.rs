//! The connection to a NATS server, and what lies there.

use super::{Announcement, NatsError};
use crate::config;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::object_store::ObjectStore;
use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectOptions, Event, HeaderMap, ServerAddr};
use percent_encoding::percent_decode_str;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long one question to the server may take.
pub(super) const REQUEST: Duration = Duration::from_secs(5);
/// How long a server that cannot be reached is tried.
const REACH: Duration = Duration::from_secs(30);
/// Between two attempts.
pub(super) const PAUSE: Duration = Duration::from_millis(250);
/// Environment variable with the password of the user that the URL names.
const PASSWORD: &str = "RAO_NATS_PASSWORD";
/// The consumer that all workers share.
pub(super) const WORKERS: &str = "workers";

/// A connection, and the names under which one training lies at the server.
#[derive(Clone)]
pub struct Link {
    pub(super) client: Client,
    pub(super) jetstream: Context,
    place: String,
    /// How often it was connected.
    connected: watch::Receiver<u64>,
}

impl Link {
    /// Connects; tries for half a minute.
    ///
    /// # Errors
    /// [`NatsError`]: the URL, the credentials, or the server. Anything but this machine itself takes credentials.
    pub async fn connect(nats: &config::Nats) -> Result<Self, NatsError> {
        let servers = servers(&nats.url)?;
        let creds = (!nats.creds.is_empty()).then(|| Path::new(&nats.creds));
        if let Some(server) = servers.iter().find(|server| !is_this_machine(server.host()))
            && creds.is_none()
            && server.username().is_none()
        {
            let host = server.host().to_owned();
            return Err(NatsError::Anonymous { host });
        }
        let begun = Instant::now();
        let (connects, connected) = watch::channel(0);
        loop {
            let connects = connects.clone();
            let options = options(&servers, creds).await?.event_callback(move |event| {
                if matches!(event, Event::Connected) {
                    connects.send_modify(|times| *times += 1);
                }
                std::future::ready(())
            });
            match options.connect(&servers).await {
                Ok(client) => {
                    let mut jetstream = jetstream::new(client.clone());
                    jetstream.set_timeout(REQUEST);
                    let place = nats.name.clone();
                    return Ok(Self {
                        client,
                        jetstream,
                        place,
                        connected,
                    });
                }
                Err(error) if begun.elapsed() > REACH || is_final(&error) => {
                    return Err(NatsError::Unreachable {
                        servers: shown(&servers),
                        reason: error.to_string(),
                    });
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Returns when there is a new connection: the server has forgotten what it was asked over the last one.
    pub(super) async fn reconnected(&self) {
        let mut connected = self.connected.clone();
        connected.mark_unchanged();
        if connected.changed().await.is_err() {
            std::future::pending().await
        }
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    pub(super) fn subject(&self, what: &str) -> String {
        format!("rao.{}.{what}", self.place)
    }

    pub(super) fn name(&self, what: &str) -> String {
        format!("{}-{what}", self.place)
    }

    /// A stream that was made.
    pub(super) async fn stream(&self, what: &'static str) -> Result<Stream, NatsError> {
        let stream = self.jetstream.get_stream(self.name(what)).await;
        stream.map_err(|error| NatsError::server("opening a stream", error))
    }

    /// An object store that was made.
    pub(super) async fn store(&self, what: &'static str) -> Result<ObjectStore, NatsError> {
        let store = self.jetstream.get_object_store(self.name(what)).await;
        store.map_err(|error| NatsError::server("opening an object store", error))
    }

    /// Longest message that the server takes, in bytes, with room for headers.
    pub(super) fn payload_max(&self) -> usize {
        // As the server said when it was connected to, 1 MiB unless it is configured otherwise.
        self.client.server_info().max_payload / 4 * 3
    }

    pub(super) async fn consumer(&self, what: &'static str, durable: &str) -> Result<PullConsumer, NatsError> {
        let consumer = self.stream(what).await?.get_consumer(durable).await;
        consumer.map_err(|error| NatsError::server("opening a consumer", error))
    }

    /// Stores a message and says its number in the stream; an identifier that was stored before is none the second time.
    pub(super) async fn publish(
        &self,
        what: &'static str,
        headers: HeaderMap,
        payload: Vec<u8>,
    ) -> Result<u64, NatsError> {
        let failed = |error: PublishError| match error.kind() {
            PublishErrorKind::WrongLastSequence => NatsError::TakenOver {
                place: self.place.clone(),
            },
            _ => NatsError::server("storing a message", error),
        };
        let stored = self
            .jetstream
            .publish_with_headers(self.subject(what), headers, payload.into())
            .await;
        let stored = stored.map_err(failed)?.await.map_err(failed)?;
        Ok(stored.sequence)
    }

    /// What was announced last, if anything was.
    pub(super) async fn announcement(&self) -> Result<Option<Announcement>, NatsError> {
        let stream = self.stream("weights").await?;
        match stream.get_last_raw_message_by_subject(&self.subject("weights")).await {
            Ok(message) => Announcement::read(&message.payload).map(Some),
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => Ok(None),
            Err(error) => Err(NatsError::server("reading the announcement", error)),
        }
    }

    /// Where workers take tasks from.
    pub(super) async fn tasks(&self) -> Result<PullConsumer, NatsError> {
        self.consumer("tasks", WORKERS).await
    }
}

fn servers(url: &str) -> Result<Vec<ServerAddr>, NatsError> {
    let parse = |one: &str| {
        one.trim()
            .parse::<ServerAddr>()
            .map_err(|error| NatsError::Url(error.to_string()))
    };
    let servers: Vec<ServerAddr> = url.split(',').map(parse).collect::<Result<_, _>>()?;
    match servers.iter().find(|server| server.host().is_empty()) {
        Some(_) => Err(NatsError::Url("a host is missing".into())),
        None => Ok(servers),
    }
}

/// Whether nobody else can listen or speak there.
fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Their addresses, without what may be secret.
fn shown(servers: &[ServerAddr]) -> String {
    let each = servers
        .iter()
        .map(|server| format!("{}://{}:{}", server.scheme(), server.host(), server.port()));
    each.collect::<Vec<_>>().join(", ")
}

/// Whether to try again would change nothing.
fn is_final(error: &async_nats::ConnectError) -> bool {
    use async_nats::ConnectErrorKind::{Authentication, AuthorizationViolation, ServerParse};
    // A certificate that is not believed is an input/output error among others, but for its words.
    let is_certificate = || error.to_string().contains("certificate");
    matches!(error.kind(), Authentication | AuthorizationViolation | ServerParse) || is_certificate()
}

async fn options(servers: &[ServerAddr], creds: Option<&Path>) -> Result<ConnectOptions, NatsError> {
    let mut options = ConnectOptions::new()
        .name(concat!("rao ", env!("CARGO_PKG_VERSION")))
        .connection_timeout(Duration::from_secs(5))
        .request_timeout(Some(REQUEST))
        .reconnect_delay_callback(|attempts| PAUSE.saturating_mul(attempts.clamp(1, 8) as u32))
        .max_reconnects(None)
        // Also of servers that the first one names.
        .require_tls(servers.iter().any(ServerAddr::tls_required));
    if let Some(path) = creds {
        options = options
            .credentials_file(path)
            .await
            .map_err(|source| NatsError::Credentials {
                path: path.to_owned(),
                source,
            })?;
    } else if let Some((user, server)) = servers.iter().find_map(|server| Some((server.username()?, server))) {
        let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let user = plain(user);
        let password = match (server.password(), std::env::var(PASSWORD)) {
            (Some(password), _) => plain(password),
            (None, Ok(password)) => password,
            (None, Err(_)) => return Err(NatsError::Password),
        };
        options = options.user_and_password(user, password);
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    async fn refused(url: &str) -> String {
        let nats = config::Nats {
            url: url.to_owned(),
            ..Config::default().nats
        };
        match Link::connect(&nats).await {
            Ok(_) => panic!("{url} was accepted"),
            Err(error) => error.to_string(),
        }
    }

    #[tokio::test]
    async fn nobody_in_particular_is_refused_on_a_network() {
        for url in [
            "nats://example.com",
            "tls://10.0.0.1:4222",
            "nats://127.0.0.1,nats://example.com",
        ] {
            let error = refused(url).await;
            assert!(
                error.contains("is another machine, and nothing says who asks"),
                "{error}"
            );
        }
        for url in ["http://127.0.0.1", "nats://", "nats://127.0.0.1:x"] {
            let error = refused(url).await;
            assert!(error.starts_with("nats.url: "), "{error}");
        }
    }

    #[test]
    fn what_is_shown_holds_no_secret() {
        let servers = servers("nats://me:secret@host:1,tls://[::1]").unwrap();
        assert_eq!(shown(&servers), "nats://host:1, tls://::1:4222");
        assert!(is_this_machine("::1") && is_this_machine("127.0.0.2") && !is_this_machine("localhost.example"));
    }
}
