//! Addresses: defaults, resolution, and the rule that an unencrypted link stays on this machine.

use std::net::{SocketAddr, ToSocketAddrs};

use super::NetError;

/// Where the server listens unless told otherwise.
pub const SERVER: &str = "127.0.0.1:7701";

/// Where the dealer listens unless told otherwise.
pub const DEALER: &str = "127.0.0.1:7702";

/// Resolves HOST:PORT. An address other than loopback is refused unless `insecure`, and then warned of.
pub fn resolve(address: &str, insecure: bool) -> Result<SocketAddr, NetError> {
    let bad = |reason: String| NetError::Address { address: address.to_owned(), reason };
    let found: Vec<SocketAddr> = address.to_socket_addrs().map_err(|e| bad(e.to_string()))?.collect();
    // `localhost` often has an IPv6 address too; the processes of this crate listen on one address only.
    let resolved = *found.iter().find(|a| a.is_ipv4()).or(found.first()).ok_or_else(|| bad("no result".to_owned()))?;
    if !resolved.ip().is_loopback() {
        if !insecure {
            return Err(NetError::NotLoopback { address: resolved });
        }
        tracing::warn!("{resolved} is not a loopback address: whoever reads this link can unmask secrets");
    }
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_without_a_flag() {
        assert!(resolve("127.0.0.1:1", false).is_ok());
        assert!(resolve("[::1]:1", false).is_ok());
        assert!(matches!(resolve("192.0.2.1:1", false), Err(NetError::NotLoopback { .. })));
        assert!(matches!(resolve("0.0.0.0:1", false), Err(NetError::NotLoopback { .. })));
        assert!(resolve("192.0.2.1:1", true).is_ok());
        assert!(matches!(resolve("nonsense", false), Err(NetError::Address { .. })));
        assert!(matches!(resolve("127.0.0.1:99999", false), Err(NetError::Address { .. })));
    }
}
