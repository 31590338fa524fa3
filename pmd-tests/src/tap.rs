//! The API beside a rig, and captures taken over it, read back with the `pcap-file` crate.

use std::borrow::Cow;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use vswitch::manage::api::{self, Api, ClientError};
use vswitch::manage::capture::Summary;
use vswitch::manage::edge::Handle;

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// The API of an edge, at a socket. Ends when dropped.
pub struct Served {
    socket: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

impl Served {
    /// At `api.sock` in `dir`.
    pub fn start(handle: Handle, dir: &Path) -> Served {
        let socket = dir.join("api.sock");
        let (stop, stopped) = oneshot::channel::<()>();
        let (up, is_up) = mpsc::channel();
        let path = socket.clone();
        let server = thread::spawn(move || {
            runtime().block_on(async {
                let api = Api::bind(&path).await.expect("the API's socket");
                up.send(()).expect("the test waits");
                let shutdown = async {
                    let _ = stopped.await;
                };
                api.serve(handle, shutdown).await.expect("the API");
            });
        });
        is_up.recv().expect("the API is up");
        Served {
            socket,
            stop: Some(stop),
            server: Some(server),
        }
    }

    /// Its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Begins a capture; `fields` are those of the route's query.
    pub fn tap(&self, fields: &[(&'static str, &str)]) -> Result<Tap, ClientError> {
        let fields: Vec<_> = fields.iter().map(|(n, v)| (*n, (*v).to_owned())).collect();
        let (begun, has_begun) = mpsc::channel();
        let (leave, left) = oneshot::channel::<()>();
        let (captured, whole) = mpsc::channel();
        let socket = self.socket.clone();
        let reader = thread::spawn(move || {
            runtime().block_on(async {
                let mut capturing = match api::capture(&socket, &fields).await {
                    Ok(capturing) => capturing,
                    Err(error) => return begun.send(Err(error)).expect("the test waits"),
                };
                let id = capturing.id().to_owned();
                begun.send(Ok(id)).expect("the test waits");
                let mut file = Vec::new();
                let all = async {
                    while let Some(piece) = capturing.next().await.expect("the capture goes on") {
                        file.extend_from_slice(&piece);
                    }
                };
                tokio::select! {
                    () = all => {
                        let _ = captured.send((file, capturing.summary()));
                    }
                    _ = left => {}
                }
            });
        });
        let id = has_begun.recv().expect("the reader answers")?;
        Ok(Tap {
            socket: self.socket.clone(),
            id,
            whole,
            leave,
            reader,
        })
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(server) = self.server.take() {
            let ended = server.join();
            assert!(ended.is_ok() || thread::panicking(), "the API's thread");
        }
    }
}

/// A capture under way.
pub struct Tap {
    socket: PathBuf,
    id: String,
    whole: Receiver<(Vec<u8>, Option<Summary>)>,
    leave: oneshot::Sender<()>,
    reader: JoinHandle<()>,
}

impl Tap {
    /// Ends it as Ctrl-C does.
    pub fn end(self) -> Captured {
        runtime()
            .block_on(api::stop_capture(&self.socket, &self.id))
            .expect("the capture is under way");
        self.wait()
    }

    /// Waits until it has ended by itself.
    pub fn wait(self) -> Captured {
        let patience = Duration::from_secs(10);
        let (file, summary) = self.whole.recv_timeout(patience).expect("the capture ends");
        self.reader.join().expect("the reader");
        Captured::read(&file, summary.expect("a summary in the trailers"))
    }

    /// Closes the connection, as a reader does who is killed.
    pub fn leave(self) {
        drop(self.leave);
        self.reader.join().expect("the reader");
    }
}

/// A packet of a capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Name of its interface.
    pub interface: String,
    /// Its time since 1970.
    pub time: Duration,
    /// What was kept of it.
    pub data: Vec<u8>,
    /// Its length.
    pub len: u32,
    /// Its comment.
    pub comment: String,
    /// `epb_flags`: 1 in, 2 out.
    pub flags: u32,
}

/// A capture, taken apart.
#[derive(Debug)]
pub struct Captured {
    /// The file.
    pub file: Vec<u8>,
    /// Its packets.
    pub packets: Vec<Packet>,
    /// Interfaces: name, bytes kept.
    pub interfaces: Vec<(String, u32)>,
    /// Statistics of each interface: packets received, packets dropped.
    pub statistics: Vec<(u64, u64)>,
    /// What the API said of it.
    pub summary: Summary,
}

impl Captured {
    fn read(file: &[u8], summary: Summary) -> Captured {
        let mut reader = PcapNgReader::new(Cursor::new(file)).expect("a pcapng file");
        let mut captured = Captured {
            file: file.to_vec(),
            packets: Vec::new(),
            interfaces: Vec::new(),
            statistics: Vec::new(),
            summary,
        };
        while let Some(block) = reader.next_block() {
            captured.block(block.expect("a block"));
        }
        captured
    }

    fn block(&mut self, block: Block<'_>) {
        match block {
            Block::InterfaceDescription(block) => {
                let mut name = None;
                let mut resolution = None;
                for option in block.options {
                    match option {
                        InterfaceDescriptionOption::IfName(text) => name = Some(text.into_owned()),
                        InterfaceDescriptionOption::IfTsResol(is) => resolution = Some(is),
                        _ => {}
                    }
                }
                assert_eq!(resolution, Some(9), "nanoseconds");
                let name = name.expect("if_name");
                self.interfaces.push((name, block.snaplen));
            }
            Block::EnhancedPacket(block) => {
                let mut comment = None;
                let mut flags = None;
                for option in block.options {
                    match option {
                        EnhancedPacketOption::Comment(text) => comment = Some(text),
                        EnhancedPacketOption::Flags(is) => flags = Some(is),
                        other => panic!("{other:?}"),
                    }
                }
                let (interface, snaplen) = &self.interfaces[block.interface_id as usize];
                assert!(block.data.len() <= *snaplen as usize);
                self.packets.push(Packet {
                    interface: interface.clone(),
                    time: block.timestamp,
                    data: block.data.into_owned(),
                    len: block.original_len,
                    comment: comment.map(Cow::into_owned).expect("opt_comment"),
                    flags: flags.expect("epb_flags"),
                });
            }
            Block::InterfaceStatistics(block) => {
                assert_eq!(block.interface_id as usize, self.statistics.len());
                let mut counts = (None, None);
                for option in block.options {
                    match option {
                        InterfaceStatisticsOption::IsbIfRecv(n) => counts.0 = Some(n),
                        InterfaceStatisticsOption::IsbIfDrop(n) => counts.1 = Some(n),
                        _ => {}
                    }
                }
                let counts = (counts.0.expect("ifrecv"), counts.1.expect("ifdrop"));
                self.statistics.push(counts);
            }
            other => panic!("{other:?}"),
        }
    }

    /// Bytes and comments, in an order that does not depend on time.
    pub fn sorted(&self) -> Vec<(Vec<u8>, String)> {
        let mut packets: Vec<_> = self
            .packets
            .iter()
            .map(|p| (p.data.clone(), p.comment.clone()))
            .collect();
        packets.sort();
        packets
    }
}
