//! Asks for as many tasks as there is room for.

use super::super::NatsError;
use super::super::link::{Link, PAUSE, REQUEST};
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::{AckKind, Message};
use futures::StreamExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long one question waits at the server: whoever has nothing to do asks so rarely.
const WAIT: Duration = Duration::from_secs(10);
/// How long tasks are awaited that may be on their way when it is stopped; those that come later are given to others after a while.
const LAST: Duration = Duration::from_millis(300);

/// A task and its place among those that this worker may have at once. As long as it lives, the server is told that somebody is at work.
pub(super) struct Ticket {
    pub message: Arc<Message>,
    /// It was put aside once already, to look for newer weights.
    pub waited: bool,
    _place: OwnedSemaphorePermit,
    alive: JoinHandle<()>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.alive.abort();
    }
}

impl Ticket {
    fn new(message: Message, place: OwnedSemaphorePermit, ack_wait: Duration) -> Self {
        let message = Arc::new(message);
        let kept = Arc::clone(&message);
        // On a task of its own: whoever has it may be busy with loading weights.
        let alive = tokio::spawn(async move {
            loop {
                tokio::time::sleep(ack_wait / 3).await;
                let _ = timeout(REQUEST, kept.ack_with(AckKind::Progress)).await;
            }
        });
        Self {
            message,
            waited: false,
            _place: place,
            alive,
        }
    }

    /// For others to take.
    pub async fn give_back(&self) {
        // If this is lost, saying nothing for a while says the same.
        let _ = timeout(REQUEST, self.message.ack_with(AckKind::Nak(None))).await;
    }
}

/// The task that pulls, and what it has pulled.
pub(super) struct Puller {
    tickets: mpsc::UnboundedReceiver<Ticket>,
    state: Arc<State>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    stopped: AtomicBool,
    /// Told when it is stopped.
    stop: Notify,
    /// Since when the server does not answer, and what it said.
    broken: Mutex<Option<(Instant, NatsError)>>,
}

impl Puller {
    /// Pulls so many tasks at most that are not dropped yet.
    pub fn start(link: &Link, places: usize) -> Self {
        let (sender, tickets) = mpsc::unbounded_channel();
        let state = Arc::new(State::default());
        let places = Arc::new(Semaphore::new(places));
        let task = tokio::spawn(pull_all(link.clone(), places, sender, Arc::clone(&state)));
        Self { tickets, state, task }
    }

    /// The next task.
    pub async fn next(&mut self) -> Option<Ticket> {
        self.tickets.recv().await
    }

    /// # Errors
    /// What the server said last, if it has not answered for so long.
    pub fn check(&self, patience: Duration) -> Result<(), NatsError> {
        let mut broken = self.state.broken.lock().unwrap_or_else(PoisonError::into_inner);
        match broken.take_if(|(since, _)| since.elapsed() > patience) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    /// Pulls no more, and hands over what it has.
    pub async fn stop(mut self) -> Vec<Ticket> {
        self.state.stopped.store(true, Ordering::Relaxed);
        self.state.stop.notify_one();
        let mut left = Vec::new();
        // It ends soon, and closes the channel.
        let drain = async {
            while let Some(ticket) = self.tickets.recv().await {
                left.push(ticket);
            }
        };
        let _ = timeout(10 * LAST, drain).await;
        left
    }
}

impl Drop for Puller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pull_all(link: Link, places: Arc<Semaphore>, tickets: mpsc::UnboundedSender<Ticket>, state: Arc<State>) {
    let mut consumer = None;
    while !state.stopped.load(Ordering::Relaxed) {
        let first = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = state.stop.notified() => return,
        };
        let Ok(first) = first else { return };
        let mut free = vec![first];
        while let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            free.push(place);
        }
        let pulled = pull(&link, &mut consumer, free, &tickets, &state.stop).await;
        let is_broken = pulled.is_err();
        {
            let mut broken = state.broken.lock().unwrap_or_else(PoisonError::into_inner);
            *broken = match (broken.take(), pulled) {
                (_, Ok(())) => None,
                (Some((since, _)), Err(error)) => Some((since, error)),
                (None, Err(error)) => Some((Instant::now(), error)),
            };
        }
        if is_broken {
            // A trainer that was begun anew has made another one.
            consumer = None;
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn pull(
    link: &Link,
    consumer: &mut Option<PullConsumer>,
    mut free: Vec<OwnedSemaphorePermit>,
    tickets: &mpsc::UnboundedSender<Ticket>,
    stop: &Notify,
) -> Result<(), NatsError> {
    let failed = |error: &dyn std::fmt::Display| NatsError::server("asking for tasks", error.to_string());
    let tasks = match consumer {
        Some(tasks) => tasks,
        None => consumer.insert(link.tasks().await?),
    };
    let ack_wait = tasks.cached_info().config.ack_wait;
    let batch = tasks.batch().max_messages(free.len()).expires(WAIT);
    let mut messages = batch.messages().await.map_err(|error| failed(&error))?;
    let mut stopped = false;
    let mut reconnected = std::pin::pin!(link.reconnected());
    loop {
        let next = if stopped {
            timeout(LAST, messages.next()).await.unwrap_or(None)
        } else {
            tokio::select! {
                next = messages.next() => next,
                () = &mut reconnected => break,
                () = stop.notified() => {
                    stopped = true;
                    continue;
                }
            }
        };
        let Some(message) = next else { break };
        let message = message.map_err(|error| failed(&error))?;
        let Some(place) = free.pop() else { break };
        if tickets.send(Ticket::new(message, place, ack_wait)).is_err() {
            break;
        }
    }
    Ok(())
}
