//! The same pass under other frameworks: the scripts in `benches/peers`.

use std::process::Command;

use serde_json::Value;

use super::pass::Sizes;
use crate::processes::{output, repository};

/// Names of the peers, as `benches/peers/run.sh` knows them.
pub const PEERS: &[&str] = &["crypten", "spu"];

/// What a peer's pass took.
pub struct Peer {
    /// Name and version.
    pub name: String,
    /// Seconds from shared inputs to shared logits.
    pub online_seconds: f64,
    /// Bytes that both parties sent.
    pub sent_bytes: f64,
    /// What the time covers.
    pub includes: String,
    /// Who looks up the embeddings: `client` or `onehot`.
    pub embedding: String,
}

/// Runs a peer; makes its virtual environment the first time, which needs the network.
pub fn run(name: &str, sizes: Sizes) -> Result<Peer, String> {
    let mut command = Command::new(repository().join("benches/peers/run.sh"));
    command.arg(name).args(["--tokens", &sizes.tokens.to_string(), "--layers", &sizes.layers.to_string()]);
    command.args(["--width", &sizes.width.to_string(), "--heads", &sizes.heads.to_string()]);
    command.args(["--vocabulary", &sizes.vocabulary.to_string()]);
    let line = output(&mut command).map_err(|e| format!("the peer {name} failed: {e}"))?;
    parse(line.trim())
        .ok_or_else(|| format!("the peer {name} said `{}`, not one line of JSON with its figures", line.trim()))
}

fn parse(line: &str) -> Option<Peer> {
    let said: Value = serde_json::from_str(line).ok()?;
    let text = |name: &str| Some(said[name].as_str()?.to_owned());
    Some(Peer {
        name: text("peer")?,
        online_seconds: said["online_seconds"].as_f64()?,
        sent_bytes: said["sent_bytes"].as_f64()?,
        includes: text("includes")?,
        embedding: text("embedding")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_peers() {
        let line =
            r#"{"peer": "P 1", "online_seconds": 2.5, "sent_bytes": 7, "includes": "all", "embedding": "client"}"#;
        let peer = parse(line).unwrap();
        assert_eq!((peer.name.as_str(), peer.online_seconds, peer.sent_bytes), ("P 1", 2.5, 7.0));
        assert!(parse("Traceback").is_none() && parse(&line.replace("2.5", "\"fast\"")).is_none());
    }
}
