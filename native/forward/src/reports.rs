//! What goes out by the clock: feedback to publishers, reports to everybody, key-frame reminders, silence detection.
use std::time::{Duration, Instant};

use greenroom_congestion::{SPEAKER_INTERVAL, TwccRecorder};
use greenroom_wire::Ssrc;
use greenroom_wire::rtcp::{DlrrEntry, ReportBlock, SenderInfo};

use crate::peer::{Peer, ReferenceTime};
use crate::shard::Shard;
use crate::slab::Key;
use crate::timers::Owner;
use crate::transport::REPORT_INTERVAL;
use crate::{Event, Kind, PeerStats, RoomId, StreamStats};

/// Sender reports go out every so many reports.
const SENDER_REPORT_EVERY: u32 = 3;
/// Report blocks in one packet (RFC 3550: a five-bit count).
const MAX_BLOCKS: usize = 31;
/// Sender reports with their SDES that fit one datagram.
const SENDER_REPORTS: usize = 12;
/// Time from one round of feedback to the next at the least.
const MIN_FEEDBACK_PAUSE: Duration = Duration::from_millis(1);

impl Shard {
    /// A deadline of this peer passed.
    pub(crate) fn handle_peer_timeout(&mut self, now: Instant, key: Key) {
        let change = self.peers[key].link.handle_timeout(now, &mut self.out);
        self.link_changed(now, key, change);
        let due = |at: &mut Option<Instant>| at.take_if(|at| *at <= now).is_some();
        let schedule = &mut self.peers[key].schedule;
        let (feedback, layers, report) =
            (due(&mut schedule.feedback), due(&mut schedule.layers), due(&mut schedule.report));
        if feedback {
            self.send_feedback(now, key);
        }
        if layers {
            self.refresh_layers(now, key);
        }
        if report {
            self.report(now, key);
        }
    }

    /// NACK, transport-wide feedback and delayed key-frame requests of a publisher.
    fn send_feedback(&mut self, now: Instant, key: Key) {
        let Shard { peers, media, out, .. } = self;
        let peer = &mut peers[key];
        let (sender, rtt) = (peer.ssrc, peer.rtt_or_default());
        let mut next = send_twcc(now, peer, &mut out.arena, &mut out.counters.twcc_out);
        for layer_key in peer.receiving.layers() {
            let layer = &mut media.layers[layer_key];
            let request = layer.throttle.poll_request(now);
            next = next.into_iter().chain(layer.throttle.poll_timeout()).min();
            let is_video = layer.kind == Kind::Video;
            let Some(inbound) = layer.inbound else { continue };
            let inbound = &mut media.inbounds[inbound];
            if let Some(list) = inbound.poll_nacks(now, rtt) {
                let media_ssrc = Ssrc(inbound.ssrc());
                out.counters.nacks_out += list.len() as u64;
                peer.link.send_rtcp(&mut out.arena, |builder| {
                    builder.nack(sender, media_ssrc, list.iter().copied()).map(|_| ())
                });
            }
            next = next.into_iter().chain(inbound.nack_timeout()).min();
            if is_video && inbound.poll_unrepaired() {
                self.unrepaired.push(layer_key);
            }
            if request {
                self.requests.push(layer_key);
            }
        }
        if let Some(at) = next {
            peer.schedule.feedback_by(at.max(now + MIN_FEEDBACK_PAUSE));
        }
        while let Some(layer) = self.requests.pop() {
            self.send_pli(layer);
        }
        while let Some(layer) = self.unrepaired.pop() {
            self.mend(now, layer);
        }
    }

    /// Once a second: reports, reminders, snapshots.
    fn report(&mut self, now: Instant, key: Key) {
        let peer = &mut self.peers[key];
        peer.reports = peer.reports.wrapping_add(1);
        let with_sender_reports = peer.reports.is_multiple_of(SENDER_REPORT_EVERY);
        let (goes_on, change) = peer.link.watch(now, &mut self.out);
        self.link_changed(now, key, change);
        if !goes_on {
            return;
        }
        let peer = &mut self.peers[key];
        peer.schedule.report = Some(now + REPORT_INTERVAL);
        peer.link.report_drops(&mut self.out);
        self.remind_publisher(now, key);
        self.send_receiver_reports(now, key);
        if with_sender_reports {
            self.send_sender_reports(now, key);
        }
        self.snapshot(key);
    }

    /// Which layers of a publisher should send a key frame: a request may have been lost.
    fn remind_publisher(&mut self, now: Instant, key: Key) {
        for position in 0..self.peers[key].receiving.publications().len() {
            let publication = &self.peers[key].receiving.publications()[position];
            if publication.spec.kind == Kind::Video {
                self.retarget(now, publication.track);
            }
        }
    }

    fn send_receiver_reports(&mut self, now: Instant, key: Key) {
        let Shard { peers, media, out, .. } = self;
        let Peer { ssrc, link, receiving, reference, .. } = &mut peers[key];
        let sender = *ssrc;
        let mut blocks = [ReportBlock::default(); MAX_BLOCKS];
        let mut count = 0;
        let mut flush = |reference: Option<ReferenceTime>, blocks: &[ReportBlock]| {
            link.send_rtcp(&mut out.arena, |builder| {
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
        for inbound in receiving.layers().filter_map(|layer| media.layers[layer].inbound) {
            let Some(block) = media.inbounds[inbound].report(now) else { continue };
            blocks[count] = block;
            count += 1;
            if count == blocks.len() {
                flush(reference.take(), &blocks);
                count = 0;
            }
        }
        if count > 0 || reference.is_some() {
            flush(reference.take(), &blocks[..count]);
        }
    }

    /// Reports of the streams sent to this peer, on the publisher's clock: what belongs together plays together.
    fn send_sender_reports(&mut self, now: Instant, key: Key) {
        let Shard { peers, media, out, .. } = self;
        let peer = &mut peers[key];
        let streams: Vec<Key> = peer.sending.streams().collect();
        let mut reports: Vec<(Key, SenderInfo)> = Vec::with_capacity(streams.len());
        for stream_key in streams {
            let stream = &mut media.outbounds[stream_key];
            let Some(inbound) = stream.following().and_then(|inbound| media.inbounds.get(inbound)) else { continue };
            let clock_rate = media.layers[inbound.layer()].clock_rate();
            let Some((ntp, timestamp)) = inbound.clock_at(now, clock_rate) else { continue };
            reports.extend(stream.sender_report(now, ntp, timestamp).map(|info| (stream_key, info)));
        }
        for batch in reports.chunks(SENDER_REPORTS) {
            peer.link.send_rtcp(&mut out.arena, |builder| {
                for (stream, info) in batch {
                    builder.sender_report(info, &[])?;
                    builder.sdes_cname(info.ssrc, media.outbounds[*stream].cname())?;
                }
                Ok(())
            });
        }
    }

    /// An interval of the room's speakers ended.
    pub(crate) fn handle_room_timeout(&mut self, now: Instant, id: RoomId) {
        let Some(room) = self.media.rooms.get_mut(&id) else { return };
        if room.audio.is_empty() {
            room.armed = false;
            return;
        }
        if let Some(event) = room.poll_speakers(id, &mut self.media.tracks) {
            self.out.events.push_back(event);
        }
        self.timers.push(now + SPEAKER_INTERVAL, Owner::Room(id));
    }

    fn snapshot(&mut self, key: Key) {
        let media = &self.media;
        let peer = &self.peers[key];
        let mut stats = PeerStats { rtt_ms: peer.rtt().map(|rtt| rtt.as_secs_f64() * 1000.0), streams: Vec::new() };
        for layer in peer.receiving.layers().map(|layer| &media.layers[layer]) {
            if let Some(inbound) = layer.inbound.map(|inbound| &media.inbounds[inbound]) {
                stats.streams.push(StreamStats {
                    track: media.tracks[layer.track].id.0,
                    inbound: true,
                    layer: layer.spatial,
                    ssrc: inbound.ssrc(),
                    packets: inbound.stats().packets(),
                    bytes: inbound.stats().bytes(),
                    lost: inbound.stats().lost(),
                    jitter_ms: f64::from(inbound.stats().jitter()) * 1000.0 / f64::from(layer.clock_rate()),
                    fraction_lost: inbound.fraction_lost(),
                });
            }
        }
        for stream in peer.sending.streams().map(|stream| &media.outbounds[stream]) {
            let followed = stream.source().and_then(|inbound| media.inbounds.get(inbound));
            let layer = followed.map(|inbound| &media.layers[inbound.layer()]);
            let clock_rate = layer.map_or(90_000.0, |layer| f64::from(layer.clock_rate()));
            let (packets, bytes) = stream.totals();
            stats.streams.push(StreamStats {
                track: media.tracks[stream.track()].id.0,
                inbound: false,
                layer: layer.map_or(0, |layer| layer.spatial),
                ssrc: stream.ssrc(),
                packets,
                bytes,
                lost: i64::from(stream.reported().cumulative_lost),
                jitter_ms: f64::from(stream.reported().jitter) * 1000.0 / clock_rate,
                fraction_lost: f64::from(stream.reported().fraction_lost) / 256.0,
            });
        }
        self.out.events.push_back(Event::Stats(peer.id, Box::new(stats)));
    }
}

/// Transport-wide feedback that is due. Returns when there will be more.
fn send_twcc(now: Instant, peer: &mut Peer, arena: &mut crate::SendArena, sent: &mut u64) -> Option<Instant> {
    // Without keys nobody would get it, and it would stay due.
    peer.link.sealer()?;
    // Out of the peer while its connection writes.
    let mut twcc = std::mem::replace(peer.receiving.twcc(), TwccRecorder::new(peer.ssrc));
    let mut more = true;
    while more {
        more = false;
        peer.link.send_rtcp(arena, |builder| {
            more = twcc.poll_feedback(now, builder)?;
            *sent += u64::from(more);
            Ok(())
        });
    }
    let next = twcc.poll_timeout();
    *peer.receiving.twcc() = twcc;
    next
}
