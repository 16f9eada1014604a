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

/// Messages held per label while its channel is not open, or its buffer is full.
const MAX_WAITING: usize = 256;
/// What a channel that may lose messages holds unacknowledged: beyond this, new ones are late anyway.
const LOSSY_BUFFER: usize = 256 << 10;
/// Pause of a peer that used up its budget of messages: a run of them is one wake-up.
const HOLD: Duration = Duration::from_millis(5);
/// Labels for which messages are held.
const MAX_LABELS: usize = 16;

struct OpenChannel {
    id: ChannelId,
    label: Arc<str>,
    lossy: bool,
}

struct Waiting {
    label: Arc<str>,
    messages: VecDeque<Arc<[u8]>>,
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
        let Some(channel) = self.channels.iter().rev().find(|c| c.label == *label) else { return false };
        let (id, lossy) = (channel.id, channel.lossy);
        if lossy && self.sctp.buffered_amount(id) > LOSSY_BUFFER {
            self.drop_one(label, counters);
            return true;
        }
        match self.sctp.send(id, true, payload) {
            Ok(()) => counters.messages_out += 1,
            Err(SctpError::BufferFull) if !lossy => return false,
            Err(_) => self.drop_one(label, counters),
        }
        true
    }

    fn hold(&mut self, label: &Arc<str>, payload: &Arc<[u8]>, counters: &mut Counters) {
        let Some(waiting) = self.waiting_for(label) else {
            counters.dropped_data += 1;
            return;
        };
        if waiting.messages.len() >= MAX_WAITING {
            waiting.dropped += 1;
            counters.dropped_data += 1;
        } else {
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
        self.waiting.push(Waiting { label: label.clone(), messages: VecDeque::new(), dropped: 0 });
        self.waiting.last_mut()
    }

    /// Sends what waited for this label.
    fn release(&mut self, label: &Arc<str>, counters: &mut Counters) {
        let Some(index) = self.waiting.iter().position(|w| w.label == *label) else { return };
        let mut messages = std::mem::take(&mut self.waiting[index].messages);
        while let Some(payload) = messages.pop_front() {
            if !self.send_now(label, &payload, counters) {
                messages.push_front(payload);
                break;
            }
        }
        self.waiting[index].messages = messages;
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
                    // Fails for an unknown channel only, and this one is open.
                    let _ = self.sctp.set_buffered_low_threshold(id, 64 << 10);
                    self.channels.retain(|c| c.id != id);
                    self.channels.push(OpenChannel { id, label: label.clone(), lossy });
                    events.push_back(Event::ChannelOpen { peer, label: label.clone() });
                    self.release(&label, counters);
                }
                SctpEvent::Message { id, binary, data } => {
                    if let Some(channel) = self.channels.iter().find(|c| c.id == id) {
                        counters.messages_in += 1;
                        let label = channel.label.clone();
                        events.push_back(Event::Data { peer, label, payload: data.to_vec(), binary });
                    }
                }
                SctpEvent::BufferedLow { id } => {
                    if let Some(label) = self.channels.iter().find(|c| c.id == id).map(|c| c.label.clone()) {
                        self.release(&label, counters);
                    }
                }
                SctpEvent::ChannelClosed { id } => self.channels.retain(|c| c.id != id),
                SctpEvent::Closed { reason } => {
                    log::debug!("data channels of peer {} ended: {reason}", peer.0);
                    self.channels.clear();
                }
                SctpEvent::Connected => {}
            }
        }
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
