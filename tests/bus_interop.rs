//! The bus against real libzmq (through pyzmq), crate `zeromq`, and peers that keep to no protocol.
//!
//! Needs: real servers

#[path = "bus/peer.rs"]
mod peer;

#[path = "bus/receiving.rs"]
mod receiving;

#[path = "bus/publishing.rs"]
mod publishing;

#[path = "bus/forwarding.rs"]
mod forwarding;

#[path = "bus/hostile.rs"]
mod hostile;

#[path = "bus/second.rs"]
mod second;
