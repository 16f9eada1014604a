//! The data channels of one peer, by label.
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use greenroom_secure::dtls::Role;
use greenroom_secure::sctp::{
    Association, ChannelConfig, ChannelId, DataTransport, Reliability, SctpConfig, SctpError, SctpEvent,
};

use crate::budget::{Limits, Meter, Rate};
use crate::{Channel, Counters, Event, PeerId};

/// Messages held per label while its channel is not open.
const MAX_WAITING: usize = 256;
/// Bytes held per label while its reader is slow, and what a message costs besides: all receivers share its payload.
const MAX_WAITING_BYTES: usize = 4 << 20;
const MESSAGE_OVERHEAD: usize = 64;
/// What a channel has unacknowledged at the most. The implementation of SCTP goes through all of that several times for
/// each packet, so a reader that acknowledges nothing would make everybody else in the shard wait. For a channel that
/// may lose messages, new ones are late anyway beyond this.
const MAX_UNACKNOWLEDGED_BYTES: usize = 256 << 10;
const MAX_UNACKNOWLEDGED: usize = 512;
/// Pause of a peer that used up its budget of messages: a run of them is one wake-up.
const HOLD: Duration = Duration::from_millis(5);
/// Labels for which messages are held.
const MAX_LABELS: usize = 16;

struct OpenChannel {
    id: ChannelId,
    label: Arc<str>,
    lossy: bool,
    /// Sizes of messages that may be unacknowledged, in the order of sending, and their sum.
    sent: VecDeque<u32>,
    sent_bytes: usize,
}

impl OpenChannel {
    /// How many messages are unacknowledged when so many bytes are.
    fn unacknowledged(&mut self, bytes: usize) -> usize {
        while let Some(&oldest) = self.sent.front()
            && self.sent_bytes - oldest as usize >= bytes
        {
            self.sent.pop_front();
            self.sent_bytes -= oldest as usize;
        }
        self.sent.len()
    }

    fn note_sent(&mut self, len: usize) {
        // An empty message travels as one byte.
        let len = len.max(1);
        self.sent.push_back(len as u32);
        self.sent_bytes += len;
    }
}

struct Waiting {
    label: Arc<str>,
    messages: VecDeque<Arc<[u8]>>,
    bytes: usize,
    dropped: u64,
}

pub(crate) struct DataLane {
    sctp: Association,
    requested: Vec<Channel>,
    /// In the order of opening.
    channels: Vec<OpenChannel>,
    waiting: Vec<Waiting>,
    message_rate: Rate,
    byte_rate: Rate,
    messages: Meter,
    bytes: Meter,
    /// Nothing is taken from the association before this: its window fills, and the sender waits.
    held_until: Option<Instant>,
}

impl DataLane {
    pub(crate) fn new(now: Instant, max_message_size: usize, limits: &Limits) -> Self {
        let mut config = SctpConfig::new(Role::Server);
        if max_message_size > 0 {
            config.max_send_message = max_message_size;
        }
        DataLane {
            sctp: Association::new(config, now),
            requested: Vec::new(),
            channels: Vec::new(),
            waiting: Vec::new(),
            message_rate: limits.messages,
            byte_rate: limits.message_bytes,
            messages: Meter::new(now),
            bytes: Meter::new(now),
            held_until: None,
        }
    }

    /// Opens what is not open yet.
    pub(crate) fn open(&mut self, channels: &[Channel]) {
        for channel in channels {
            if self.requested.contains(channel) {
                continue;
            }
            let config = ChannelConfig {
                label: channel.label.clone(),
                protocol: String::new(),
                ordered: channel.ordered,
                reliability: channel
                    .max_retransmits
                    .map_or(Reliability::Reliable, |n| Reliability::MaxRetransmits(n.into())),
            };
            match self.sctp.open(config) {
                Ok(_) => self.requested.push(channel.clone()),
                Err(error) => log::warn!("data channel {:?} not opened: {error}", channel.label),
            }
        }
    }

    /// Queues one message.
    pub(crate) fn send(&mut self, label: &Arc<str>, payload: &Arc<[u8]>, counters: &mut Counters) {
        let queued = self.waiting.iter().any(|w| w.label == *label && !w.messages.is_empty());
        if queued || !self.send_now(label, payload, counters) {
            self.hold(label, payload, counters);
        }
    }

    /// `false`: it should wait.
    fn send_now(&mut self, label: &Arc<str>, payload: &[u8], counters: &mut Counters) -> bool {
        let Some(channel) = self.channels.iter_mut().rev().find(|c| c.label == *label) else { return false };
        let (id, lossy) = (channel.id, channel.lossy);
        let bytes = self.sctp.buffered_amount(id);
        let full = channel.unacknowledged(bytes) >= MAX_UNACKNOWLEDGED
            || bytes > 0 && bytes + payload.len() > MAX_UNACKNOWLEDGED_BYTES;
        if full {
            if lossy {
                self.drop_one(label, counters);
            }
            return lossy;
        }
        match self.sctp.send(id, true, payload) {
            Ok(()) => {
                channel.note_sent(payload.len());
                counters.messages_out += 1;
            }
            Err(SctpError::BufferFull) if !lossy => return false,
            Err(_) => self.drop_one(label, counters),
        }
        true
    }

    fn hold(&mut self, label: &Arc<str>, payload: &Arc<[u8]>, counters: &mut Counters) {
        let is_open = self.channels.iter().any(|c| c.label == *label);
        let Some(waiting) = self.waiting_for(label) else {
            counters.dropped_data += 1;
            return;
        };
        let bytes = waiting.bytes + payload.len() + MESSAGE_OVERHEAD;
        if bytes > MAX_WAITING_BYTES || !is_open && waiting.messages.len() >= MAX_WAITING {
            waiting.dropped += 1;
            counters.dropped_data += 1;
        } else {
            waiting.bytes = bytes;
            waiting.messages.push_back(payload.clone());
        }
    }

    fn drop_one(&mut self, label: &Arc<str>, counters: &mut Counters) {
        counters.dropped_data += 1;
        if let Some(waiting) = self.waiting_for(label) {
            waiting.dropped += 1;
        }
    }

    fn waiting_for(&mut self, label: &Arc<str>) -> Option<&mut Waiting> {
        if let Some(index) = self.waiting.iter().position(|w| w.label == *label) {
            return Some(&mut self.waiting[index]);
        }
        if self.waiting.len() >= MAX_LABELS {
            return None;
        }
        self.waiting.push(Waiting { label: label.clone(), messages: VecDeque::new(), bytes: 0, dropped: 0 });
        self.waiting.last_mut()
    }

    /// Sends what waited, as far as readers have acknowledged what came before.
    fn release(&mut self, counters: &mut Counters) {
        for index in 0..self.waiting.len() {
            let label = self.waiting[index].label.clone();
            while let Some(payload) = self.waiting[index].messages.front().cloned() {
                if !self.send_now(&label, &payload, counters) {
                    break;
                }
                let waiting = &mut self.waiting[index];
                waiting.messages.pop_front();
                waiting.bytes -= payload.len() + MESSAGE_OVERHEAD;
            }
        }
    }

    /// One SCTP packet from the peer.
    pub(crate) fn handle_packet(&mut self, now: Instant, packet: &[u8]) {
        self.sctp.handle_packet(now, packet);
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.held_until = self.held_until.filter(|at| now < *at);
        self.sctp.handle_timeout(now);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.sctp.poll_timeout().into_iter().chain(self.held_until).min()
    }

    /// An event of the peer was taken; sets when to look again where that was beyond its budget.
    fn charge(&mut self, now: Instant, bytes: usize) {
        let messages = self.messages.take_anyway(now, self.message_rate, 1);
        let bytes = self.bytes.take_anyway(now, self.byte_rate, bytes as u64);
        self.held_until = messages.max(bytes).map(|at| at.max(now + HOLD));
    }

    /// The next packet to the peer.
    pub(crate) fn poll_transmit(&mut self, now: Instant) -> Option<impl AsRef<[u8]> + use<>> {
        self.sctp.poll_transmit(now)
    }

    /// Takes what happened since, as far as the peer's budget goes.
    pub(crate) fn poll_events(
        &mut self,
        now: Instant,
        peer: PeerId,
        counters: &mut Counters,
        events: &mut VecDeque<Event>,
    ) {
        while self.held_until.is_none()
            && let Some(event) = self.sctp.poll_event()
        {
            let size = if let SctpEvent::Message { data, .. } = &event { data.len() } else { 0 };
            self.charge(now, size);
            match event {
                SctpEvent::ChannelOpen { id, config, .. } => {
                    let label: Arc<str> = config.label.as_str().into();
                    let lossy = config.reliability != Reliability::Reliable;
                    self.channels.retain(|c| c.id != id);
                    self.channels.push(OpenChannel {
                        id,
                        label: label.clone(),
                        lossy,
                        sent: VecDeque::new(),
                        sent_bytes: 0,
                    });
                    events.push_back(Event::ChannelOpen { peer, label });
                }
                SctpEvent::Message { id, binary, data } => {
                    if let Some(channel) = self.channels.iter().find(|c| c.id == id) {
                        counters.messages_in += 1;
                        let label = channel.label.clone();
                        events.push_back(Event::Data { peer, label, payload: data.to_vec(), binary });
                    }
                }
                SctpEvent::ChannelClosed { id } => self.channels.retain(|c| c.id != id),
                SctpEvent::Closed { reason } => {
                    log::debug!("data channels of peer {} ended: {reason}", peer.0);
                    self.channels.clear();
                }
                SctpEvent::Connected | SctpEvent::BufferedLow { .. } => {}
            }
        }
        self.release(counters);
    }

    /// Reports messages dropped since the last call.
    pub(crate) fn report_drops(&mut self, peer: PeerId, events: &mut VecDeque<Event>) {
        for waiting in self.waiting.iter_mut().filter(|w| w.dropped > 0) {
            let count = std::mem::take(&mut waiting.dropped);
            events.push_back(Event::Dropped { peer, label: waiting.label.clone(), count });
        }
    }

    pub(crate) fn close(&mut self) {
        self.sctp.close();
    }
}
