//! What is between an edge's frames and the engine, without sockets: the channels of its VNs, what it says,
//! opened, and what it is told, sealed.

use std::collections::{HashMap, VecDeque};

use vswitch_control::hybrid::{ExchangeId, Offer, Transcript, respond};
use vswitch_control::message::ima::{
    FromEdge, FromIma, Goodbye, PROTOCOL, Refusal, SealedBytes, VnFromIma,
};
use vswitch_control::message::{decode, encode};
use vswitch_control::session::Exported;
use vswitch_control::types::{Epoch, VnName};
use vswitch_control::vnchannel::{Side, VnChannel};

use crate::engine::{EdgeRequest, Push, Reply};

/// One VN's channels.
#[derive(Default)]
struct Channels {
    current: Option<(Epoch, VnChannel)>,
    /// Opens what was sent before the edge had the current one.
    former: Option<(Epoch, VnChannel)>,
    /// Of joins that are not answered yet, in order.
    offers: VecDeque<(ExchangeId, Offer)>,
}

impl Channels {
    /// Opens a message with the channel of its epoch.
    fn open(&mut self, epoch: Epoch, sealed: &[u8]) -> Option<Vec<u8>> {
        if let Some((own, channel)) = &mut self.current
            && *own == epoch
            && let Ok(opened) = channel.open(sealed)
        {
            // The edge has changed over.
            self.former = None;
            return Some(opened);
        }
        match &mut self.former {
            Some((own, channel)) if *own == epoch => channel.open(sealed).ok(),
            _ => None,
        }
    }
}

/// What follows from something.
#[derive(Default)]
pub(crate) struct Follows {
    /// To the edge.
    pub(crate) message: Option<FromIma>,
    /// To the authority.
    pub(crate) request: Option<EdgeRequest>,
}

impl From<FromIma> for Follows {
    fn from(message: FromIma) -> Self {
        Self {
            message: Some(message),
            request: None,
        }
    }
}

/// One session's side of the protocol.
pub(crate) struct Line {
    /// The edge's identity, and ours.
    edge: String,
    server: String,
    /// The session's exporter value.
    binding: Exported,
    channels: HashMap<VnName, Channels>,
}

impl Line {
    pub(crate) fn new(edge: String, server: String, binding: Exported) -> Self {
        Self {
            edge,
            server,
            binding,
            channels: HashMap::new(),
        }
    }

    /// What a frame of the edge asks for; `Err` if an honest edge does not send it.
    pub(crate) fn receive(&mut self, frame: &[u8]) -> Result<Option<EdgeRequest>, Goodbye> {
        let wrong = |_| Goodbye::Protocol;
        let request = match decode(frame).map_err(wrong)? {
            FromEdge::Hello {
                version,
                boot,
                endpoint,
            } => {
                if version != PROTOCOL {
                    return Err(Goodbye::Version);
                }
                EdgeRequest::Hello { boot, endpoint }
            }
            FromEdge::Renew { sequence } => EdgeRequest::Renew { sequence },
            FromEdge::Join {
                vn,
                exchange,
                offer,
                resume,
            } => {
                let channels = self.channels.entry(vn.clone()).or_default();
                channels.offers.push_back((exchange, offer));
                EdgeRequest::Join { vn, resume }
            }
            FromEdge::Leave { vn } => EdgeRequest::Leave { vn },
            FromEdge::Sealed { vn, epoch, bytes } => {
                let channels = self.channels.get_mut(&vn);
                // Else it was expelled, and does not know yet.
                let Some(channels) = channels.filter(|channels| channels.current.is_some()) else {
                    return Ok(None);
                };
                let opened = channels.open(epoch, bytes.as_bytes());
                let opened = opened.ok_or(Goodbye::Protocol)?;
                EdgeRequest::Vn {
                    vn,
                    message: decode(&opened).map_err(wrong)?,
                }
            }
        };
        Ok(Some(request))
    }

    /// What is to be sent without being asked for; `Err` if that is the last of all.
    pub(crate) fn push(&mut self, push: Push) -> Result<Option<FromIma>, Goodbye> {
        match push {
            Push::Clear(message) => {
                if let FromIma::Expelled { vn } = &message {
                    self.forget(vn);
                }
                Ok(Some(message))
            }
            Push::Vn { vn, message } => self.seal(vn, &message),
            Push::Close(why) => Err(why),
        }
    }

    /// The answer to the request that has waited longest.
    pub(crate) fn reply(&mut self, reply: Reply) -> Result<Follows, Goodbye> {
        match reply {
            Reply::Welcome { lease, limits, .. } => Ok(FromIma::Welcome { lease, limits }.into()),
            Reply::Renewed { sequence, lease } => Ok(FromIma::Renewed { sequence, lease }.into()),
            Reply::Refused { vn, why } => {
                if let Some(channels) = self.channels.get_mut(&vn) {
                    channels.offers.pop_front();
                    if channels.current.is_none() && channels.offers.is_empty() {
                        self.channels.remove(&vn);
                    }
                }
                Ok(FromIma::Refused { vn, why }.into())
            }
            Reply::Left { vn } => {
                self.forget(&vn);
                Ok(Follows::default())
            }
            Reply::Vn { vn, message } => Ok(Follows {
                message: self.seal(vn, &message)?,
                request: None,
            }),
            // The engine closes the session by a push.
            Reply::Goodbye(_) => Ok(Follows::default()),
            joined @ Reply::Joined { .. } => Ok(self.joined(joined)),
        }
    }

    /// Destroys a VN's keys. Joins that are under way go on.
    fn forget(&mut self, vn: &VnName) {
        if let Some(channels) = self.channels.get_mut(vn) {
            (channels.current, channels.former) = (None, None);
            if channels.offers.is_empty() {
                self.channels.remove(vn);
            }
        }
    }

    fn joined(&mut self, reply: Reply) -> Follows {
        let Reply::Joined {
            vn,
            epoch,
            log,
            settings,
            ..
        } = reply
        else {
            return Follows::default();
        };
        let channels = self.channels.get_mut(&vn);
        let Some((channels, (exchange, offer))) =
            channels.and_then(|channels| channels.offers.pop_front().map(|it| (channels, it)))
        else {
            return Follows::default();
        };
        let transcript = Transcript {
            initiator: &self.edge,
            responder: &self.server,
            vn: &vn,
            epoch,
            exchange,
            binding: self.binding.as_slice(),
        };
        let made = respond(&offer, &transcript)
            .ok()
            .and_then(|(answer, root)| {
                Some((
                    answer,
                    VnChannel::new(&root, &transcript, Side::Responder).ok()?,
                ))
            });
        let Some((answer, channel)) = made else {
            self.forget(&vn);
            return Follows {
                message: Some(FromIma::Refused {
                    vn: vn.clone(),
                    why: Refusal::BadOffer,
                }),
                request: Some(EdgeRequest::Leave { vn }),
            };
        };
        channels.former = channels.current.replace((epoch, channel));
        let joined = FromIma::Joined {
            vn,
            exchange,
            epoch,
            answer,
            log,
            vni: settings.vni,
            protection: settings.protection,
            lease_end: settings.lease_end,
        };
        joined.into()
    }

    fn seal(&mut self, vn: VnName, message: &VnFromIma) -> Result<Option<FromIma>, Goodbye> {
        let channel = self
            .channels
            .get_mut(&vn)
            .and_then(|channels| channels.current.as_mut());
        let Some((epoch, channel)) = channel else {
            return Ok(None);
        };
        let sealed = encode(message).ok().and_then(|plain| {
            let sealed = channel.seal(&plain).ok()?;
            SealedBytes::try_from(sealed).ok()
        });
        let Some(bytes) = sealed else {
            tracing::error!(edge = %self.edge, %vn, "a message that cannot be sealed");
            return Err(Goodbye::Protocol);
        };
        let epoch = *epoch;
        Ok(Some(FromIma::Sealed { vn, epoch, bytes }))
    }
}
