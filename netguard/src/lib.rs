//! netguard: the network agent of a node.
//!
//! Deciding is pure and lives in [`plan`], [`diff`], [`masquerade`] and [`cni`]: from the list of nodes and what the
//! kernel says about its links they work out what must be there, and what has to change. [`kernel`] is the only part
//! that touches the machine, [`source`] the only one that learns of nodes, and [`agent`] the loop that joins them.
//!
//! [`verify`] is a second program in the same binary: it proves from inside pods that the network works.

pub mod agent;
pub mod cni;
pub mod diff;
pub mod health;
pub mod kernel;
pub mod masquerade;
pub mod node;
pub mod plan;
pub mod source;
pub mod state;
pub mod verify;
