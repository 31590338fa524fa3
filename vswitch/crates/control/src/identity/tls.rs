//! The one way our TLS is set up: version 1.3, X25519MLKEM768 and nothing else
//! (draft-ietf-tls-ecdhe-mlkem), certificates on both sides, nothing resumed, nothing early.

use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use rustls::{ClientConfig, Error, ServerConfig};

use super::clock::Clock;
use super::credentials::Credentials;
use super::verify::Verifier;

/// The protocol's name in ALPN (RFC 7301); a peer that speaks another is refused.
pub const ALPN: &[u8] = b"vswitch/1";

/// aws-lc-rs with the cipher suites of TLS 1.3, and only the hybrid key exchange: what is recorded
/// today stays closed to tomorrow's quantum computer, and nobody can talk us out of it.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let provider = PROVIDER.get_or_init(|| {
        let mut provider = default_provider();
        provider
            .cipher_suites
            .retain(|suite| suite.tls13().is_some());
        provider.kx_groups = vec![kx_group::X25519MLKEM768];
        Arc::new(provider)
    });
    provider.clone()
}

/// For the side that accepts: `verifier` says who may come in.
///
/// # Errors
/// When the TLS library finds the parts do not fit.
pub fn server(
    credentials: &Credentials,
    verifier: Arc<Verifier>,
    clock: &Clock,
) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_details(provider(), Arc::new(clock.clone()))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(credentials.signer());
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// For the side that dials: `verifier` says who must be there.
///
/// # Errors
/// When the TLS library finds the parts do not fit.
pub fn client(
    credentials: &Credentials,
    verifier: Arc<Verifier>,
    clock: &Clock,
) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::builder_with_details(provider(), Arc::new(clock.clone()))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(credentials.signer());
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.enable_sni = false;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use rustls::NamedGroup;

    use super::*;

    #[test]
    fn only_the_hybrid_group_and_suites_of_tls_1_3_are_there() {
        let provider = provider();
        let groups: Vec<_> = provider
            .kx_groups
            .iter()
            .map(|group| group.name())
            .collect();
        assert_eq!(groups, [NamedGroup::X25519MLKEM768]);
        assert!(!provider.cipher_suites.is_empty());
        assert!(
            provider
                .cipher_suites
                .iter()
                .all(|suite| suite.tls13().is_some())
        );
    }
}
