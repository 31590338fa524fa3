//! What the server says to operators who only look.

use vswitch_control::message::Bounded;
use vswitch_control::message::operator::{
    AuditLine, Denied, MAX_PAGE, Request, Response, Server, Text,
};

use super::authority::Authority;
use crate::engine::page;
use crate::store::Store;

impl<S: Store> Authority<S> {
    /// Answers a request that changes nothing.
    pub(super) async fn show(&mut self, request: &Request) -> Result<Response, Denied> {
        if let Some(shown) = self.engine.show(request, self.now()) {
            return shown;
        }
        match request {
            Request::Audit { before } => {
                let found = self.store.audit(*before, MAX_PAGE + 1).await;
                let found =
                    found.map_err(|error| Denied::Unavailable(Text::of(&error.to_string())))?;
                let lines = found.into_iter().map(|(id, audit)| AuditLine {
                    id,
                    who: audit.who,
                    change: audit.change,
                });
                Ok(Response::Audit(page(lines)))
            }
            _ => Ok(Response::Server(self.server())),
        }
    }

    fn server(&self) -> Server {
        let state = self.engine.state();
        let mappings: usize = state.vns.values().map(|vn| vn.mappings.len()).sum();
        let mut counters = vec![
            ("sessions-of-edges", self.engine.sessions() as u64),
            ("networks", state.vns.len() as u64),
            ("edges", state.edges.len() as u64),
            ("mappings", mappings as u64),
            ("revoked", state.revoked.len() as u64),
            ("store-broken", u64::from(self.broken)),
            ("store-unreadable", state.unreadable() as u64),
            ("store-skipped", self.store.skipped()),
        ];
        counters.extend(self.shared.counters.all());
        if let Some(endpoint) = &self.endpoint {
            let stats = endpoint.stats();
            counters.extend([
                ("sessions", stats.sessions),
                ("handshakes", stats.initials),
                ("handshakes-retried", stats.retries),
                ("handshakes-half-open", stats.half_open),
                ("handshakes-ignored", stats.ignored),
                ("handshakes-ignored-source", stats.ignored_source),
                ("handshakes-refused-source", stats.refused_source),
            ]);
        }
        let counters: Vec<_> = counters
            .into_iter()
            .map(|(name, value)| (Text::of(name), value))
            .collect();
        Server {
            name: Text::of(&self.shared.identity.to_string()),
            store: Text::of(self.store.name()),
            revision: self.store.revision(),
            uptime: self.now().as_secs(),
            counters: Bounded::try_from(counters).unwrap_or_default(),
        }
    }
}
