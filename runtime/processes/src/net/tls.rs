//! TLS 1.3 between identities: raw public keys (RFC 7250) on both sides, and pins in the place of certificates.
//!
//! One of everything: Ed25519 to sign, X25519 to agree, AES-128-GCM with SHA-256, and the protocol's name and version by ALPN.
//! No resumption and no early data, so no connection depends on an earlier one; no key log.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, Connection, DigitallySignedStruct,
    DistinguishedName, Error, ServerConfig, ServerConnection, SignatureScheme, version,
};

use super::NetError;
use super::link::{End, Peer};
use crate::handshake::{PROTOCOL_VERSION, Role};
use crate::identity::{Identity, PublicKey};
use crate::limits::Limits;
use crate::pins::Pins;

/// What is the same for all connections.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider {
        cipher_suites: vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![ring::kx_group::X25519],
        ..ring::default_provider()
    })
});

/// The protocol that a connection is for.
pub(super) fn alpn(pairing: bool) -> Vec<u8> {
    let name = if pairing { "ssvm-pair" } else { "ssvm" };
    format!("{name}/{PROTOCOL_VERSION}").into_bytes()
}

/// Whom a connection admits.
#[derive(Debug)]
pub(super) enum Admits {
    /// Pinned keys, in one of these roles.
    Pinned(Pins, Vec<Role>),
    /// Whoever has a key: two who pair.
    Anyone,
}

/// Checks the key at the other end of one connection, and remembers what it found.
#[derive(Debug)]
pub(super) struct Verifier {
    admits: Admits,
    peer: &'static str,
    found: Mutex<Option<Result<Peer, NetError>>>,
}

impl Verifier {
    pub(super) fn new(admits: Admits, peer: &'static str) -> Arc<Verifier> {
        Arc::new(Verifier { admits, peer, found: Mutex::default() })
    }

    /// What was found, once.
    pub(super) fn found(&self) -> Option<Result<Peer, NetError>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn check(&self, key: &CertificateDer<'_>, more: &[CertificateDer<'_>]) -> Result<(), Error> {
        let Some(key) = PublicKey::from_spki(key).filter(|_| more.is_empty()) else {
            return Err(CertificateError::BadEncoding.into());
        };
        let (peer, fingerprint) = (self.peer, key.fingerprint());
        // The alert tells the other side which of the two it is: see `failed`.
        let (found, told) = match &self.admits {
            Admits::Anyone => {
                (Ok(Peer { key, roles: Vec::new(), name: String::new(), limits: Limits::default() }), Ok(()))
            }
            Admits::Pinned(pins, wanted) => {
                let all = pins.roles(&key);
                let roles: Vec<Role> = all.iter().copied().filter(|role| wanted.contains(role)).collect();
                match (all.first(), roles.is_empty()) {
                    (_, false) => {
                        let pin = pins.all().iter().find(|pin| pin.key == key && pin.role == roles[0]);
                        let (name, limits) = pin.map(|pin| (pin.name.clone(), pin.limits.clone())).unwrap_or_default();
                        (Ok(Peer { key, roles, name, limits }), Ok(()))
                    }
                    (None, true) => {
                        (Err(NetError::Unpinned { peer, fingerprint }), Err(CertificateError::UnknownIssuer.into()))
                    }
                    (Some(pinned), true) => (
                        Err(NetError::PinnedAs { peer, fingerprint, pinned: pinned.name() }),
                        Err(CertificateError::ApplicationVerificationFailure.into()),
                    ),
                }
            }
        };
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        told
    }
}

/// Both verifiers ask the same: is the key pinned, and does its owner hold it?
macro_rules! signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(Error::General("TLS 1.2 is not offered".to_owned()))
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            key: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let key = SubjectPublicKeyInfoDer::from(key.as_ref());
            verify_tls13_signature_with_raw_key(message, &key, signature, &PROVIDER.signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ED25519]
        }

        fn requires_raw_public_keys(&self) -> bool {
            true
        }
    };
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        key: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(key, more).map(|()| ServerCertVerified::assertion())
    }

    signatures!();
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        key: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(key, more).map(|()| ClientCertVerified::assertion())
    }

    signatures!();
}

/// A connection that has not begun.
pub(super) fn connection(
    end: End,
    identity: &Identity,
    verifier: &Arc<Verifier>,
    alpn: Vec<u8>,
) -> Result<Connection, Error> {
    let (provider, versions) = (PROVIDER.clone(), &[&version::TLS13]);
    match end {
        End::Connects => {
            let resolver = AlwaysResolvesClientRawPublicKeys::new(identity.certified());
            let mut config = ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(versions)?
                .dangerous()
                .with_custom_certificate_verifier(verifier.clone())
                .with_client_cert_resolver(Arc::new(resolver));
            config.alpn_protocols = vec![alpn];
            config.enable_sni = false;
            config.resumption = Resumption::disabled();
            // A key has no name; this one is neither sent nor compared.
            let name = ServerName::try_from("ssvm.invalid").expect("a name");
            Ok(Connection::Client(ClientConnection::new(Arc::new(config), name)?))
        }
        End::Listens => {
            let resolver = AlwaysResolvesServerRawPublicKeys::new(identity.certified());
            let mut config = ServerConfig::builder_with_provider(provider)
                .with_protocol_versions(versions)?
                .with_client_cert_verifier(verifier.clone())
                .with_cert_resolver(Arc::new(resolver));
            config.alpn_protocols = vec![alpn];
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
            Ok(Connection::Server(ServerConnection::new(Arc::new(config))?))
        }
    }
}

/// What a fault of TLS means to the user.
pub(super) fn failed(peer: &'static str, source: Error) -> NetError {
    match source {
        Error::AlertReceived(AlertDescription::UnknownCA) => NetError::NotPinnedThere { peer },
        Error::AlertReceived(AlertDescription::AccessDenied) => NetError::PinnedOtherwiseThere { peer },
        Error::AlertReceived(AlertDescription::NoApplicationProtocol) | Error::NoApplicationProtocol => {
            NetError::Protocol { peer }
        }
        source => NetError::Tls { peer, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pins::Pin;
    use ir::Party;

    const CLIENT: Role = Role::Party(Party::Client);
    const SERVER: Role = Role::Party(Party::Server);

    /// What each end finds when both speak these protocols, and have pinned the other in these roles.
    fn met(protocols: [&[u8]; 2], pinned: [Option<Role>; 2]) -> [Result<Vec<Role>, NetError>; 2] {
        let directory = tempfile::tempdir().unwrap();
        let at = ["a", "b"].map(|name| directory.path().join(name));
        let own = at.each_ref().map(|at| Identity::generate(at).unwrap());
        let mut ends = Vec::new();
        for (this, end) in [End::Connects, End::Listens].into_iter().enumerate() {
            if let Some(role) = pinned[this] {
                let pin =
                    Pin { role, key: own[1 - this].public(), name: "other".to_owned(), limits: Limits::default() };
                Pins::add(&at[this], &own[this], pin).unwrap();
            }
            let wanted = if end == End::Connects { SERVER } else { CLIENT };
            let verifier = Verifier::new(Admits::Pinned(Pins::read(&at[this]).unwrap(), vec![wanted]), "peer");
            let conn = connection(end, &own[this], &verifier, protocols[this].to_vec()).unwrap();
            ends.push((conn, verifier, Ok(())));
        }
        for turn in 0..8 {
            let (sender, receiver) = (turn % 2, 1 - turn % 2);
            let mut bytes = Vec::new();
            while ends[sender].0.wants_write() {
                ends[sender].0.write_tls(&mut bytes).unwrap();
            }
            let (mut rest, (conn, _, state)) = (&bytes[..], &mut ends[receiver]);
            while state.is_ok() && !rest.is_empty() {
                conn.read_tls(&mut rest).unwrap();
                *state = conn.process_new_packets().map(drop);
            }
        }
        let found = ends.into_iter().map(|(conn, verifier, state)| match (state, verifier.found()) {
            (_, Some(Err(refused))) => Err(refused),
            (Err(error), _) => Err(failed("peer", error)),
            (Ok(()), found) => {
                assert!(!conn.is_handshaking());
                Ok(found.unwrap().unwrap().roles)
            }
        });
        found.collect::<Vec<_>>().try_into().unwrap_or_else(|_| panic!("two ends"))
    }

    #[test]
    fn keys_are_admitted_in_their_roles_alone() {
        let ours = alpn(false);
        let meet = |pinned| met([&ours, &ours], pinned);
        assert!(matches!(&meet([Some(SERVER), Some(CLIENT)]), [Ok(a), Ok(b)] if a == &[SERVER] && b == &[CLIENT]));
        use NetError::{NotPinnedThere, PinnedAs, PinnedOtherwiseThere, Unpinned};
        assert!(matches!(meet([None, Some(CLIENT)]), [Err(Unpinned { .. }), Err(NotPinnedThere { .. })]));
        assert!(matches!(meet([Some(SERVER), None]), [Err(NotPinnedThere { .. }), Err(Unpinned { .. })]));
        let swapped = meet([Some(CLIENT), Some(CLIENT)]);
        assert!(matches!(swapped, [Err(PinnedAs { .. }), Err(PinnedOtherwiseThere { .. })]));
        let swapped = meet([Some(SERVER), Some(Role::Dealer)]);
        assert!(matches!(swapped, [Err(PinnedOtherwiseThere { .. }), Err(PinnedAs { .. })]));
    }

    #[test]
    fn other_versions_and_purposes_are_refused() {
        let (ours, both) = (alpn(false), [Some(SERVER), Some(CLIENT)]);
        let older = format!("ssvm/{}", PROTOCOL_VERSION - 1);
        for theirs in [older.as_bytes(), &alpn(true)] {
            for protocols in [[&ours[..], theirs], [theirs, &ours[..]]] {
                let met = met(protocols, both);
                assert!(met.iter().all(|end| matches!(end, Err(NetError::Protocol { .. }))), "{:?}", met);
            }
        }
    }
}
