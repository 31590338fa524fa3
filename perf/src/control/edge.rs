//! One simulated edge towards the authority: a real session, real exchanges and channels, and nothing of
//! what it is told kept but which mappings it knows.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use tokio::sync::mpsc;
use vswitch_control::hybrid::{ExchangeId, Initiator, Transcript};
use vswitch_control::message::ima::{
    Base, EXPORTER_LABEL, FromEdge, FromIma, PROTOCOL, Resume, SealedBytes, Update, VnFromEdge,
    VnFromIma,
};
use vswitch_control::message::overlay::Ips;
use vswitch_control::message::{decode, encode};
use vswitch_control::session::{Bytes, Exported, Session};
use vswitch_control::types::{BootId, Epoch, Generation, Mac, VnName};
use vswitch_control::vnchannel::{Side, VnChannel};

use super::overlay::{Station, endpoint, port, vn_name};
use super::watch::Watch;

/// Bytes of a frame before its body.
const HEADER: u64 = 4;

/// What an edge is told to do.
#[derive(Debug, Clone, Copy)]
pub enum Order {
    /// Into a network.
    Join(usize),
    /// An address is here, with its first or its second IP address.
    Register(Station, bool),
    /// End the session.
    Stop,
}

/// An edge that was started.
pub struct Edge(mpsc::UnboundedSender<Order>);

impl Edge {
    /// Runs the edge of this number over a session until it is stopped; what becomes of it, `watch` knows.
    pub fn start(number: usize, session: Session, watch: Arc<Watch>) -> Self {
        let (orders, told) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let ran = match Line::new(session, watch.clone(), number == 0) {
                Ok(mut line) => line.run(number, told).await,
                Err(error) => Err(error),
            };
            if let Err(error) = ran {
                watch.fail(&format!("edge {number}: {error:#}"));
            }
            watch.ended.add(1);
        });
        Edge(orders)
    }

    /// Tells it to do something.
    pub fn order(&self, order: Order) -> anyhow::Result<()> {
        self.0.send(order).ok().context("an edge has ended")
    }
}

/// An edge's place in a network.
#[derive(Default)]
struct Seat {
    /// The exchange that is not answered yet.
    offered: Option<(ExchangeId, Initiator)>,
    channel: Option<(Epoch, VnChannel)>,
    told: Option<Resume>,
    known: HashMap<Mac, Generation>,
}

struct Line {
    session: Session,
    watch: Arc<Watch>,
    /// What this one receives is counted.
    probe: bool,
    own: String,
    peer: String,
    binding: Exported,
    seats: HashMap<VnName, Seat>,
}

impl Line {
    fn new(session: Session, watch: Arc<Watch>, probe: bool) -> anyhow::Result<Self> {
        let binding = session.export_keying_material(EXPORTER_LABEL, b"");
        Ok(Line {
            own: String::new(),
            peer: session.peer().to_string(),
            binding: binding.context("no exporter")?,
            session,
            watch,
            probe,
            seats: HashMap::new(),
        })
    }

    async fn run(
        &mut self,
        number: usize,
        mut orders: mpsc::UnboundedReceiver<Order>,
    ) -> anyhow::Result<()> {
        self.own = format!("spiffe://{}/nve/edge-{number}", super::lab::DOMAIN);
        self.send(&FromEdge::Hello {
            version: PROTOCOL,
            boot: BootId(fastrand::u128(..).to_be_bytes()),
            endpoint: endpoint(number)?,
        })?;
        loop {
            tokio::select! {
                frame = self.session.recv() => {
                    let Some(frame) = frame else {
                        bail!("session lost: {}", self.session.closed().await);
                    };
                    if self.probe {
                        self.watch.probe_messages.add(1);
                        self.watch.probe_bytes.add(frame.len() as u64 + HEADER);
                    }
                    self.receive(&frame)?;
                }
                order = orders.recv() => match order {
                    Some(Order::Join(vn)) => self.join(vn_name(vn)?)?,
                    Some(Order::Register(station, second)) => self.register(station, second)?,
                    Some(Order::Stop) | None => {
                        let known = self.seats.values().map(|seat| seat.known.len() as u64);
                        self.watch.known.take(known.sum());
                        return Ok(());
                    }
                },
            }
        }
    }

    fn send(&self, message: &FromEdge) -> anyhow::Result<()> {
        // Not waiting: who waited here would not read, and the authority would wait for it.
        Ok(self.session.try_send(Bytes::from(encode(message)?))?)
    }

    fn join(&mut self, vn: VnName) -> anyhow::Result<()> {
        let exchange = ExchangeId(fastrand::u128(..).to_be_bytes());
        let initiator = Initiator::new()?;
        let offer = initiator.offer().clone();
        let seat = self.seats.entry(vn.clone()).or_default();
        seat.offered = Some((exchange, initiator));
        let resume = seat.told;
        self.send(&FromEdge::Join {
            vn,
            exchange,
            offer,
            resume,
        })
    }

    fn register(&mut self, station: Station, second: bool) -> anyhow::Result<()> {
        let vn = vn_name(station.vn)?;
        let message = VnFromEdge::Register {
            port: port()?,
            mac: station.mac(),
            ips: Ips::try_from(vec![station.ip(second)])?,
        };
        let seat = self.seats.get_mut(&vn).context("not joined")?;
        let (epoch, channel) = seat.channel.as_mut().context("not joined yet")?;
        let bytes = SealedBytes::try_from(channel.seal(&encode(&message)?)?)?;
        let epoch = *epoch;
        self.send(&FromEdge::Sealed { vn, epoch, bytes })
    }

    fn receive(&mut self, frame: &[u8]) -> anyhow::Result<()> {
        match decode(frame)? {
            FromIma::Welcome { .. } => self.watch.welcomed.add(1),
            FromIma::Joined {
                vn,
                exchange,
                epoch,
                answer,
                log,
                ..
            } => {
                let seat = self.seats.get_mut(&vn).context("a network it is not in")?;
                let (own, initiator) = seat.offered.take().context("an answer too many")?;
                ensure!(own == exchange, "an answer to another exchange");
                let transcript = Transcript {
                    initiator: &self.own,
                    responder: &self.peer,
                    vn: &vn,
                    epoch,
                    exchange,
                    binding: self.binding.as_slice(),
                };
                let root = initiator.finish(&answer, &transcript)?;
                let channel = VnChannel::new(&root, &transcript, Side::Initiator)?;
                if seat.channel.replace((epoch, channel)).is_none() {
                    self.watch.joined.add(1);
                }
                let version = seat.told.map(|told| told.version).unwrap_or_default();
                seat.told = Some(Resume { log, version });
            }
            FromIma::NewEpoch { vn, .. } => self.join(vn)?,
            FromIma::Sealed { vn, epoch, bytes } => {
                let seat = self.seats.get_mut(&vn).context("a network it is not in")?;
                let (own, channel) = seat.channel.as_mut().context("sealed by nothing")?;
                ensure!(*own == epoch, "sealed for another epoch");
                match decode(&channel.open(bytes.as_bytes())?)? {
                    VnFromIma::Update(update) => update_seat(seat, &update, &self.watch)?,
                    VnFromIma::Registered { .. } => self.watch.registered.add(1),
                    VnFromIma::Placed | VnFromIma::Answer { .. } => {}
                    VnFromIma::Rejected { mac, why } => bail!("{mac} was rejected: {why}"),
                }
            }
            FromIma::Renewed { .. } => {}
            other => bail!("{other:?}"),
        }
        Ok(())
    }
}

fn update_seat(seat: &mut Seat, update: &Update, watch: &Watch) -> anyhow::Result<()> {
    let told = seat.told.as_mut().context("told before it joined")?;
    match update.base {
        Base::Version(version) => ensure!(version == told.version, "a step is missing"),
        Base::Full { first: true, .. } => {
            watch.known.take(seat.known.len() as u64);
            seat.known.clear();
        }
        Base::Full { first: false, .. } => {}
    }
    told.version = update.to;
    for mapping in update.mappings.iter() {
        match seat.known.insert(mapping.mac, mapping.generation) {
            None => watch.known.add(1),
            Some(former) if former == mapping.generation => continue,
            Some(former) => ensure!(former < mapping.generation, "a generation went back"),
        }
        watch.saw(mapping);
    }
    for withdrawal in update.withdrawn.iter() {
        if seat.known.remove(&withdrawal.mac).is_some() {
            watch.known.take(1);
        }
    }
    watch.updates.add(1);
    Ok(())
}
