//! An authority, its operators, and edges with sessions: brought up block by block, each step timed.

use std::collections::HashSet;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tempfile::TempDir;
use tokio::task::JoinSet;
use vswitch_control::identity::{Credentials, Role};

use super::authority::{Authority, Usage, cpu_seconds};
use super::edge::{Edge, Order};
use super::lab::{Lab, SOCKETS, Sockets};
use super::operators::Operators;
use super::overlay::{Overlay, Station};
use super::watch::{Times, Watch};

/// How often an edge dials until it has its session, and how long it waits in between.
const DIALS: usize = 100;
const BETWEEN: Duration = Duration::from_millis(100);

/// What a step of starting everything took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Step {
    /// How many of what it is about.
    pub count: usize,
    /// Seconds of the clock.
    pub seconds: f64,
    /// Seconds of CPU time of the authority.
    pub authority: f64,
    /// Seconds of CPU time of this process: edges, or operators.
    pub others: f64,
    /// How many more bytes the authority has allocated then.
    pub bytes: f64,
}

/// When a step began.
pub struct Mark {
    at: Instant,
    usage: Usage,
    own: f64,
}

/// All of it.
pub struct World {
    pub overlay: Overlay,
    pub authority: Authority,
    pub watch: Arc<Watch>,
    /// From a dial to the session, of every edge.
    pub handshakes: Times,
    /// Dials that the authority's limits refused, and that were tried again.
    pub refused: usize,
    steps: Vec<(&'static str, Step)>,
    edges: Vec<Edge>,
    operators: Operators,
    sockets: Arc<Sockets>,
    lab: Lab,
    place: PathBuf,
    directory: TempDir,
    /// Addresses that have their second IP address now.
    second: HashSet<usize>,
}

impl World {
    /// An authority with an empty store, and operators.
    pub async fn open(overlay: Overlay) -> anyhow::Result<Self> {
        let lab = Lab::new()?;
        let directory = tempfile::tempdir()?;
        let place = lab.authority()?;
        let authority = Authority::start(&place, &directory.path().join("ima.redb"))?;
        let sockets = Arc::new(Sockets::open(&lab)?);
        let operators = Operators::open(&lab, &sockets, authority.address).await?;
        Ok(World {
            overlay,
            authority,
            watch: Arc::new(Watch::new()?),
            handshakes: Times::new()?,
            refused: 0,
            steps: Vec::new(),
            edges: Vec::new(),
            operators,
            sockets,
            lab,
            place,
            directory,
            second: HashSet::new(),
        })
    }

    /// A step begins.
    pub fn mark(&mut self) -> anyhow::Result<Mark> {
        let usage = self.authority.usage()?;
        let (own, at) = (cpu_seconds("self")?, Instant::now());
        Ok(Mark { at, usage, own })
    }

    /// What there was since, about so many.
    pub fn since(&mut self, mark: &Mark, count: usize) -> anyhow::Result<Step> {
        let seconds = mark.at.elapsed().as_secs_f64();
        let usage = self.authority.usage()?;
        Ok(Step {
            count,
            seconds,
            authority: usage.cpu - mark.usage.cpu,
            others: cpu_seconds("self")? - mark.own,
            bytes: usage.bytes as f64 - mark.usage.bytes as f64,
        })
    }

    fn done(&mut self, name: &'static str, mark: &Mark, count: usize) -> anyhow::Result<()> {
        let step = self.since(mark, count)?;
        // A run of minutes says how far it is.
        eprintln!("{name}: {count} in {:.1} s", step.seconds);
        let known = self.steps.iter_mut().find(|(known, _)| *known == name);
        match known {
            Some((_, sum)) => {
                sum.count += step.count;
                sum.seconds += step.seconds;
                sum.authority += step.authority;
                sum.others += step.others;
                sum.bytes += step.bytes;
            }
            None => self.steps.push((name, step)),
        }
        Ok(())
    }

    /// All steps, of the same name together.
    pub fn steps(&self) -> &[(&'static str, Step)] {
        &self.steps
    }

    fn edge(&self, number: usize) -> anyhow::Result<&Edge> {
        self.edges.get(number).context("no such edge")
    }

    /// Brings up these blocks behind those there are, until every edge knows every mapping of its
    /// networks.
    pub async fn grow(&mut self, blocks: Range<usize>) -> anyhow::Result<()> {
        let overlay = self.overlay;
        let of = |each: usize| blocks.start * each..blocks.end * each;
        let (vns, edges) = (of(super::overlay::VNS_PER_EDGE), of(overlay.members));

        let mark = self.mark()?;
        let changes = vns.clone().map(move |vn| overlay.vn_add(vn));
        let made = self.operators.declare(changes).await?;
        self.done("networks declared", &mark, made)?;

        let mark = self.mark()?;
        let pairs = edges
            .clone()
            .flat_map(move |edge| overlay.vns_of(edge).map(move |vn| (vn, edge)));
        let changes = pairs
            .clone()
            .map(move |(vn, edge)| overlay.member_add(vn, edge));
        let made = self.operators.declare(changes).await?;
        self.done("members declared", &mark, made)?;

        let stations: Vec<Station> = overlay.stations(blocks.clone()).collect();
        let mark = self.mark()?;
        let changes = stations.clone().into_iter();
        let changes = changes.map(|station| station.placement_add());
        let made = self.operators.declare(changes).await?;
        self.done("addresses placed", &mark, made)?;

        let credentials = edges.clone().map(|edge| {
            let name = super::overlay::edge_name(edge)?;
            self.lab.credentials(Role::Nve, name.as_str())
        });
        let credentials = credentials.collect::<anyhow::Result<Vec<_>>>()?;
        let mark = self.mark()?;
        self.connect(edges.start, credentials).await?;
        self.done("sessions", &mark, edges.len())?;

        let mark = self.mark()?;
        let mut joins = self.watch.joined.get();
        for (vn, edge) in pairs {
            self.edge(edge)?.order(Order::Join(vn))?;
            joins += 1;
        }
        let before = self.watch.joined.get();
        self.watch
            .wait("joins", |watch| watch.joined.get(), joins)
            .await?;
        self.done("joins", &mark, usize::try_from(joins - before)?)?;

        let mark = self.mark()?;
        self.register(&stations, overlay.members).await?;
        self.done("registrations, known to all", &mark, stations.len())
    }

    /// One network more, with members in all blocks but the first, some of which have an address each.
    pub async fn broaden(&mut self) -> anyhow::Result<Vec<Station>> {
        const SPEAKERS: usize = 32;
        let overlay = self.overlay;
        let vn = overlay.vns();
        let stations: Vec<Station> = (0..overlay.broad)
            .map(|n| overlay.broad_station(n))
            .collect();
        self.operators
            .declare(std::iter::once(overlay.vn_add(vn)))
            .await?;
        let members = stations.clone().into_iter();
        let changes = members.map(move |station| overlay.member_add(vn, station.edge));
        self.operators.declare(changes).await?;
        let speakers: Vec<Station> = stations.iter().copied().take(SPEAKERS).collect();
        let changes = speakers.clone().into_iter();
        let changes = changes.map(|station| station.placement_add());
        self.operators.declare(changes).await?;

        let mark = self.mark()?;
        let joins = self.watch.joined.get() + stations.len() as u64;
        for station in &stations {
            self.edge(station.edge)?.order(Order::Join(vn))?;
        }
        self.watch
            .wait("joins", |watch| watch.joined.get(), joins)
            .await?;
        self.done("joins of the broad network", &mark, stations.len())?;
        self.register(&speakers, stations.len()).await?;
        Ok(speakers)
    }

    /// Dials for edges from number `first` on.
    async fn connect(&mut self, first: usize, who: Vec<Credentials>) -> anyhow::Result<()> {
        let (address, expect) = (self.authority.address, self.lab.authority_identity()?);
        let welcomed = self.watch.welcomed.get() + who.len() as u64;
        let mut of_socket: Vec<Vec<(usize, Credentials)>> = Vec::new();
        of_socket.resize_with(SOCKETS, Vec::new);
        for (n, credentials) in who.into_iter().enumerate() {
            if let Some(of_socket) = of_socket.get_mut((first + n) % SOCKETS) {
                of_socket.push((first + n, credentials));
            }
        }
        let mut tasks = JoinSet::new();
        for edges in of_socket {
            let (sockets, expect) = (self.sockets.clone(), expect.clone());
            let watch = self.watch.clone();
            tasks.spawn(async move {
                let mut opened = Vec::new();
                for (number, credentials) in edges {
                    let credentials = Arc::new(credentials);
                    let (begun, mut failures) = (Instant::now(), 0);
                    let session = loop {
                        let who = credentials.clone();
                        match sockets.dial(number, who, address, expect.clone()).await {
                            Ok(session) => break session,
                            Err(error) if failures == DIALS => return Err(error),
                            Err(_) => failures += 1,
                        }
                        tokio::time::sleep(BETWEEN).await;
                    };
                    let took = begun.elapsed();
                    let edge = Edge::start(number, session, watch.clone());
                    opened.push((number, edge, took, failures));
                }
                Ok(opened)
            });
        }
        let mut all = Vec::new();
        while let Some(opened) = tasks.join_next().await {
            all.extend(opened??);
        }
        all.sort_by_key(|(number, ..)| *number);
        for (number, edge, took, failures) in all {
            self.handshakes.record(took);
            self.refused += failures;
            match self.edges.get_mut(number) {
                Some(place) => *place = edge,
                None => self.edges.push(edge),
            }
        }
        self.watch
            .wait("welcomes", |watch| watch.welcomed.get(), welcomed)
            .await
    }

    /// Registers each of these, and waits until `members` know each.
    async fn register(&mut self, stations: &[Station], members: usize) -> anyhow::Result<()> {
        let known = self.watch.known.get() + (stations.len() * members) as u64;
        for (n, station) in stations.iter().enumerate() {
            self.edge(station.edge)?
                .order(Order::Register(*station, false))?;
            if n % 1024 == 0 {
                tokio::task::yield_now().await;
            }
        }
        self.watch
            .wait("mappings", |watch| watch.known.get(), known)
            .await
    }

    /// Begins the session of the first edge anew, knowing nothing, and waits until it knows everything.
    /// Gives how many messages and bytes that took.
    pub async fn restart_probe(&mut self) -> anyhow::Result<(u64, u64)> {
        let (known, ended) = (self.watch.known.get(), self.watch.ended.get() + 1);
        let joined = self.watch.joined.get() + super::overlay::VNS_PER_EDGE as u64;
        self.edge(0)?.order(Order::Stop)?;
        self.watch
            .wait("an end", |watch| watch.ended.get(), ended)
            .await?;
        let before = self.probe();
        let who = self
            .lab
            .credentials(Role::Nve, super::overlay::edge_name(0)?.as_str())?;
        self.connect(0, vec![who]).await?;
        for vn in self.overlay.vns_of(0) {
            self.edge(0)?.order(Order::Join(vn))?;
        }
        self.watch
            .wait("joins", |watch| watch.joined.get(), joined)
            .await?;
        self.watch
            .wait("mappings", |watch| watch.known.get(), known)
            .await?;
        let after = self.probe();
        Ok((after.0 - before.0, after.1 - before.1))
    }

    /// Messages and bytes that the first edge has received.
    pub fn probe(&self) -> (u64, u64) {
        let watch = &self.watch;
        (watch.probe_messages.get(), watch.probe_bytes.get())
    }

    /// Makes `count` changes of these mappings' IP addresses, `window` at once, and waits until all of
    /// the network's `members` know each.
    pub async fn change(
        &mut self,
        stations: &[Station],
        (count, window, members): (usize, u32, usize),
    ) -> anyhow::Result<(Step, Times)> {
        self.watch.times()?;
        let mark = self.mark()?;
        self.watch.window.add_permits(window as usize);
        let (mut made, mut next) = (0, 0_usize);
        while made < count {
            // Neighbours in the list are of the same network.
            next = (next + stations.len() / 2 + 1) % stations.len();
            let station = *stations.get(next).context("no station")?;
            self.permits(1).await?;
            let second = !self.second.contains(&station.number);
            if !self
                .watch
                .expect(station.mac(), station.ip(second), members)
            {
                self.watch.window.add_permits(1);
                tokio::task::yield_now().await;
                continue;
            }
            match second {
                true => self.second.insert(station.number),
                false => self.second.remove(&station.number),
            };
            self.edge(station.edge)?
                .order(Order::Register(station, second))?;
            made += 1;
        }
        self.permits(window).await?;
        let step = self.since(&mark, count)?;
        Ok((step, self.watch.times()?))
    }

    async fn permits(&self, many: u32) -> anyhow::Result<()> {
        let permits = self.watch.window.acquire_many(many);
        let waited = tokio::time::timeout(Duration::from_secs(60), permits).await;
        self.watch.check()?;
        waited
            .context("a change did not reach everybody")??
            .forget();
        Ok(())
    }

    /// Ends all sessions and the authority, and starts that anew on what it has stored. Gives how long
    /// it took to start, and the bytes it then had allocated.
    pub async fn restart(self) -> anyhow::Result<(f64, usize)> {
        let ended = self.watch.ended.get() + self.edges.len() as u64;
        for edge in &self.edges {
            edge.order(Order::Stop)?;
        }
        self.watch
            .wait("ends", |watch| watch.ended.get(), ended)
            .await?;
        drop(self.operators);
        self.watch.check()?;
        self.authority.stop()?;
        let mut again = Authority::start(&self.place, &self.directory.path().join("ima.redb"))?;
        let (start, bytes) = (again.start.as_secs_f64(), again.usage()?.bytes);
        again.stop()?;
        self.lab.close()?;
        Ok((start, bytes))
    }
}
