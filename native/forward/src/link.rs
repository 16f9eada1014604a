//! The connection of one peer: addresses, handshake, keys, data channels, and whether anything is heard.
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use greenroom_secure::dtls::{Certificate, Connected, DimplDtls, Dtls, DtlsOutput, Role};
use greenroom_secure::mac::hmac_sha1;
use greenroom_secure::srtp::{SrtpError, SrtpRx, SrtpTx};
use greenroom_wire::stun::{self, Message};

use crate::arena::SendArena;
use crate::budget::{Limits, Meter};
use crate::data_lane::DataLane;
use crate::ice::{Credentials, IceLite, Learned};
use crate::{Channel, Counters, Event, Path, PeerId};

/// Silence after which a peer counts as disconnected, and after which as lost.
const DISCONNECTED_AFTER: Duration = Duration::from_secs(10);
const LOST_AFTER: Duration = Duration::from_secs(5);

/// What everything that is done writes to.
pub(crate) struct Output {
    pub(crate) arena: SendArena,
    pub(crate) events: VecDeque<Event>,
    pub(crate) counters: Counters,
}

/// Where the connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
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

/// What a call changed for the peer's media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Media can be sent, from now on or again.
    Ready,
    /// Nothing can be sent or would be heard.
    Gone,
}

/// See the module.
pub(crate) struct Link {
    id: PeerId,
    ice: IceLite,
    dtls: Option<DimplDtls>,
    dtls_at: Option<Instant>,
    /// We are the DTLS client.
    dtls_active: bool,
    fingerprint: Option<[u8; 32]>,
    /// Handshake done, fingerprint of the signalling still unknown.
    unverified: Option<Box<Connected>>,
    tx: Option<SrtpTx>,
    rx: Option<SrtpRx>,
    state: State,
    heard: Instant,
    data: Option<DataLane>,
    rtp_packets: Meter,
    rtp_bytes: Meter,
    rtcp_packets: Meter,
    dtls_packets: Meter,
    checks: Meter,
}

impl Link {
    pub(crate) fn new(id: PeerId, credentials: Credentials, now: Instant) -> Self {
        Link {
            id,
            ice: IceLite::new(credentials),
            dtls: None,
            dtls_at: None,
            dtls_active: false,
            fingerprint: None,
            unverified: None,
            tx: None,
            rx: None,
            state: State::New,
            heard: now,
            data: None,
            rtp_packets: Meter::new(now),
            rtp_bytes: Meter::new(now),
            rtcp_packets: Meter::new(now),
            dtls_packets: Meter::new(now),
            checks: Meter::new(now),
        }
    }

    // --- addresses ---

    /// New credentials; returns those that are not good any more.
    pub(crate) fn restart_ice(&mut self, credentials: Credentials) -> Option<Credentials> {
        self.ice.restart(credentials)
    }

    /// All user fragments that lead here.
    pub(crate) fn ufrags(&self) -> impl Iterator<Item = &str> {
        self.ice.ufrags()
    }

    /// All addresses of the peer.
    pub(crate) fn paths(&self) -> impl Iterator<Item = Path> {
        self.ice.paths()
    }

    /// Whether the connection is up and lives on this path.
    pub(crate) fn uses(&self, now: Instant, path: Path) -> bool {
        self.state == State::Up && self.ice.uses(now, path)
    }

    /// A connectivity check with one of our user fragments: answered when it has the password. `None`: it has not, or
    /// there were too many.
    pub(crate) fn handle_check(
        &mut self,
        now: Instant,
        path: Path,
        ufrag: &str,
        message: &Message<'_>,
        limits: &Limits,
        out: &mut Output,
    ) -> Option<Learned> {
        let password = self.ice.password(ufrag).filter(|password| !password.is_empty());
        let Some(password) = password.filter(|password| message.check_integrity(password.as_bytes(), hmac_sha1)) else {
            out.counters.dropped_stun_bad += 1;
            return None;
        };
        if !self.checks.take(now, limits.checks, 1) {
            out.counters.dropped_budget += 1;
            return None;
        }
        out.counters.stun_in += 1;
        let conflict = message.ice_controlled.is_some();
        let (key, id, buf) = (password.as_bytes(), message.transaction_id, out.arena.reserve(128));
        let written = if conflict {
            // We are lite and so always controlled (RFC 8445, 7.3.1.1).
            stun::write_binding_error(buf, id, 487, "Role Conflict", Some(key), hmac_sha1)
        } else {
            stun::write_binding_success(buf, id, path.remote, key, hmac_sha1)
        };
        match written {
            Ok(len) => out.arena.commit(path, len),
            Err(error) => log::warn!("STUN answer: {error}"),
        }
        (!conflict).then(|| self.ice.checked(now, path, ufrag, message.use_candidate))
    }

    // --- keys ---

    /// The certificate that the signalling named.
    pub(crate) fn set_fingerprint(&mut self, now: Instant, fingerprint: [u8; 32], out: &mut Output) -> Option<Change> {
        self.fingerprint = Some(fingerprint);
        self.verify(now, out)
    }

    /// The other side waits for our ClientHello.
    pub(crate) fn be_dtls_client(&mut self) {
        self.dtls_active = true;
    }

    /// Sends the ClientHello when that is ours to do, a path is known and no handshake has begun.
    pub(crate) fn start_dtls(&mut self, now: Instant, certificate: &Certificate, out: &mut Output) -> Option<Change> {
        let due = self.dtls_active && self.dtls.is_none() && self.state != State::Failed;
        if !due || self.ice.selected().is_none() {
            return None;
        }
        self.dtls = Some(DimplDtls::new(Role::Client, certificate, now));
        self.pump(now, None, out)
    }

    /// One DTLS datagram. The handshake may start before the signalling named the fingerprint; media may not.
    pub(crate) fn handle_dtls(
        &mut self,
        now: Instant,
        path: Path,
        data: &[u8],
        certificate: &Certificate,
        limits: &Limits,
        out: &mut Output,
    ) -> Option<Change> {
        if self.state == State::Failed {
            out.counters.dropped_early += 1;
            return None;
        }
        if !self.dtls_packets.take(now, limits.dtls_packets, 1) {
            out.counters.dropped_budget += 1;
            return None;
        }
        let dtls = self.dtls.get_or_insert_with(|| DimplDtls::new(Role::Server, certificate, now));
        dtls.handle_timeout(now);
        dtls.handle_packet(now, data);
        self.pump(now, Some(path), out)
    }

    /// Moves everything between DTLS, SCTP and the network. `reply`: the path of the datagram being answered.
    fn pump(&mut self, now: Instant, reply: Option<Path>, out: &mut Output) -> Option<Change> {
        let dtls = self.dtls.as_mut()?;
        // Before nomination the handshake goes back where it came from.
        let path = if self.tx.is_some() { self.ice.selected() } else { reply.or(self.ice.selected()) };
        let mut connected = None;
        let mut ended = None;
        loop {
            match dtls.poll(now) {
                DtlsOutput::Packet(datagram) => {
                    if let Some(path) = path {
                        out.arena.push(path, datagram);
                    }
                    continue;
                }
                DtlsOutput::Data(packet) => {
                    self.heard = now;
                    if let Some(data) = &mut self.data {
                        data.handle_packet(now, packet);
                    }
                    continue;
                }
                DtlsOutput::Connected(keys) => {
                    connected = Some(keys);
                    continue;
                }
                DtlsOutput::Closed => ended = Some(Ok(())),
                DtlsOutput::Failed(error) => ended = Some(Err(error)),
                DtlsOutput::Timeout(at) => self.dtls_at = at,
            }
            if ended.is_some() || !dtls.is_connected() {
                break;
            }
            let Some(data) = &mut self.data else { break };
            data.poll_events(now, self.id, &mut out.counters, &mut out.events);
            let mut moved = false;
            while let Some(packet) = data.poll_transmit(now) {
                moved = true;
                if let Err(error) = dtls.send(now, packet.as_ref()) {
                    log::debug!("data of peer {}: {error}", self.id.0);
                }
            }
            if !moved {
                break;
            }
        }
        let mut change = None;
        if let Some(keys) = connected {
            self.unverified = Some(keys);
            change = self.verify(now, out);
        }
        match ended {
            Some(Ok(())) => Some(self.close(now, out)),
            Some(Err(error)) => self.fail(error.to_string(), out),
            None => change,
        }
    }

    /// Compares the certificate with the signalling, and opens the gate when both are known and equal.
    fn verify(&mut self, now: Instant, out: &mut Output) -> Option<Change> {
        let expected = self.fingerprint?;
        let keys = self.unverified.take()?;
        if *keys.remote_fingerprint.as_bytes() != expected {
            return self.fail("the certificate is not the one of the signalling".to_owned(), out);
        }
        log::debug!("peer {} connected, {}", self.id.0, keys.local.profile());
        self.tx = Some(SrtpTx::new(&keys.local));
        self.rx = Some(SrtpRx::new(&keys.remote));
        self.state = State::Up;
        self.heard = now;
        out.events.push_back(Event::Connected(self.id));
        Some(Change::Ready)
    }

    fn fail(&mut self, reason: String, out: &mut Output) -> Option<Change> {
        if self.state == State::Failed {
            return None;
        }
        self.state = State::Failed;
        self.drop_keys();
        out.events.push_back(Event::Failed(self.id, reason));
        Some(Change::Gone)
    }

    /// The peer said goodbye: as if it had been silent for long.
    fn close(&mut self, now: Instant, out: &mut Output) -> Change {
        if self.state == State::Up {
            self.state = State::Down(now);
            out.events.push_back(Event::Disconnected(self.id));
        }
        self.drop_keys();
        Change::Gone
    }

    fn drop_keys(&mut self) {
        self.dtls_at = None;
        self.tx = None;
        self.rx = None;
        self.data = None;
    }

    /// Says goodbye.
    pub(crate) fn shut_down(&mut self, now: Instant, out: &mut Output) {
        if let Some(data) = &mut self.data {
            data.close();
        }
        self.pump(now, None, out);
        if let Some(dtls) = &mut self.dtls {
            dtls.close();
        }
        self.pump(now, None, out);
    }

    // --- packets ---

    /// Whether one more RTP packet is within the peer's budget.
    #[inline]
    pub(crate) fn may_send_rtp(&mut self, now: Instant, limits: &Limits, len: usize) -> bool {
        self.rtp_packets.take(now, limits.rtp_packets, 1) && self.rtp_bytes.take(now, limits.rtp_bytes, len as u64)
    }

    /// Whether one more RTCP packet is.
    pub(crate) fn may_send_rtcp(&mut self, now: Instant, limits: &Limits) -> bool {
        self.rtcp_packets.take(now, limits.rtcp_packets, 1)
    }

    /// What opens SRTP; `None` before the handshake ended.
    #[inline]
    pub(crate) fn opener(&mut self) -> Option<&mut SrtpRx> {
        self.rx.as_mut()
    }

    /// Opens one SRTCP packet; `None` before the handshake ended.
    pub(crate) fn open_rtcp(&mut self, data: &mut [u8]) -> Option<Result<usize, SrtpError>> {
        Some(self.rx.as_mut()?.open_rtcp(data))
    }

    /// What seals, and where it goes; `None` while there are no keys or no address.
    #[inline]
    pub(crate) fn sealer(&mut self) -> Option<(&mut SrtpTx, Path)> {
        Some((self.tx.as_mut()?, self.ice.selected()?))
    }

    /// Builds and seals one RTCP packet. `write` puts packets into the builder; nothing is sent when it puts none.
    pub(crate) fn send_rtcp(
        &mut self,
        arena: &mut SendArena,
        write: impl FnOnce(&mut greenroom_wire::rtcp::Builder<'_>) -> Result<(), greenroom_wire::WireError>,
    ) {
        const SPACE: usize = 1400;
        // Feedback that never fits would never be sent.
        const _: () = assert!(SPACE >= greenroom_congestion::TwccRecorder::MAX_FEEDBACK_LEN);
        let id = self.id;
        let Some((tx, path)) = self.sealer() else { return };
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
            Err(error) => log::warn!("RTCP to peer {}: {error}", id.0),
        }
    }

    // --- data ---

    /// Starts SCTP, if need be, and opens these channels.
    pub(crate) fn open_channels(
        &mut self,
        now: Instant,
        max_message_size: usize,
        channels: &[Channel],
        limits: &Limits,
        out: &mut Output,
    ) -> Option<Change> {
        self.data.get_or_insert_with(|| DataLane::new(now, max_message_size, limits)).open(channels);
        self.pump(now, None, out)
    }

    /// Sends one message, or drops and counts it where there are no channels.
    pub(crate) fn send_data(
        &mut self,
        now: Instant,
        label: &std::sync::Arc<str>,
        payload: &std::sync::Arc<[u8]>,
        out: &mut Output,
    ) -> Option<Change> {
        let Some(data) = &mut self.data else {
            out.counters.dropped_data += 1;
            return None;
        };
        data.send(label, payload, &mut out.counters);
        self.pump(now, None, out)
    }

    /// Tells of messages dropped since the last call.
    pub(crate) fn report_drops(&mut self, out: &mut Output) {
        if let Some(data) = &mut self.data {
            data.report_drops(self.id, &mut out.events);
        }
    }

    // --- time ---

    /// When [`Link::handle_timeout`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let data = self.data.as_ref().and_then(DataLane::poll_timeout);
        [self.dtls_at, data].into_iter().flatten().min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant, out: &mut Output) -> Option<Change> {
        let mut due = false;
        if self.dtls_at.is_some_and(|at| at <= now)
            && let Some(dtls) = &mut self.dtls
        {
            dtls.handle_timeout(now);
            due = true;
        }
        if let Some(data) = &mut self.data
            && data.poll_timeout().is_some_and(|at| at <= now)
        {
            data.handle_timeout(now);
            due = true;
        }
        if due { self.pump(now, None, out) } else { None }
    }

    /// An authenticated packet came on this path. Returns [`Change::Ready`] when the peer had been silent.
    #[inline]
    pub(crate) fn note_heard(&mut self, now: Instant, path: Path, out: &mut Output) -> Option<Change> {
        self.heard = now;
        self.ice.note_heard(now, path);
        if self.state == State::Up { None } else { self.come_back(out) }
    }

    /// Even after "lost" as long as the keys are there: a client may come back with an ICE restart.
    #[cold]
    fn come_back(&mut self, out: &mut Output) -> Option<Change> {
        if !matches!(self.state, State::Down(_) | State::Lost) || self.tx.is_none() {
            return None;
        }
        self.state = State::Up;
        out.events.push_back(Event::Reconnected(self.id));
        Some(Change::Ready)
    }

    /// Notices silence. `false`: there is nothing left to notice.
    pub(crate) fn watch(&mut self, now: Instant, out: &mut Output) -> (bool, Option<Change>) {
        match self.state {
            State::Up if now >= self.heard + DISCONNECTED_AFTER => {
                self.state = State::Down(now);
                out.events.push_back(Event::Disconnected(self.id));
                (true, Some(Change::Gone))
            }
            State::Down(since) if now >= since + LOST_AFTER => {
                self.state = State::Lost;
                out.events.push_back(Event::Lost(self.id));
                (false, None)
            }
            State::Failed | State::Lost => (false, None),
            _ => (true, None),
        }
    }
}
