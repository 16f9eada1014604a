//! One peer connection: its path, keys, streams and timers.
use std::time::{Duration, Instant};

use greenroom_congestion::TwccRecorder;
use greenroom_secure::dtls::{Connected, DimplDtls};
use greenroom_secure::srtp::{ReplayWindow, SrtpRx, SrtpTx};
use greenroom_wire::Ssrc;
use greenroom_wire::ext::ExtensionKind;

use crate::arena::SendArena;
use crate::data_lane::DataLane;
use crate::hash::Map;
use crate::ice::IceLite;
use crate::send_stream::Outgoing;
use crate::{PeerId, Receiver, RoomId};

/// What an incoming SSRC is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SourceKind {
    /// Media of a layer.
    Media(u32),
    /// Retransmissions of a layer.
    Rtx(u32),
}

/// One SSRC the peer sends with.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) kind: SourceKind,
    pub(crate) window: ReplayWindow,
}

/// A section on which the peer sends.
#[derive(Debug)]
pub(crate) struct Publication {
    pub(crate) spec: Receiver,
    pub(crate) track: u32,
    pub(crate) layers: Vec<u32>,
}

/// Where the connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// Not connected yet.
    New,
    /// Media flows.
    Up,
    /// Silent since.
    Down(Instant),
    /// Silent for too long, or closed.
    Lost,
    /// DTLS or the fingerprint failed.
    Failed,
}

/// What of our streams the peer asked for in an extended report.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReferenceTime {
    pub(crate) ssrc: Ssrc,
    pub(crate) middle: u32,
    pub(crate) at: Instant,
}

pub(crate) struct Peer {
    pub(crate) id: PeerId,
    pub(crate) room: RoomId,
    /// Tells a timer of this peer from one of the former user of its index.
    pub(crate) generation: u32,
    pub(crate) ice: IceLite,
    pub(crate) dtls: Option<DimplDtls>,
    pub(crate) dtls_at: Option<Instant>,
    /// We are the DTLS client.
    pub(crate) dtls_active: bool,
    pub(crate) fingerprint: Option<[u8; 32]>,
    /// Handshake done, fingerprint of the signalling still unknown.
    pub(crate) unverified: Option<Box<Connected>>,
    pub(crate) tx: Option<SrtpTx>,
    pub(crate) rx: Option<SrtpRx>,
    pub(crate) link: Link,
    pub(crate) heard: Instant,
    pub(crate) data: Option<DataLane>,
    pub(crate) publications: Vec<Publication>,
    /// By extension id: what it is.
    pub(crate) extensions: Box<[Option<ExtensionKind>; 256]>,
    pub(crate) sources: Map<u32, Source>,
    pub(crate) twcc: TwccRecorder,
    pub(crate) transport_cc: bool,
    /// SSRC to index of a send stream.
    pub(crate) senders: Map<u32, u32>,
    /// Next extended numbers (media, rtx) of SSRCs used before on these keys.
    pub(crate) retired: Map<u32, (u64, u64)>,
    /// SSRC of our feedback.
    pub(crate) ssrc: Ssrc,
    pub(crate) pending: Vec<Outgoing>,
    pub(crate) next_transport_cc: u16,
    pub(crate) rtt: Option<Duration>,
    pub(crate) remb: Option<u64>,
    pub(crate) reference: Option<ReferenceTime>,
    pub(crate) report_at: Option<Instant>,
    pub(crate) reports: u32,
    /// NACK, transport feedback or a delayed key-frame request is due.
    pub(crate) feedback_at: Option<Instant>,
    /// The earliest timer of this peer in the heap.
    pub(crate) armed: Option<Instant>,
}

impl Peer {
    pub(crate) fn new(id: PeerId, room: RoomId, generation: u32, ice: IceLite, ssrc: Ssrc, now: Instant) -> Self {
        Peer {
            id,
            room,
            generation,
            ice,
            dtls: None,
            dtls_at: None,
            dtls_active: false,
            fingerprint: None,
            unverified: None,
            tx: None,
            rx: None,
            link: Link::New,
            heard: now,
            data: None,
            publications: Vec::new(),
            extensions: Box::new([None; 256]),
            sources: Map::default(),
            twcc: TwccRecorder::new(ssrc),
            transport_cc: false,
            senders: Map::default(),
            retired: Map::default(),
            ssrc,
            pending: Vec::new(),
            next_transport_cc: 0,
            rtt: None,
            remb: None,
            reference: None,
            report_at: None,
            reports: 0,
            feedback_at: None,
            armed: None,
        }
    }

    /// When this peer wants to be called next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let data = self.data.as_ref().and_then(DataLane::poll_timeout);
        [self.dtls_at, data, self.report_at, self.feedback_at].into_iter().flatten().min()
    }

    /// Asks to be called for feedback at `at`, or earlier.
    pub(crate) fn feedback_by(&mut self, at: Instant) {
        self.feedback_at = Some(self.feedback_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Round trip for repetition intervals before anything was measured.
    pub(crate) fn rtt_or_default(&self) -> Duration {
        self.rtt.unwrap_or(Duration::from_millis(70))
    }

    /// Builds and seals one RTCP packet. `write` puts packets into the builder; nothing is sent when it puts none.
    pub(crate) fn send_rtcp(
        &mut self,
        arena: &mut SendArena,
        write: impl FnOnce(&mut greenroom_wire::rtcp::Builder<'_>) -> Result<(), greenroom_wire::WireError>,
    ) {
        const SPACE: usize = 1400;
        let (Some(tx), Some(path)) = (&mut self.tx, self.ice.selected()) else { return };
        let buf = arena.reserve(SPACE + greenroom_secure::srtp::MAX_OVERHEAD);
        let mut builder = greenroom_wire::rtcp::Builder::new(&mut buf[..SPACE]);
        let written = write(&mut builder);
        let len = builder.len();
        if let Err(error) = written {
            // What fitted before is whole packets; the rest comes with the next report.
            log::debug!("RTCP cut short: {error}");
        }
        if len == 0 {
            return;
        }
        match tx.seal_rtcp(buf, len) {
            Ok(len) => arena.commit(path, len),
            Err(error) => log::warn!("RTCP to peer {}: {error}", self.id.0),
        }
    }
}
