//! Bundles built for real from small made-up components.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod building;
mod caching;
mod damage;
mod lists;
mod official;
mod reading;
mod signing;
