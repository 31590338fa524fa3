//! What somebody sends as a certificate, before anybody has looked at who signed it: any bytes are none,
//! or one of exactly one identity that reads as it is written.

use std::time::Duration;

use vswitch_control::identity::{Certificate, Identity, TrustDomain};

use super::Eat;

/// Nothing to make ready.
#[must_use]
pub fn start() -> Eat {
    let own: TrustDomain = "lab".parse().expect("a domain");
    Box::new(move |bytes| {
        let Ok(certificate) = Certificate::parse(bytes) else {
            return;
        };
        let name = certificate.identity.to_string();
        let again: Identity = name.parse().expect("an identity");
        assert_eq!(again, certificate.identity);
        let shown = certificate.serial.to_string();
        assert!(shown.len() <= 2 * bytes.len() && !shown.starts_with("00"));
        for now in [certificate.not_before, certificate.not_after] {
            let ours = *certificate.identity.domain() == own;
            let in_order = certificate.not_before <= certificate.not_after;
            let counts = certificate.check(&own, now);
            assert_eq!(counts.is_ok(), ours && in_order, "{counts:?}");
            if let Err(refused) = counts {
                assert!(!refused.to_string().is_empty());
            }
        }
        let left = certificate.remaining(certificate.not_after);
        assert_eq!(left, Duration::ZERO);
    })
}

/// An edge's, an authority's, a CA's, and one of two identities.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let all: [&[u8]; 4] = [
        include_bytes!("certificates/nve.der"),
        include_bytes!("certificates/ima.der"),
        include_bytes!("certificates/ca.der"),
        include_bytes!("certificates/many.der"),
    ];
    all.map(<[u8]>::to_vec).to_vec()
}
