//! What goes out by the clock: feedback to publishers, reports to everybody, key-frame reminders, silence detection.
use std::time::{Duration, Instant};

use greenroom_congestion::{SPEAKER_INTERVAL, TwccRecorder};
use greenroom_secure::dtls::Dtls;
use greenroom_wire::Ssrc;
use greenroom_wire::rtcp::{DlrrEntry, NtpTime, ReportBlock, SenderInfo};

use crate::peer::Link;
use crate::shard::Shard;
use crate::timers::Owner;
use crate::transport::REPORT_INTERVAL;
use crate::{Event, Kind, PeerStats, RoomId, StreamStats};

/// Silence after which a peer counts as disconnected, and after which as lost.
const DISCONNECTED_AFTER: Duration = Duration::from_secs(10);
const LOST_AFTER: Duration = Duration::from_secs(5);
/// Sender reports go out every so many reports.
const SENDER_REPORT_EVERY: u32 = 3;
/// Report blocks in one packet (RFC 3550: a five-bit count).
const MAX_BLOCKS: usize = 31;
/// Sender reports with their SDES that fit one datagram.
const SENDER_REPORTS: usize = 12;

impl Shard {
    /// A deadline of this peer passed.
    pub(crate) fn handle_peer_timeout(&mut self, now: Instant, index: u32) {
        let peer = &mut self.peers[index];
        let mut secure = false;
        if peer.dtls_at.is_some_and(|at| at <= now)
            && let Some(dtls) = &mut peer.dtls
        {
            dtls.handle_timeout(now);
            secure = true;
        }
        if let Some(data) = &mut peer.data
            && data.poll_timeout().is_some_and(|at| at <= now)
        {
            data.handle_timeout(now);
            secure = true;
        }
        if secure {
            self.pump(now, index, None);
        }
        let peer = &mut self.peers[index];
        if peer.feedback_at.is_some_and(|at| at <= now) {
            peer.feedback_at = None;
            self.send_feedback(now, index);
        }
        let peer = &mut self.peers[index];
        if peer.report_at.is_some_and(|at| at <= now) {
            peer.report_at = Some(now + REPORT_INTERVAL);
            self.report(now, index);
        }
    }

    /// NACK, transport-wide feedback and delayed key-frame requests of a publisher.
    fn send_feedback(&mut self, now: Instant, index: u32) {
        let Shard { peers, layers, arena, counters, .. } = self;
        let peer = &mut peers[index];
        let (sender, rtt) = (peer.ssrc, peer.rtt_or_default());
        let mut twcc = std::mem::replace(&mut peer.twcc, TwccRecorder::new(sender));
        let mut more = true;
        while more {
            more = false;
            peer.send_rtcp(arena, |builder| {
                more = twcc.poll_feedback(now, builder)?;
                counters.twcc_out += u64::from(more);
                Ok(())
            });
        }
        let mut next = twcc.poll_timeout();
        peer.twcc = twcc;
        let mut late_requests = [0u32; 8];
        let mut late = 0;
        for position in 0..peer.publications.len() {
            for slot in 0..peer.publications[position].layers.len() {
                let layer_index = peer.publications[position].layers[slot];
                let layer = &mut layers[layer_index];
                if layer.throttle.poll_request(now) && late < late_requests.len() {
                    late_requests[late] = layer_index;
                    late += 1;
                }
                next = next.into_iter().chain(layer.throttle.poll_timeout()).min();
                let media = Ssrc(layer.ssrc);
                let Some(nack) = layer.nack.as_mut().filter(|nack| nack.tracked() > 0) else { continue };
                if let Some(list) = nack.poll_nacks(now, rtt) {
                    counters.nacks_out += list.len() as u64;
                    peer.send_rtcp(arena, |builder| builder.nack(sender, media, list.iter().copied()).map(|_| ()));
                }
                next = next.into_iter().chain(nack.poll_timeout()).min();
            }
        }
        if let Some(at) = next {
            peer.feedback_by(at.max(now + Duration::from_millis(1)));
        }
        for layer in &late_requests[..late] {
            self.send_pli(*layer);
        }
    }

    /// Once a second: reports, reminders, snapshots.
    fn report(&mut self, now: Instant, index: u32) {
        let peer = &mut self.peers[index];
        peer.reports = peer.reports.wrapping_add(1);
        let silent = now.saturating_duration_since(peer.heard);
        match peer.link {
            Link::Up if silent >= DISCONNECTED_AFTER => {
                peer.link = Link::Down(now);
                self.events.push_back(Event::Disconnected(peer.id));
            }
            Link::Down(since) if now.saturating_duration_since(since) >= LOST_AFTER => {
                peer.link = Link::Lost;
                peer.report_at = None;
                self.events.push_back(Event::Lost(peer.id));
                return;
            }
            Link::Failed | Link::Lost => {
                peer.report_at = None;
                return;
            }
            _ => {}
        }
        let with_sender_reports = peer.reports.is_multiple_of(SENDER_REPORT_EVERY);
        if let Some(data) = &mut peer.data {
            data.report_drops(peer.id, &mut self.events);
        }
        self.remind_publisher(now, index);
        self.send_receiver_reports(now, index);
        if with_sender_reports {
            self.send_sender_reports(now, index);
        }
        self.snapshot(index);
    }

    /// Looks after the layers of a publisher: which are live, and which should send a key frame.
    fn remind_publisher(&mut self, now: Instant, index: u32) {
        for position in 0..self.peers[index].publications.len() {
            let publication = &self.peers[index].publications[position];
            if publication.spec.kind == Kind::Video {
                let track = publication.track;
                self.tracks[track].refresh_live(now, &self.layers);
                self.retarget(now, track);
            }
        }
    }

    fn send_receiver_reports(&mut self, now: Instant, index: u32) {
        let Shard { peers, layers, arena, .. } = self;
        let peer = &mut peers[index];
        let mut blocks = [ReportBlock::default(); MAX_BLOCKS];
        let mut count = 0;
        let sender = peer.ssrc;
        let mut flush = |peer: &mut crate::peer::Peer, blocks: &[ReportBlock]| {
            let reference = peer.reference.take();
            peer.send_rtcp(arena, |builder| {
                builder.receiver_report(sender, blocks)?;
                if let Some(reference) = reference {
                    let delay = now.saturating_duration_since(reference.at);
                    let entry = DlrrEntry {
                        ssrc: reference.ssrc,
                        last_rr: reference.middle,
                        delay_since_last_rr: (delay.as_micros() as u64 * 65_536 / 1_000_000) as u32,
                    };
                    builder.xr_dlrr(sender, &[entry])?;
                }
                Ok(())
            });
        };
        for position in 0..peer.publications.len() {
            for slot in 0..peer.publications[position].layers.len() {
                let layer = &mut layers[peer.publications[position].layers[slot]];
                if layer.ssrc == 0 {
                    continue;
                }
                let Some(block) = layer.stats.report(now) else { continue };
                layer.fraction_lost = block.fraction_lost;
                blocks[count] = block;
                count += 1;
                if count == MAX_BLOCKS {
                    flush(peer, &blocks);
                    count = 0;
                }
            }
        }
        if count > 0 || peer.reference.is_some() {
            flush(peer, &blocks[..count]);
        }
    }

    /// Reports of the streams sent to this peer, on the publisher's clock: what belongs together plays together.
    fn send_sender_reports(&mut self, now: Instant, index: u32) {
        let mut batch: [(u32, SenderInfo); SENDER_REPORTS] = [(0, SenderInfo::default()); SENDER_REPORTS];
        let mut count = 0;
        let streams: Vec<u32> = self.peers[index].senders.values().copied().collect();
        for stream_index in streams {
            let stream = &mut self.streams[stream_index];
            let Some(layer) = stream.source.filter(|_| stream.started).and_then(|l| self.layers.get(l)) else {
                continue;
            };
            let clock_rate = layer.formats.first().map_or(90_000, |format| format.clock_rate);
            let Some((ntp, timestamp)) = layer.clock_at(now, clock_rate) else { continue };
            if stream.packets == 0 {
                continue;
            }
            stream.detail.last_report = Some((ntp.middle(), now));
            batch[count] = (
                stream_index,
                sender_info(stream.ssrc, ntp, stream.translate(timestamp), stream.packets, stream.octets),
            );
            count += 1;
            if count == batch.len() {
                self.send_sender_batch(index, &batch);
                count = 0;
            }
        }
        if count > 0 {
            self.send_sender_batch(index, &batch[..count]);
        }
    }

    fn send_sender_batch(&mut self, index: u32, batch: &[(u32, SenderInfo)]) {
        let Shard { peers, streams, arena, .. } = self;
        peers[index].send_rtcp(arena, |builder| {
            for (stream, info) in batch {
                builder.sender_report(info, &[])?;
                builder.sdes_cname(info.ssrc, &streams[*stream].detail.spec.cname)?;
            }
            Ok(())
        });
    }

    /// An interval of the room's speakers ended.
    pub(crate) fn handle_room_timeout(&mut self, now: Instant, id: RoomId) {
        let Some(room) = self.rooms.get_mut(&id) else { return };
        if room.audio.is_empty() {
            room.armed = false;
            return;
        }
        if let Some(event) = room.poll_speakers(id, &mut self.tracks) {
            self.events.push_back(event);
        }
        self.timers.push(now + SPEAKER_INTERVAL, Owner::Room(id));
    }

    fn snapshot(&mut self, index: u32) {
        let peer = &self.peers[index];
        let mut stats = PeerStats { rtt_ms: peer.rtt.map(|rtt| rtt.as_secs_f64() * 1000.0), streams: Vec::new() };
        let rate =
            |layer: &crate::layer::Layer| f64::from(layer.formats.first().map_or(90_000, |f| f.clock_rate).max(1));
        for publication in &peer.publications {
            for layer in publication.layers.iter().map(|l| &self.layers[*l]).filter(|layer| layer.ssrc != 0) {
                stats.streams.push(StreamStats {
                    track: publication.spec.track.0,
                    inbound: true,
                    layer: layer.spatial,
                    ssrc: layer.ssrc,
                    packets: layer.stats.packets(),
                    bytes: layer.stats.bytes(),
                    lost: layer.stats.lost(),
                    jitter_ms: f64::from(layer.stats.jitter()) * 1000.0 / rate(layer),
                    fraction_lost: f64::from(layer.fraction_lost) / 256.0,
                });
            }
        }
        for stream in peer.senders.values().map(|s| &self.streams[*s]) {
            let layer = stream.source.and_then(|l| self.layers.get(l));
            stats.streams.push(StreamStats {
                track: self.tracks[stream.track].id.0,
                inbound: false,
                layer: layer.map_or(0, |l| l.spatial),
                ssrc: stream.ssrc,
                packets: stream.packets,
                bytes: stream.octets,
                lost: i64::from(stream.detail.reported.cumulative_lost),
                jitter_ms: f64::from(stream.detail.reported.jitter) * 1000.0 / layer.map_or(90_000.0, rate),
                fraction_lost: f64::from(stream.detail.reported.fraction_lost) / 256.0,
            });
        }
        self.events.push_back(Event::Stats(peer.id, Box::new(stats)));
    }
}

fn sender_info(ssrc: u32, ntp: NtpTime, rtp_timestamp: u32, packets: u64, octets: u64) -> SenderInfo {
    SenderInfo { ssrc: Ssrc(ssrc), ntp, rtp_timestamp, packets: packets as u32, octets: octets as u32 }
}
