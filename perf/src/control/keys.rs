//! Keys between two edges: agreements per second and CPU second, and how long one takes, by the state
//! machines alone and over a real session.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use vswitch_control::identity::{Expect, Identity, Role};
use vswitch_control::session::{Bytes, Endpoint, Session, Setup};
use vswitch_control::types::VnName;

use super::authority::cpu_seconds;
use super::lab::{DOMAIN, Lab};
use super::overlay::vn_name;
use super::pair::{Edge, Out};
use super::watch::Times;

/// Label of the exporter; nobody but these two uses it.
const LABEL: &[u8] = b"EXPORTER-vswitch-perf";
/// Agreements under way in a full session.
const WINDOW: usize = 64;
/// Without any progress for so long, the measurement has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was found about so many agreements, each in a network of its own.
pub struct Found {
    pub agreements: usize,
    /// Seconds of the clock.
    pub seconds: f64,
    /// Seconds of CPU time, of both edges.
    pub cpu: f64,
    /// From the need of a worker until both ends have its SA.
    pub one_way: Times,
    /// And until the other direction's SA is at both ends too, which is needed from then on.
    pub both_ways: Times,
}

/// How far the agreements of a run are.
struct Run {
    begun: HashMap<VnName, Instant>,
    one_way: Times,
    both_ways: Times,
}

impl Run {
    fn new() -> anyhow::Result<Self> {
        Ok(Run {
            begun: HashMap::new(),
            one_way: Times::new()?,
            both_ways: Times::new()?,
        })
    }

    /// Edge `side` (0 began) sends by an SA of its own now. Whether the other is to need one.
    fn sending(&mut self, side: usize, vn: &VnName) -> anyhow::Result<bool> {
        let begun = self.begun.get(vn).context("an SA nobody needs")?;
        let took = begun.elapsed();
        if side == 0 {
            self.one_way.record(took);
        } else {
            self.both_ways.record(took);
            self.begun.remove(vn);
        }
        Ok(side == 0)
    }

    fn found(self, agreements: usize, begun: Instant, cpu: f64) -> anyhow::Result<Found> {
        let Run {
            one_way, both_ways, ..
        } = self;
        let all = agreements as u64;
        ensure!(
            one_way.len() == all && both_ways.len() == all,
            "some are missing"
        );
        Ok(Found {
            agreements,
            seconds: begun.elapsed().as_secs_f64(),
            cpu: cpu_seconds("self")? - cpu,
            one_way,
            both_ways,
        })
    }
}

fn two(vns: usize) -> anyhow::Result<[Edge; 2]> {
    let mut edges = [Edge::new(0)?, Edge::new(1)?];
    let names = [edges[0].name.clone(), edges[1].name.clone()];
    for edge in &mut edges {
        for vn in 0..vns {
            edge.join(vn, &names)?;
        }
    }
    Ok(edges)
}

/// The state machines alone, in this thread, one agreement after the other.
pub fn alone(agreements: usize) -> anyhow::Result<Found> {
    let mut edges = two(agreements)?;
    let names = [edges[0].name.clone(), edges[1].name.clone()];
    let (begun, cpu) = (Instant::now(), cpu_seconds("self")?);
    for (edge, peer) in edges.iter_mut().zip([&names[1], &names[0]]) {
        edge.up(Duration::ZERO, peer, 1, [7; 32]);
    }
    let mut run = Run::new()?;
    let mut messages: VecDeque<(usize, Vec<u8>)> = VecDeque::new();
    for n in 0..=agreements {
        // The first time only greets.
        if n > 0 {
            let vn = vn_name(n - 1)?;
            run.begun.insert(vn.clone(), Instant::now());
            edges[0].need(begun.elapsed(), vn, &names[1], 0);
        }
        loop {
            let now = begun.elapsed();
            let mut wanted = Vec::new();
            for (side, edge) in edges.iter_mut().enumerate() {
                edge.pump(now, |out| {
                    match out {
                        Out::Message(_, bytes) => messages.push_back((1 - side, bytes)),
                        Out::Sending(vn) if run.sending(side, &vn)? => wanted.push(vn),
                        Out::Sending(_) | Out::Receiving => {}
                    }
                    Ok(())
                })?;
            }
            let idle = wanted.is_empty();
            for vn in wanted {
                edges[1].need(now, vn, &names[0], 0);
            }
            match messages.pop_front() {
                Some((to, bytes)) => edges[to].message(now, &names[1 - to], 1, bytes),
                None if idle => break,
                None => {}
            }
        }
    }
    run.found(agreements, begun, cpu)
}

/// Over a session on loopback, by one thread; `window` agreements under way.
pub async fn over_session(lab: &Lab, agreements: usize, full: bool) -> anyhow::Result<Found> {
    let mut edges = two(agreements)?;
    let names = [edges[0].name.clone(), edges[1].name.clone()];
    let endpoint = |n: usize| {
        let who = lab.credentials(Role::Nve, names[n].as_str())?;
        let setup = Setup::new(who.fixed(), &[Role::Nve]);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        anyhow::Ok(Endpoint::bind(any, setup)?)
    };
    let endpoints = [endpoint(0)?, endpoint(1)?];
    let expect = Identity::new(&DOMAIN.parse()?, Role::Nve, names[1].as_str())?;
    let dialled = endpoints[0].dial(endpoints[1].local_address()?, Expect::Identity(expect));
    let (dialled, accepted) = tokio::join!(dialled, endpoints[1].accept());
    let mut sessions = [dialled?, accepted.context("no session")?];

    let (begun, cpu) = (Instant::now(), cpu_seconds("self")?);
    for (n, session) in sessions.iter().enumerate() {
        let binding = session
            .export_keying_material(LABEL, b"")
            .context("no exporter")?;
        edges[n].up(Duration::ZERO, &names[1 - n], 1, *binding);
    }
    let mut run = Run::new()?;
    let window = if full { WINDOW } else { 1 };
    let mut started = 0;
    while both(&run) < agreements as u64 {
        while started < agreements && run.begun.len() < window {
            let vn = vn_name(started)?;
            run.begun.insert(vn.clone(), Instant::now());
            edges[0].need(begun.elapsed(), vn, &names[1], 0);
            started += 1;
        }
        flush(&mut edges, &sessions, &mut run, begun.elapsed())?;
        if both(&run) == agreements as u64 {
            break;
        }
        let [first, second] = &mut sessions;
        let due = edges
            .iter()
            .filter_map(|edge| edge.keying.next_timeout())
            .min();
        let pause = due.map_or(PATIENCE, |due| due.saturating_sub(begun.elapsed()));
        let (to, frame) = tokio::select! {
            frame = first.recv() => (0, frame),
            frame = second.recv() => (1, frame),
            () = tokio::time::sleep(pause) => {
                let waited = run.begun.values().map(Instant::elapsed).max();
                ensure!(waited.unwrap_or_default() < PATIENCE, "an agreement does not come about");
                continue;
            }
        };
        let Some(frame) = frame else {
            bail!("session lost: {}", sessions[to].closed().await);
        };
        edges[to].message(begun.elapsed(), &names[1 - to], 1, frame.to_vec());
    }
    let found = run.found(agreements, begun, cpu)?;
    for endpoint in &endpoints {
        endpoint.close("the measurement is over").await;
    }
    Ok(found)
}

fn both(run: &Run) -> u64 {
    run.both_ways.len()
}

/// Sends what there is to send, and has the second edge answer over each new SA.
fn flush(
    edges: &mut [Edge; 2],
    sessions: &[Session; 2],
    run: &mut Run,
    now: Duration,
) -> anyhow::Result<()> {
    loop {
        let mut wanted = Vec::new();
        for (side, (edge, session)) in edges.iter_mut().zip(sessions).enumerate() {
            edge.pump(now, |out| {
                match out {
                    Out::Message(_, bytes) => session.try_send(Bytes::from(bytes))?,
                    Out::Sending(vn) if run.sending(side, &vn)? => wanted.push(vn),
                    Out::Sending(_) | Out::Receiving => {}
                }
                Ok(())
            })?;
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let [first, second] = edges;
        for vn in wanted {
            second.need(now, vn, &first.name, 0);
        }
    }
}
