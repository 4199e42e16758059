//! A stretch of work for one trainer process.

use super::super::announcement::Announcement;
use super::super::link::{Link, PAUSE, REQUEST};
use super::super::wire::{self, Envelope};
use super::super::{NatsError, store};
use super::WorkerOptions;
use super::desk::Desk;
use super::newest;
use super::puller::{Puller, Ticket};
use super::weights::Files;
use crate::config::Config;
use crate::environments::{Domain, RootTask, Seating};
use crate::judge::Grader;
use crate::rollout::{InProcess, Job, Opening, Progress, Rollout, Settings};
use crate::sampler::Sampler;
use async_nats::jetstream::AckKind;
use rao_tree::{NodeStatus, WeightsVersion};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How often it is looked whether somebody asks to stop, and whether the server still answers.
pub(super) const LOOK: Duration = Duration::from_millis(200);

pub(super) struct Shift<'a, D: Domain> {
    clerk: Clerk<'a, D>,
    engine: InProcess<Sampler>,
    settings: Settings,
    progress: &'a Arc<Progress>,
    /// What the configuration was made of.
    shared: String,
}

/// Everything but the samplers.
struct Clerk<'a, D: Domain> {
    link: &'a Link,
    options: &'a WorkerOptions,
    config: Config,
    domain: &'a D,
    tasks: HashMap<&'a str, &'a D::Task>,
    epoch: String,
    version: WeightsVersion,
    /// Tasks that were begun so far.
    numbers: usize,
    held: BTreeMap<usize, Held>,
}

/// A task that is under way, or waits for a thread.
struct Held {
    ticket: Ticket,
    envelope: Envelope,
}

/// What there is to do with a task.
enum Sorted {
    /// Roll it out.
    Task(Envelope, Opening),
    /// Look for newer weights, or another trainer, first.
    Newer,
    /// It is of a trainer that is no more.
    Stray,
    /// It makes no sense.
    Nonsense(String),
    /// It was given out so often that nobody will end it, or nobody can.
    Hopeless(Envelope, Opening, String),
}

impl<'a, D: Domain> Shift<'a, D> {
    /// `None` if somebody asks to stop.
    pub async fn begin(
        link: &'a Link,
        options: &'a WorkerOptions,
        progress: &'a Arc<Progress>,
        domain: &'a D,
        announcement: Announcement,
        config: Config,
        say: &impl Fn(&str),
    ) -> Result<Option<Self>, NatsError> {
        let Some((files, announcement)) = fetch(link, options, progress, announcement).await? else {
            return Ok(None);
        };
        let Some(engine) = files.open(&config, options, progress).await? else {
            return Ok(None);
        };
        let mut engine = engine.reserved();
        let threads = engine.policies_mut().count().max(1);
        let settings = Settings {
            temperature: config.rao.temperature,
            vocab: engine.vocab(),
            keep_transcripts: true,
            keep_log: true,
            trees_in_flight: options.trees.max(1).div_ceil(threads),
            grader: Grader::Nobody,
            sink: None,
            cancel_on_stop: false,
            progress: Arc::clone(progress),
        };
        say(&format!(
            "at work on {} for nats.name={:?} with weights {}",
            config.environment.name(),
            link.place(),
            announcement.version
        ));
        let tasks = domain.train().iter().map(|task| (task.id(), task)).collect();
        Ok(Some(Self {
            clerk: Clerk {
                link,
                options,
                config,
                domain,
                tasks,
                epoch: announcement.epoch.clone(),
                version: announcement.weights(),
                numbers: 0,
                held: BTreeMap::new(),
            },
            engine,
            settings,
            progress,
            shared: announcement.config,
        }))
    }

    /// Works until the trainer is another one, or somebody asks to stop. Takes the tasks that an earlier shift had left, and returns its own.
    pub async fn run(&mut self, puller: &mut Puller, mut left: Vec<Ticket>) -> Result<Vec<Ticket>, NatsError> {
        loop {
            left = self.stretch(puller, left).await?;
            let clerk = &mut self.clerk;
            let Some(announcement) = newest(clerk.link, clerk.options, self.progress).await? else {
                return Ok(left);
            };
            if announcement.epoch != clerk.epoch || announcement.config != self.shared {
                return Ok(left);
            }
            if announcement.weights() != clerk.version {
                let found = fetch(clerk.link, clerk.options, self.progress, announcement).await?;
                let Some((files, announcement)) = found else {
                    return Ok(left);
                };
                if announcement.epoch != clerk.epoch {
                    return Ok(left);
                }
                let swapped = files.swap(&mut self.engine, &clerk.config, clerk.options, self.progress);
                if !swapped.await? {
                    return Ok(left);
                }
                clerk.version = announcement.weights();
            }
        }
    }

    /// Works under the weights that it has, until a task wants newer ones or somebody asks to stop.
    async fn stretch(&mut self, puller: &mut Puller, left: Vec<Ticket>) -> Result<Vec<Ticket>, NatsError> {
        let Self {
            clerk,
            engine,
            settings,
            progress,
            ..
        } = self;
        let (ended, mut trees) = mpsc::unbounded_channel();
        let desk = Arc::new(Desk::new(ended));
        let mut serving = std::pin::pin!(engine.serve(Arc::clone(&desk), settings));
        let mut look = tokio::time::interval(LOOK);
        let mut aside = Vec::new();
        for ticket in left {
            clerk.admit(ticket, &desk, &mut aside).await?;
        }
        let mut served = None;
        let mut moved = Instant::now();
        while served.is_none() {
            if progress.is_stopped() || !aside.is_empty() {
                clerk.call_off(&desk, &mut aside);
            }
            tokio::select! {
                result = &mut serving => served = Some(result),
                Some(ticket) = puller.next() => {
                    moved = Instant::now();
                    clerk.admit(ticket, &desk, &mut aside).await?;
                }
                Some(rollout) = trees.recv() => {
                    moved = Instant::now();
                    clerk.send_home(rollout).await?;
                }
                _ = look.tick() => {
                    puller.check(clerk.options.patience)?;
                    let waited = moved.elapsed();
                    if clerk.held.is_empty() && waited > clerk.options.patience {
                        return Err(NatsError::Idle { waited });
                    }
                }
            }
        }
        // What ended last.
        while let Ok(rollout) = trees.try_recv() {
            clerk.send_home(rollout).await?;
        }
        if let Some(Err(error)) = served {
            return Err(error.into());
        }
        clerk.call_off(&desk, &mut aside);
        Ok(aside)
    }
}

impl<D: Domain> Clerk<'_, D> {
    /// Takes a task: has it rolled out, or puts it aside.
    async fn admit(&mut self, ticket: Ticket, desk: &Desk<D::Agent>, aside: &mut Vec<Ticket>) -> Result<(), NatsError> {
        match self.sort(&ticket) {
            Sorted::Task(envelope, opening) => {
                let number = self.numbers;
                self.numbers += 1;
                match self.job(&opening) {
                    Some(job) => {
                        desk.put(number, job);
                        self.held.insert(number, Held { ticket, envelope });
                    }
                    None => {
                        ticket.give_back().await;
                        return Err(NatsError::Task { task: opening.task });
                    }
                }
            }
            Sorted::Newer => aside.push(ticket),
            Sorted::Stray => acknowledge(&ticket, AckKind::Term).await,
            Sorted::Nonsense(why) => self.bury(&ticket, &why).await,
            Sorted::Hopeless(envelope, opening, why) => self.give_up(&ticket, &envelope, &opening, why).await?,
        }
        Ok(())
    }

    fn sort(&self, ticket: &Ticket) -> Sorted {
        let message = &ticket.message;
        let headers = message.headers.as_ref();
        if let Err(error) = wire::check_protocol("the trainer", headers) {
            // Its announcement says it better.
            return if ticket.waited {
                Sorted::Nonsense(error.to_string())
            } else {
                Sorted::Newer
            };
        }
        let Some(envelope) = Envelope::read(headers) else {
            return Sorted::Nonsense("it does not say which task it is".into());
        };
        let opening = match Opening::read(&message.payload) {
            Ok(opening) => opening,
            Err(error) => return Sorted::Nonsense(error.to_string()),
        };
        if envelope.epoch != self.epoch || opening.weights > self.version {
            return if ticket.waited { Sorted::Stray } else { Sorted::Newer };
        }
        let (given, most) = (
            message.info().map_or(1, |info| info.delivered),
            self.config.nats.deliveries,
        );
        if given > i64::from(most) {
            let why = format!("{most} workers were given the tree, and none ended it");
            return Sorted::Hopeless(envelope, opening, why);
        }
        Sorted::Task(envelope, opening)
    }

    fn job(&self, opening: &Opening) -> Option<Job<D::Agent>> {
        let seating = Seating {
            depth_max: opening.limits.depth_max,
            shuffle: true,
        };
        let task = self.tasks.get(opening.task.as_str())?;
        Some(Job {
            root: self.domain.root(task, seating, opening.seed),
            task: opening.task.clone(),
            seed: opening.seed,
            limits: opening.limits,
        })
    }

    /// Begins nothing more; what was not begun is put aside.
    fn call_off(&mut self, desk: &Desk<D::Agent>, aside: &mut Vec<Ticket>) {
        for number in desk.shut() {
            aside.extend(self.held.remove(&number).map(|held| held.ticket));
        }
        for ticket in aside {
            ticket.waited = true;
        }
    }

    /// A tree has ended.
    async fn send_home(&mut self, rollout: Rollout) -> Result<(), NatsError> {
        let Some(Held { ticket, envelope }) = self.held.remove(&rollout.job) else {
            return Ok(());
        };
        // Nothing is called off here but by a policy that panicked. Another worker's will not.
        let root = rollout.tree.nodes().first();
        if root.is_some_and(|root| root.status == Some(NodeStatus::Cancelled)) {
            ticket.give_back().await;
            return Ok(());
        }
        self.send(&envelope, rollout.log, &rollout.faults).await?;
        acknowledge(&ticket, AckKind::Ack).await;
        Ok(())
    }

    /// Nobody will roll this out: it is put where people find it, and the trainer is told.
    async fn give_up(
        &self,
        ticket: &Ticket,
        envelope: &Envelope,
        opening: &Opening,
        why: String,
    ) -> Result<(), NatsError> {
        let log = wire::given_up(opening)?;
        self.send(envelope, log, std::slice::from_ref(&why)).await?;
        self.bury(ticket, &why).await;
        Ok(())
    }

    /// Puts a task where people find it, and out of the way.
    async fn bury(&self, ticket: &Ticket, why: &str) {
        let mut headers = ticket.message.headers.clone().unwrap_or_default();
        wire::set_reason(&mut headers, why);
        // If this fails it comes again, to somebody.
        if self
            .link
            .publish("dead", headers, ticket.message.payload.to_vec())
            .await
            .is_ok()
        {
            acknowledge(ticket, AckKind::Term).await;
        }
    }

    /// Stores a tree for the trainer; tries again while the server is away, for as long as patience lasts.
    async fn send(&self, envelope: &Envelope, log: Vec<u8>, faults: &[String]) -> Result<(), NatsError> {
        let begun = Instant::now();
        loop {
            match self.try_to_send(envelope, &log, faults).await {
                Err(NatsError::Server { .. }) if begun.elapsed() < self.options.patience => {
                    tokio::time::sleep(PAUSE).await;
                }
                result => return result,
            }
        }
    }

    async fn try_to_send(&self, envelope: &Envelope, log: &[u8], faults: &[String]) -> Result<(), NatsError> {
        let mut headers = envelope.headers("tree");
        wire::set_faults(&mut headers, faults);
        let payload = if log.len() <= self.link.payload_max() {
            log.to_vec()
        } else {
            let object = envelope.id("log");
            store::put_bytes(&self.link.store("logs").await?, &object, log).await?;
            wire::set_object(&mut headers, &object);
            Vec::new()
        };
        self.link.publish("trees", headers, payload).await.map(drop)
    }
}

async fn acknowledge(ticket: &Ticket, kind: AckKind) {
    // If this is lost, the task comes again, and its tree is known.
    let _ = timeout(REQUEST, ticket.message.ack_with(kind)).await;
}

/// The files of the newest weights; `None` if somebody asks to stop. While they are read the trainer may publish others and remove these.
async fn fetch(
    link: &Link,
    options: &WorkerOptions,
    progress: &Progress,
    mut announcement: Announcement,
) -> Result<Option<(Files, Announcement)>, NatsError> {
    let begun = Instant::now();
    loop {
        match Files::fetch(link, &announcement, &options.backend).await {
            Err(NatsError::Server { .. }) if begun.elapsed() < options.patience => {
                tokio::time::sleep(PAUSE).await;
                match newest(link, options, progress).await? {
                    Some(newer) => announcement = newer,
                    None => return Ok(None),
                }
            }
            result => return Ok(Some((result?, announcement))),
        }
    }
}
