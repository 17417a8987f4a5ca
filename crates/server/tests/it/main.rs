//! Whole nodes in one process, driven through their public API with generated clients and nothing else.

mod bad_input;
mod cluster;
mod failover;
mod formation;
mod full_disk;
mod observe;
mod session;
mod writes;
