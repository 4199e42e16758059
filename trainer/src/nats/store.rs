//! Files and long logs in an object store, which checks their digests by itself.
#![cfg_attr(not(feature = "candle"), allow(dead_code, reason = "half of it is for trainers"))]

use super::NatsError;
use super::link::REQUEST;
use async_nats::jetstream::object_store::{Object, ObjectStore};
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// Longest log that a trainer reads: what a tree of the largest limits takes, and no more.
const LOG_MAX: usize = 1 << 30;
/// Read at once.
const PIECE: usize = 1 << 16;

pub(super) async fn put_file(store: &ObjectStore, object: &str, path: &Path) -> Result<(), NatsError> {
    let mut file = tokio::fs::File::open(path).await.map_err(at(path))?;
    let put = store.put(object, &mut file).await;
    put.map(drop)
        .map_err(|error| NatsError::server("storing weights", error))
}

pub(super) async fn get_file(store: &ObjectStore, object: &str, path: &Path) -> Result<(), NatsError> {
    let mut found = open(store, object).await?;
    let mut file = tokio::fs::File::create(path).await.map_err(at(path))?;
    let mut piece = vec![0; PIECE];
    loop {
        match read(&mut found, &mut piece).await? {
            0 => break,
            len => file.write_all(&piece[..len]).await.map_err(at(path))?,
        }
    }
    file.sync_all().await.map_err(at(path))
}

pub(super) async fn put_bytes(store: &ObjectStore, object: &str, mut bytes: &[u8]) -> Result<(), NatsError> {
    let put = store.put(object, &mut bytes).await;
    put.map(drop).map_err(|error| NatsError::server("storing a log", error))
}

pub(super) async fn get_bytes(store: &ObjectStore, object: &str) -> Result<Vec<u8>, NatsError> {
    let mut found = open(store, object).await?;
    let mut bytes = Vec::new();
    let mut piece = vec![0; PIECE];
    loop {
        match read(&mut found, &mut piece).await? {
            0 => return Ok(bytes),
            len if bytes.len() + len > LOG_MAX => {
                return Err(NatsError::server("reading a log", "it is longer than any tree's"));
            }
            len => bytes.extend_from_slice(&piece[..len]),
        }
    }
}

async fn open(store: &ObjectStore, object: &str) -> Result<Object, NatsError> {
    match timeout(REQUEST, store.get(object)).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(NatsError::server("opening an object", error)),
        Err(_) => Err(NatsError::server("opening an object", "no answer")),
    }
}

/// The next piece. An object that is removed while it is read says nothing of that: it only stops.
async fn read(found: &mut Object, piece: &mut [u8]) -> Result<usize, NatsError> {
    match timeout(REQUEST, found.read(piece)).await {
        Ok(Ok(len)) => Ok(len),
        Ok(Err(error)) => Err(NatsError::server("reading an object", error)),
        Err(_) => Err(NatsError::server("reading an object", "no more comes")),
    }
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> NatsError {
    let path = path.to_owned();
    |source| NatsError::File { path, source }
}
