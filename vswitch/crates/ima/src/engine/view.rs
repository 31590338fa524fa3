//! What operators are shown, in pages.

use std::ops::Bound;
use std::time::Duration;

use serde::Serialize;
use vswitch_control::message::Bounded;
use vswitch_control::message::operator::{
    AddressLine, DeclaredLine, Denied, EdgeLine, MAX_PAGE, MemberLine, OperatorLine, Page, Request,
    Response, Text, VnLine,
};
use vswitch_control::message::overlay::Placement;
use vswitch_control::types::{NveName, OperatorName, VnName};

use super::Engine;
use crate::model::Vn;

/// Bytes after which a page is full: below the longest message by more than the longest item.
const PAGE: usize = 56 * 1024;

/// As many items as fit.
pub(crate) fn page<T: Serialize>(items: impl Iterator<Item = T>) -> Page<T> {
    let mut own = Vec::new();
    let (mut bytes, mut more) = (0, false);
    for item in items {
        if own.len() == MAX_PAGE || bytes >= PAGE {
            more = true;
            break;
        }
        bytes += postcard::to_stdvec(&item).map_or(PAGE, |encoded| encoded.len());
        own.push(item);
    }
    Page {
        items: Bounded::try_from(own).unwrap_or_default(),
        more,
    }
}

fn after<T>(last: Option<&T>) -> Bound<&T> {
    last.map_or(Bound::Unbounded, Bound::Excluded)
}

impl Engine {
    /// Answers a request to show something; `None` for those that are not about the state.
    ///
    /// # Errors
    /// There is no such VN.
    pub fn show(&self, request: &Request, now: Duration) -> Option<Result<Response, Denied>> {
        let find = |vn: &VnName| {
            let found = self.state.vn(vn);
            found.ok_or_else(|| Denied::Unknown(Text::of(&format!("network {vn}"))))
        };
        Some(match request {
            Request::Vns { after: last } => {
                let vns = self
                    .state
                    .vns
                    .range::<VnName, _>((after(last.as_ref()), Bound::Unbounded));
                Ok(Response::Vns(page(
                    vns.filter_map(|(name, vn)| vn_line(name, vn)),
                )))
            }
            Request::Members { vn, after: last } => find(vn).map(|vn| {
                let members = vn
                    .members
                    .range::<NveName, _>((after(last.as_ref()), Bound::Unbounded));
                Response::Members(page(members.map(|nve| MemberLine {
                    nve: nve.clone(),
                    joined: vn.joined.contains_key(nve),
                })))
            }),
            Request::Placements { vn, after: last } => find(vn).map(|vn| {
                let placements = vn
                    .placements
                    .range((after(last.as_ref()), Bound::Unbounded));
                Response::Placements(page(placements.map(|(mac, placed)| Placement {
                    mac: *mac,
                    ips: placed.ips.clone(),
                    nve: placed.nve.clone(),
                    port: placed.port.clone(),
                })))
            }),
            Request::Mappings { vn, after: last } => find(vn).map(|vn| {
                let mappings = vn.mappings.range((after(last.as_ref()), Bound::Unbounded));
                Response::Mappings(page(mappings.filter_map(|(mac, _)| vn.mapping(*mac))))
            }),
            Request::Edges { after: last } => Ok(Response::Edges(self.edges(last.as_ref(), now))),
            Request::Declared { after: last } => {
                let from = (after(last.as_ref()), Bound::Unbounded);
                let declared = self.state.declared.range::<NveName, _>(from);
                Ok(Response::Declared(page(declared.map(|(nve, places)| {
                    DeclaredLine {
                        nve: nve.clone(),
                        places: places.clone(),
                    }
                }))))
            }
            Request::Addresses { after: last } => {
                let claims = self
                    .state
                    .claims
                    .range((after(last.as_ref()), Bound::Unbounded));
                Ok(Response::Addresses(page(claims.map(|(address, claim)| {
                    AddressLine {
                        address: *address,
                        nve: claim.nve.clone(),
                        declared: claim.declared,
                    }
                }))))
            }
            Request::Operators { after: last } => {
                let from = (after(last.as_ref()), Bound::Unbounded);
                let operators = self.state.operators.range::<OperatorName, _>(from);
                Ok(Response::Operators(page(operators.map(
                    |(name, revoked)| OperatorLine {
                        name: name.clone(),
                        by: revoked.by.clone(),
                        reason: revoked.reason.clone(),
                    },
                ))))
            }
            Request::Change(_) | Request::Server | Request::Audit { .. } => return None,
        })
    }

    fn edges(&self, last: Option<&NveName>, now: Duration) -> Page<EdgeLine> {
        let from = (after(last), Bound::Unbounded);
        let mut known = self
            .state
            .edges
            .range::<NveName, _>(from)
            .map(|(nve, _)| nve)
            .peekable();
        let mut revoked = self
            .state
            .revoked
            .range::<NveName, _>(from)
            .map(|(nve, _)| nve)
            .peekable();
        // Both in order; who is in both comes once.
        let both = std::iter::from_fn(move || match (known.peek(), revoked.peek()) {
            (Some(a), Some(b)) if a == b => {
                revoked.next();
                known.next()
            }
            (Some(a), Some(b)) if a < b => known.next(),
            (Some(_), None) => known.next(),
            _ => revoked.next(),
        });
        page(both.map(|nve| {
            EdgeLine {
                nve: nve.clone(),
                connected: self.is_connected(nve),
                endpoint: self.state.edges.get(nve).map(|edge| edge.endpoint.clone()),
                lease: self.lease_end(nve).and_then(|end| {
                    let left = end.checked_sub(now)?;
                    u32::try_from(left.as_secs()).ok()
                }),
                vns: u32::try_from(self.state.present(nve).count()).unwrap_or(u32::MAX),
                revoked: self
                    .state
                    .revoked
                    .get(nve)
                    .map(|revoked| revoked.reason.clone()),
            }
        }))
    }
}

fn vn_line(name: &VnName, vn: &Vn) -> Option<VnLine> {
    Some(VnLine {
        vn: name.clone(),
        settings: vn.declared.as_ref()?.settings,
        epoch: vn.clock.epoch,
        version: vn.clock.version,
        members: vn.members.len() as u64,
        joined: vn.joined.len() as u64,
        placements: vn.placements.len() as u64,
        mappings: vn.mappings.len() as u64,
    })
}
