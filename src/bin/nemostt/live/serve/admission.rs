// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which connections may stay when there are too many.
//!
//! Those that receive captions do. Others, which are between two requests or do not read their response, make room: first the
//! oldest.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;

/// Connections from one address: a room of people behind a router, but not enough to lock out all others. Loopback addresses
/// have no limit: a proxy on this machine uses one for all of its clients.
pub const MAX_PER_PEER: usize = 256;

/// A connection, as its task and the others know it.
#[derive(Debug, Default)]
pub struct Handle {
    /// Closes it.
    pub close: Arc<Notify>,
    is_subscribed: AtomicBool,
}

impl Handle {
    /// It receives captions from now on.
    pub fn set_subscribed(&self) {
        self.is_subscribed.store(true, Ordering::Relaxed);
    }
}

/// All connections.
pub struct Connections {
    limit: usize,
    /// The number of the next one, so that the oldest is first.
    next: u64,
    open: BTreeMap<u64, (Option<IpAddr>, Arc<Handle>)>,
}

impl Connections {
    /// None yet, and at most `limit`.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            next: 0,
            open: BTreeMap::new(),
        }
    }

    /// Adds a connection from `peer`: its number and handle. `None` if it must be closed at once, as no other makes room.
    pub fn admit(&mut self, peer: IpAddr) -> Option<(u64, Arc<Handle>)> {
        let peer = network(peer);
        let same = |other: &Option<IpAddr>| peer.is_some() && *other == peer;
        let from_peer = self.open.values().filter(|(other, _)| same(other)).count();
        if from_peer >= MAX_PER_PEER {
            self.make_room(same)?;
        } else if self.open.len() >= self.limit {
            self.make_room(|_| true)?;
        }
        let number = self.next;
        self.next += 1;
        let handle = Arc::new(Handle::default());
        self.open.insert(number, (peer, handle.clone()));
        Some((number, handle))
    }

    /// The connection with this number is closed.
    pub fn remove(&mut self, number: u64) {
        self.open.remove(&number);
    }

    /// Closes the oldest connection that receives no captions, of those whose peer `may_leave`.
    fn make_room(&mut self, may_leave: impl Fn(&Option<IpAddr>) -> bool) -> Option<()> {
        let mut candidates = self.open.iter().filter(|(_, (peer, _))| may_leave(peer));
        let (&number, _) = candidates.find(|(_, (_, handle))| !handle.is_subscribed.load(Ordering::Relaxed))?;
        let (_, handle) = self.open.remove(&number)?;
        handle.close.notify_one();
        Some(())
    }
}

/// What is one peer: an IPv4 address, or the network of an IPv6 address, as each host has many of those. `None` for loopback.
fn network(peer: IpAddr) -> Option<IpAddr> {
    match peer.to_canonical() {
        peer if peer.is_loopback() => None,
        IpAddr::V6(ip) => Some(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into()),
        peer => Some(peer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    fn is_open(connections: &Connections, number: u64) -> bool {
        connections.open.contains_key(&number)
    }

    #[test]
    fn the_oldest_that_receives_nothing_makes_room() {
        let mut connections = Connections::new(3);
        let peer = ip("127.0.0.1");
        let (_, first) = connections.admit(peer).unwrap();
        first.set_subscribed();
        for _ in 0..3 {
            connections.admit(peer).unwrap();
        }
        assert_eq!(
            [0, 1, 2, 3].map(|number| is_open(&connections, number)),
            [true, false, true, true]
        );
        for (_, handle) in connections.open.values() {
            handle.set_subscribed();
        }
        assert!(connections.admit(peer).is_none());
        connections.remove(2);
        assert!(connections.admit(peer).is_some());
    }

    #[test]
    fn one_address_cannot_lock_out_others() {
        let mut connections = Connections::new(10 * MAX_PER_PEER);
        // Each from another address of the same network.
        for host in 0..MAX_PER_PEER {
            let (_, handle) = connections.admit(ip(&format!("2001:db8::{host:x}"))).unwrap();
            if host > 0 {
                handle.set_subscribed();
            }
        }
        assert!(connections.admit(ip("2001:db8::ffff")).is_some() && !is_open(&connections, 0));
        connections
            .open
            .values()
            .for_each(|(_, handle)| handle.set_subscribed());
        assert!(connections.admit(ip("2001:db8::1")).is_none());
        assert!(connections.admit(ip("2001:db8:0:1::1")).is_some());
        // No limit for this machine, also as seen by a socket at `::`.
        for _ in 0..2 * MAX_PER_PEER {
            assert!(connections.admit(ip("::ffff:127.0.0.1")).is_some());
        }
    }
}
