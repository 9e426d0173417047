//! The command line of the hospital cloud.
//!
//! One file a command under [`commands`]; what a cluster is under [`cluster`]; what goes to the person at the
//! terminal through [`printer`] and [`progress`]; how it all ends in [`exit`].

pub mod bootstrap;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod exit;
pub mod host;
pub mod interrupt;
pub mod node;
pub mod printer;
pub mod progress;
pub mod screen;
pub mod terminal;
