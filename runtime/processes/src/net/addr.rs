//! Addresses: defaults and resolution.

use std::net::{SocketAddr, ToSocketAddrs};

use super::NetError;

/// Where the server listens unless told otherwise.
pub const SERVER: &str = "127.0.0.1:7701";

/// Where the dealer listens unless told otherwise.
pub const DEALER: &str = "127.0.0.1:7702";

/// Resolves HOST:PORT.
pub fn resolve(address: &str) -> Result<SocketAddr, NetError> {
    let named = address.rsplit_once(':').filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    let bad = |reason: String| match named {
        Some((host, _)) => NetError::Unresolved { host: host.to_owned(), reason },
        None => NetError::Address { address: address.to_owned(), reason },
    };
    let found: Vec<SocketAddr> = address.to_socket_addrs().map_err(|e| bad(e.to_string()))?.collect();
    // `localhost` often has an IPv6 address too; the processes of this crate listen on one address only.
    Ok(*found.iter().find(|a| a.is_ipv4()).or(found.first()).ok_or_else(|| bad("no result".to_owned()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports() {
        for good in ["127.0.0.1:1", "[::1]:1", "192.0.2.1:7701", "0.0.0.0:0"] {
            assert_eq!(resolve(good).unwrap(), good.parse().unwrap());
        }
        for bad in ["nonsense", "127.0.0.1:99999", "7701"] {
            assert!(matches!(resolve(bad), Err(NetError::Address { .. })));
        }
        // No name has an empty part.
        assert!(matches!(resolve("a..b:7701"), Err(NetError::Unresolved { .. })));
    }
}
