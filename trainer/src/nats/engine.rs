//! The trainer's side: publishes tasks and weights, and gathers trees.

use super::announcement::{Announcement, Published};
use super::link::{Link, PAUSE};
use super::wire::{self, Envelope, JobId};
use super::{NatsError, PROTOCOL, store};
use crate::backend::{Quant, Trainee};
use crate::config::{self, Config, Dtype, WeightsFormat};
use crate::rollout::{InFlight, Job, Opening, Progress, Rollout, RolloutEngine, RolloutError, Settings};
use async_nats::jetstream::{self, AckKind};
use async_trait::async_trait;
use futures::StreamExt;
use futures::future::try_join_all;
use rao_tree::{Environment, WeightsVersion};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Trees that are asked for at once.
const PULL: usize = 64;
/// How long one such question waits.
const PULL_WAIT: Duration = Duration::from_secs(1);
/// How often a tree is asked for anew, because what came was no tree, before it counts as failed.
const ATTEMPTS: u32 = 3;
/// Why a tree is given up that nobody sends.
const LOST: &str = "it was given to workers again and again, and none ended it";
/// Versions of the weights that are kept: workers may be reading the one before the newest.
const VERSIONS: usize = 2;

/// Rolls out by workers elsewhere. Trees are the same as [`InProcess`](crate::rollout::InProcess) makes of the same weights.
pub struct Distributed {
    link: Link,
    nats: config::Nats,
    /// What workers are told of the configuration.
    shared: String,
    quant: Quant,
    epoch: String,
    version: WeightsVersion,
    staleness_max: u64,
    vocab: usize,
    /// Number of the announcement, where it is known.
    announced: Option<u64>,
    /// Rollouts so far.
    batch: u64,
    /// Objects of the versions that are kept, the oldest first.
    kept: VecDeque<Vec<String>>,
    /// What a person should know, since it was asked last.
    notices: Vec<String>,
}

/// A tree that was asked for.
struct Order {
    opening: Opening,
    attempt: u32,
    /// Held until it has come.
    waiting: Option<InFlight>,
    rollout: Option<Rollout>,
}

/// What became of a message.
enum Taken {
    /// Of an earlier rollout, or had before.
    Stray,
    /// For another trainer process: one that is no more, or one that has taken over.
    Foreign,
    /// A tree.
    Tree(usize, Box<Rollout>),
    /// What should have been one.
    Refused(usize, String),
}

impl Distributed {
    /// Connects, prepares the place, and announces the weights.
    ///
    /// # Errors
    /// [`NatsError`].
    pub async fn open(trainee: &Trainee, config: &Config) -> Result<Self, NatsError> {
        let link = Link::connect(&config.nats).await?;
        link.prepare(&config.nats).await?;
        let quant = config.rollout.quant.parse();
        let mut engine = Self {
            nats: config.nats.clone(),
            shared: shared(config)?,
            quant: quant.map_err(|error: crate::backend::BackendError| NatsError::Backend(error.to_string()))?,
            epoch: link.unique(),
            version: trainee.version(),
            staleness_max: config.rao.staleness_max,
            vocab: trainee.vocab(),
            announced: None,
            batch: 0,
            kept: VecDeque::new(),
            notices: Vec::new(),
            link,
        };
        engine.publish(trainee).await?;
        Ok(engine)
    }

    /// Publishes the weights as they are now.
    ///
    /// # Errors
    /// [`NatsError`]; workers go on with those that they have.
    pub async fn publish(&mut self, trainee: &Trainee) -> Result<(), NatsError> {
        let version = trainee.version();
        let files = self.write(trainee)?;
        let store = self
            .patiently(|link| async move { link.store("weights").await })
            .await?;
        let mut published = Vec::new();
        for (format, name, path) in &files.files {
            let object = format!("{}/{}/{name}", self.epoch, version.0);
            self.patiently(|_| {
                let (store, object) = (&store, &object);
                async move { store::put_file(store, object, path).await }
            })
            .await?;
            published.push(Published {
                format: *format,
                name: (*name).to_owned(),
                object,
            });
        }
        let objects = published.iter().map(|file| file.object.clone()).collect();
        let announcement = Announcement {
            protocol: PROTOCOL,
            rao: env!("CARGO_PKG_VERSION").to_owned(),
            epoch: self.epoch.clone(),
            version: version.0,
            vocab: trainee.vocab(),
            config: self.shared.clone(),
            files: published,
        };
        let json = serde_json::to_vec(&announcement).map_err(|error| NatsError::Announcement(error.to_string()))?;
        let last = self.announced;
        let announced = self
            .patiently(|link| {
                let json = json.clone();
                async move { link.announce(json, last).await }
            })
            .await;
        self.announced = match announced {
            Ok(number) => Some(number),
            // It may be our own, of which the server could not tell any more that it was stored.
            Err(NatsError::TakenOver { .. }) => {
                self.check_place().await?;
                None
            }
            Err(error) => return Err(error),
        };
        self.version = version;
        self.kept.push_back(objects);
        if self.kept.len() > VERSIONS {
            for object in self.kept.pop_front().unwrap_or_default() {
                // What cannot be removed now is in nobody's way: the next training of this name makes the store anew.
                let _ = store.delete(object).await;
            }
        }
        Ok(())
    }

    /// What a person should know of what has happened since the last time.
    pub fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    fn write(&self, trainee: &Trainee) -> Result<Files, NatsError> {
        let failed = |error: crate::backend::BackendError| NatsError::Backend(error.to_string());
        let folder = tempfile::tempdir().map_err(|source| NatsError::File {
            path: std::env::temp_dir(),
            source,
        })?;
        let mut files = Vec::new();
        for &format in &self.nats.weights {
            match format {
                WeightsFormat::Safetensors => {
                    trainee.export_merged(folder.path(), Dtype::F32, None).map_err(failed)?;
                    for name in ["config.json", "model.safetensors"] {
                        files.push((format, name, folder.path().join(name)));
                    }
                }
                WeightsFormat::Gguf => {
                    let path = folder.path().join("model.gguf");
                    trainee.export(self.quant, &path).map_err(failed)?;
                    files.push((format, "model.gguf", path));
                }
            }
        }
        Ok(Files { _folder: folder, files })
    }

    /// Tries until it works, as the server may be on its way back, for as long as is waited for workers.
    async fn patiently<'s, T, F: Future<Output = Result<T, NatsError>> + 's>(
        &'s self,
        attempt: impl Fn(&'s Link) -> F,
    ) -> Result<T, NatsError> {
        let begun = Instant::now();
        loop {
            match attempt(&self.link).await {
                Err(NatsError::Server { .. }) if begun.elapsed().as_secs_f64() < self.nats.patience => {
                    tokio::time::sleep(PAUSE).await;
                }
                result => return result,
            }
        }
    }

    async fn gather(&mut self, mut orders: Vec<Order>, settings: &Settings) -> Result<Vec<Rollout>, NatsError> {
        self.batch += 1;
        self.check_place().await?;
        let all: Vec<usize> = (0..orders.len()).collect();
        self.order(&orders, &all).await?;
        let mut moved = Instant::now();
        let mut looked = Instant::now();
        // Whether tasks had run out when it was last looked.
        let mut suspected = false;
        while orders.iter().any(|order| order.rollout.is_none()) && !settings.is_cancelled() {
            let again = match self.pull(&mut orders, settings).await {
                Ok((0, again)) => again,
                Ok((_, again)) => {
                    (moved, suspected) = (Instant::now(), false);
                    again
                }
                // It may be on its way back.
                Err(NatsError::Server { .. }) => {
                    tokio::time::sleep(PAUSE).await;
                    Vec::new()
                }
                Err(error) => return Err(error),
            };
            self.order(&orders, &again).await?;
            let missing = orders.iter().filter(|order| order.rollout.is_none()).count();
            if missing > 0 && moved.elapsed().as_secs_f64() > self.nats.patience {
                return Err(NatsError::Deserted {
                    waited: moved.elapsed(),
                    missing,
                    trees: orders.len(),
                });
            }
            if missing > 0 && looked.elapsed().as_secs_f64() > self.nats.ack_wait {
                looked = Instant::now();
                self.check_place().await?;
                // Twice, as a tree may have arrived in between.
                let idle = self.link.is_idle().await.unwrap_or(false);
                if idle && suspected {
                    self.recover(&mut orders, settings).await?;
                    moved = Instant::now();
                }
                suspected = idle && !suspected;
            }
        }
        Ok(orders.into_iter().filter_map(|order| order.rollout).collect())
    }

    /// # Errors
    /// [`NatsError::TakenOver`].
    async fn check_place(&self) -> Result<(), NatsError> {
        let newest = self.patiently(|link| async move { link.announcement().await }).await?;
        if newest.is_some_and(|newest| newest.epoch == self.epoch) {
            return Ok(());
        }
        let place = self.nats.name.clone();
        Err(NatsError::TakenOver { place })
    }

    /// Publishes tasks.
    async fn order(&self, orders: &[Order], which: &[usize]) -> Result<(), NatsError> {
        for some in which.chunks(PULL) {
            self.patiently(|link| {
                let tasks = some.iter().map(|&index| self.task(link, &orders[index], index));
                async move { try_join_all(tasks).await.map(drop) }
            })
            .await?;
        }
        Ok(())
    }

    async fn task(&self, link: &Link, order: &Order, index: usize) -> Result<(), NatsError> {
        let envelope = self.envelope(index, order.attempt);
        let frame = wire::order(&order.opening)?;
        // The same identifier whenever it is tried again, so that there is one task.
        link.publish("tasks", envelope.headers("task"), frame).await.map(drop)
    }

    /// Puts a task that is given up where people find it, if the server takes it.
    async fn bury(&self, index: usize, order: &Order, why: &str) {
        if let Ok(frame) = wire::order(&order.opening) {
            let mut headers = self.envelope(index, order.attempt).headers("dead");
            wire::set_reason(&mut headers, why);
            let _ = self.link.publish("dead", headers, frame).await;
        }
    }

    fn envelope(&self, index: usize, attempt: u32) -> Envelope {
        Envelope {
            epoch: self.epoch.clone(),
            job: JobId {
                batch: self.batch,
                index,
                attempt,
            },
        }
    }

    /// Takes what has come; says how many trees, and which must be asked for anew.
    async fn pull(&mut self, orders: &mut [Order], settings: &Settings) -> Result<(usize, Vec<usize>), NatsError> {
        let failed = |error: &dyn std::fmt::Display| NatsError::server("taking trees", error.to_string());
        let trees = self.link.trees().await?;
        let batch = trees.batch().max_messages(PULL).expires(PULL_WAIT);
        let mut messages = batch.messages().await.map_err(|error| failed(&error))?;
        let (mut count, mut again) = (0, Vec::new());
        let link = self.link.clone();
        let mut reconnected = std::pin::pin!(link.reconnected());
        loop {
            let next = tokio::select! {
                next = messages.next() => next,
                () = &mut reconnected => None,
            };
            // What is wrong with the connection shows when it is asked again; what came so far is not lost by it.
            let Some(Ok(message)) = next else { break };
            match self.take(&message, orders, settings).await? {
                Taken::Stray => {}
                Taken::Foreign => {
                    if let Err(error) = self.check_place().await {
                        // It is for the other one.
                        let _ = message.ack_with(AckKind::Nak(None)).await;
                        return Err(error);
                    }
                }
                Taken::Tree(index, rollout) => {
                    settings.progress.count(&rollout);
                    let order = &mut orders[index];
                    if let Some(waiting) = order.waiting.take() {
                        waiting.end();
                    }
                    order.rollout = Some(*rollout);
                    count += 1;
                }
                Taken::Refused(index, why) => {
                    self.notices
                        .push(format!("what came for tree {index} was no tree: {why}"));
                    let order = &mut orders[index];
                    order.attempt += 1;
                    if order.attempt < ATTEMPTS {
                        again.push(index);
                    } else {
                        order.give_up(index, &why, self.vocab)?;
                        self.bury(index, &orders[index], &why).await;
                    }
                }
            }
            // Only now: what was not taken comes again. If this is lost it comes again, too, and is known.
            let _ = message.ack_with(AckKind::Ack).await;
            if orders.iter().all(|order| order.rollout.is_some()) {
                break;
            }
        }
        Ok((count, again))
    }

    /// What a message says.
    async fn take(
        &self,
        message: &jetstream::Message,
        orders: &[Order],
        settings: &Settings,
    ) -> Result<Taken, NatsError> {
        let headers = message.headers.as_ref();
        let Some(Envelope { epoch, job }) = Envelope::read(headers) else {
            return Ok(Taken::Stray);
        };
        if epoch != self.epoch {
            return Ok(Taken::Foreign);
        }
        let Some(order) = orders.get(job.index) else {
            return Ok(Taken::Stray);
        };
        if job.batch != self.batch || order.rollout.is_some() {
            return Ok(Taken::Stray);
        }
        let refused = |why: String| {
            // One that was asked for anew already is not asked for twice.
            if job.attempt == order.attempt {
                Taken::Refused(job.index, why)
            } else {
                Taken::Stray
            }
        };
        if let Err(error) = wire::check_protocol("a worker", headers) {
            return Ok(refused(error.to_string()));
        }
        let fetched;
        let log: &[u8] = match wire::object(headers) {
            None => &message.payload,
            Some(object) => {
                let logs = self.link.store("logs").await?;
                match store::get_bytes(&logs, object).await {
                    Ok(bytes) => fetched = bytes,
                    Err(error) => return Ok(refused(error.to_string())),
                }
                let _ = logs.delete(object).await;
                &fetched
            }
        };
        let opening = match Opening::read(log) {
            Ok(opening) => opening,
            Err(error) => return Ok(refused(error.to_string())),
        };
        let weights = opening.weights;
        let asked = Opening {
            weights,
            ..order.opening.clone()
        };
        if opening != asked {
            return Ok(refused("it is the tree of another task".into()));
        }
        if !wire::is_fresh(weights, self.version, self.staleness_max) {
            let (old, now) = (weights.0, self.version.0);
            return Ok(refused(format!("it is of weights {old}, and these are {now}")));
        }
        match Rollout::from_log(job.index, log, self.vocab) {
            Err(error) => Ok(refused(error.to_string())),
            Ok(mut rollout) => {
                rollout.faults = wire::faults(headers);
                if settings.keep_log {
                    rollout.log = log.to_vec();
                }
                Ok(Taken::Tree(job.index, Box::new(rollout)))
            }
        }
    }

    /// Tasks are gone and their trees have not come: they are asked for anew.
    async fn recover(&mut self, orders: &mut [Order], settings: &Settings) -> Result<(), NatsError> {
        self.patiently(|link| async move { link.empty("tasks").await }).await?;
        let (mut again, mut lost) = (Vec::new(), Vec::new());
        for (index, order) in orders.iter_mut().enumerate() {
            if order.rollout.is_some() {
                continue;
            }
            order.attempt += 1;
            if order.attempt < ATTEMPTS {
                again.push(index);
            } else {
                order.give_up(index, LOST, self.vocab)?;
                lost.push(index);
                if let Some(rollout) = &order.rollout {
                    settings.progress.count(rollout);
                }
            }
        }
        for index in lost {
            self.bury(index, &orders[index], LOST).await;
        }
        self.notices.push(format!(
            "{} trees were lost on the way and are asked for anew",
            again.len()
        ));
        self.order(orders, &again).await
    }
}

/// What workers need to know of a configuration: no address, no credentials, no path that is the trainer's own.
fn shared(config: &Config) -> Result<String, NatsError> {
    let mut shared = config.clone();
    shared.nats = config::Nats {
        ack_wait: config.nats.ack_wait,
        deliveries: config.nats.deliveries,
        ..Config::default().nats
    };
    // The weights come whole, whatever they were trained from.
    shared.model.path.clear();
    shared.lora = Config::default().lora;
    shared.dtype = Config::default().dtype;
    shared.device = Config::default().device;
    shared
        .to_toml()
        .map_err(|error| NatsError::Announcement(error.to_string()))
}

/// Files that are removed once they were published.
struct Files {
    _folder: tempfile::TempDir,
    files: Vec<(WeightsFormat, &'static str, PathBuf)>,
}

impl Order {
    fn new<E>(job: Job<E>, weights: WeightsVersion, progress: &Arc<Progress>) -> Self {
        Self {
            opening: Opening {
                task: job.task,
                seed: job.seed,
                limits: job.limits,
                weights,
            },
            attempt: 0,
            waiting: Some(InFlight::begin(progress)),
            rollout: None,
        }
    }

    /// It counts as failed.
    fn give_up(&mut self, index: usize, why: &str, vocab: usize) -> Result<(), NatsError> {
        let log = wire::given_up(&self.opening)?;
        let mut rollout =
            Rollout::from_log(index, &log, vocab).map_err(|error| NatsError::server("giving a tree up", error))?;
        rollout.faults.push(why.to_owned());
        (self.rollout, self.waiting) = (Some(rollout), None);
        Ok(())
    }
}

#[async_trait]
impl<E: Environment + Send + 'static> RolloutEngine<E> for Distributed {
    async fn rollout(&mut self, jobs: Vec<Job<E>>, settings: &Settings) -> Result<Vec<Rollout>, RolloutError> {
        let order = |job| Order::new(job, self.version, &settings.progress);
        let orders = jobs.into_iter().map(order).collect();
        let gathered = self.gather(orders, settings).await;
        gathered.map_err(|error| RolloutError::Elsewhere(Box::new(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_holds_no_address() {
        let settings = [
            "nats.url=tls://me:secret@host",
            "nats.creds=/home/me/my.creds",
            "rollout.engine=nats",
            "nats.ack_wait=7",
        ];
        let config = Config::resolve(None, &settings.map(str::to_owned)).unwrap();
        let config_text = shared(&config).unwrap();
        for secret in ["secret", "host", "creds = \"/"] {
            assert!(!config_text.contains(secret), "{config_text}");
        }
        let announcement = Announcement {
            protocol: PROTOCOL,
            rao: String::new(),
            epoch: String::new(),
            version: 3,
            vocab: 9,
            config: config_text,
            files: Vec::new(),
        };
        assert_eq!(announcement.config().unwrap().nats.ack_wait, 7.0);
    }
}
