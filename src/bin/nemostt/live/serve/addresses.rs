// SPDX-License-Identifier: MIT OR Apache-2.0

//! Addresses that lead to the server. The one it listens at may be `0.0.0.0` or `::`, which stand for all of the machine's, and
//! lead nowhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Addresses reserved for documentation (RFC 5737, RFC 3849), to which the system has a route if it has one to other networks.
const ELSEWHERE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// Where clients reach a server that listens at `address`: for one at all addresses, that for this machine, and those from which
/// the system would send to other networks.
pub fn reachable(address: SocketAddr) -> Vec<SocketAddr> {
    let local = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from(Ipv6Addr::LOCALHOST),
        _ => return vec![address],
    };
    // A socket at :: takes IPv4, too.
    let others = ELSEWHERE.into_iter().filter(|ip| ip.is_ipv4() || address.is_ipv6());
    [local]
        .into_iter()
        .chain(others.filter_map(route))
        .map(|ip| SocketAddr::new(ip, address.port()))
        .collect()
}

/// The address of the interface through which `destination` is reached. Nothing is sent: connecting a UDP socket only chooses a
/// route.
fn route(destination: IpAddr) -> Option<IpAddr> {
    let any = match destination {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((destination, 9)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_printed_address_leads_nowhere() {
        let reachable = |address: &str| reachable(address.parse().unwrap());
        assert_eq!(reachable("192.168.0.2:80"), ["192.168.0.2:80".parse().unwrap()]);
        for (all, local) in [("0.0.0.0:80", "127.0.0.1:80"), ("[::]:80", "[::1]:80")] {
            let addresses = reachable(all);
            assert_eq!(addresses[0], local.parse().unwrap());
            assert!(
                addresses.iter().all(|address| !address.ip().is_unspecified()),
                "{addresses:?}"
            );
        }
    }
}
