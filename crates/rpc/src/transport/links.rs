//! The links of a process, one for each other process that it calls.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use palisade_world::{World, grpc};

use super::Link;
use crate::ConnectError;

/// All links, by `host:port`. A link is kept for the life of the service: there are as many as processes were ever called.
pub(crate) struct Links {
    world: World,
    max_message: usize,
    all: Mutex<BTreeMap<String, Arc<Link>>>,
}

impl Links {
    pub(crate) fn new(world: World, max_message: usize) -> Links {
        Links { world, max_message, all: Mutex::default() }
    }

    pub(crate) fn to(&self, node: &str) -> Result<Arc<Link>, ConnectError> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = all.get(node) {
            return Ok(link.clone());
        }
        let channel = || {
            grpc::channel(&self.world, node)
                .map_err(|error| ConnectError::Unreachable { address: node.to_owned(), why: error.to_string() })
        };
        let channels = [channel()?, channel()?];
        let link = Arc::new(Link::new(self.world.clone(), node.to_owned(), channels, self.max_message));
        all.insert(node.to_owned(), link.clone());
        Ok(link)
    }

    /// Ends all streams; calls under way are answered.
    pub(crate) fn close(&self) {
        let all = std::mem::take(&mut *self.all.lock().unwrap_or_else(PoisonError::into_inner));
        for link in all.values() {
            link.close();
        }
    }
}
