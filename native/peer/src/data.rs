//! Data channels by label: messages wait here while SCTP's own buffer is full.

use std::collections::{HashMap, VecDeque};

use str0m::Rtc;
use str0m::channel::ChannelId;

use crate::error::PeerError;

/// Per peer, all channels together.
pub const MAX_WAITING: usize = 16 << 20;
/// Below this many bytes a channel counts as drained.
pub const LOW_MARK: usize = 64 << 10;
/// The largest message we take and send (SDP `a=max-message-size`).
pub const MAX_MESSAGE: usize = 256 << 10;

#[derive(Default)]
struct Waiting {
    /// Each with whether it is binary.
    messages: VecDeque<(bool, Vec<u8>)>,
    bytes: usize,
    /// More than the low mark waited; say so when it no longer does.
    above_mark: bool,
}

#[derive(Default)]
pub(crate) struct DataChannels {
    labels: HashMap<ChannelId, String>,
    /// The newest open channel of each label.
    open: HashMap<String, ChannelId>,
    waiting: HashMap<String, Waiting>,
    total: usize,
    wrote: bool,
}

impl DataChannels {
    pub fn opened(&mut self, id: ChannelId, label: &str, rtc: &mut Rtc) {
        self.labels.insert(id, label.to_owned());
        self.open.insert(label.to_owned(), id);
        if let Some(mut channel) = rtc.channel(id) {
            channel.set_buffered_amount_low_threshold(LOW_MARK);
        }
    }

    /// Returns the label when no channel of that label is open any more.
    pub fn closed(&mut self, id: ChannelId) -> Option<String> {
        let label = self.labels.remove(&id)?;
        if self.open.get(&label) != Some(&id) {
            // A newer one of that label took its place and lives on.
            return None;
        }
        self.open.remove(&label);
        if let Some(waiting) = self.waiting.remove(&label) {
            self.total -= waiting.bytes;
        }
        Some(label)
    }

    pub fn label(&self, id: ChannelId) -> Option<&str> {
        self.labels.get(&id).map(String::as_str)
    }

    /// Queue a message. Returns the bytes that wait on the channel now.
    pub fn send(&mut self, label: &str, payload: &[u8], binary: bool, rtc: &mut Rtc) -> Result<usize, PeerError> {
        let Some(&id) = self.open.get(label) else {
            return Err(PeerError::state(format!("data channel {label:?} is not open")));
        };
        if payload.len() > MAX_MESSAGE {
            return Err(PeerError::invalid(format!(
                "a message of {} bytes; the limit is {MAX_MESSAGE}",
                payload.len()
            )));
        }
        if self.total + payload.len() > MAX_WAITING {
            return Err(PeerError::Full(format!("{} bytes wait to be sent already", self.total)));
        }
        let waiting = self.waiting.entry(label.to_owned()).or_default();
        // Straight through when nothing waits: no copy.
        if waiting.messages.is_empty() && write(rtc, id, binary, payload)? {
            let buffered = buffered_in_sctp(rtc, id);
            waiting.above_mark |= buffered > LOW_MARK;
            return Ok(buffered);
        }
        waiting.messages.push_back((binary, payload.to_vec()));
        waiting.bytes += payload.len();
        waiting.above_mark = true;
        self.total += payload.len();
        Ok(waiting.bytes + buffered_in_sctp(rtc, id))
    }

    /// Close the open channel of that label; false when there is none. What waits on it is dropped.
    pub fn close(&mut self, label: &str, rtc: &mut Rtc) -> bool {
        let Some(&id) = self.open.get(label) else { return false };
        rtc.direct_api().close_data_channel(id);
        true
    }

    pub fn buffered(&self, label: &str, rtc: &mut Rtc) -> usize {
        let queued = self.waiting.get(label).map_or(0, |waiting| waiting.bytes);
        queued + self.open.get(label).map_or(0, |id| buffered_in_sctp(rtc, *id))
    }

    /// The last `flush` handed something over: the session has to be drained again. Says so once.
    pub fn wrote(&mut self) -> bool {
        std::mem::take(&mut self.wrote)
    }

    /// Hand over to SCTP what fits. Returns the labels that have drained.
    pub fn flush(&mut self, rtc: &mut Rtc) -> Vec<String> {
        let mut drained = Vec::new();
        for (label, waiting) in &mut self.waiting {
            if !waiting.above_mark && waiting.messages.is_empty() {
                continue;
            }
            let Some(&id) = self.open.get(label) else { continue };
            while let Some((binary, message)) = waiting.messages.front() {
                match write(rtc, id, *binary, message) {
                    Ok(false) => break,
                    Ok(true) => self.wrote = true,
                    // A message that the other side refuses (too large for it) must not hold up the rest.
                    Err(error) => log::warn!("message on {label:?} not sent: {error}"),
                }
                waiting.bytes -= message.len();
                self.total -= message.len();
                waiting.messages.pop_front();
            }
            if waiting.above_mark && waiting.bytes + buffered_in_sctp(rtc, id) <= LOW_MARK {
                waiting.above_mark = false;
                drained.push(label.clone());
            }
        }
        drained
    }
}

fn write(rtc: &mut Rtc, id: ChannelId, binary: bool, payload: &[u8]) -> Result<bool, PeerError> {
    match rtc.channel(id) {
        Some(mut channel) => {
            channel.write(binary, payload).map_err(|error| PeerError::state(format!("data channel: {error}")))
        }
        None => Err(PeerError::state("the data channel is closed")),
    }
}

fn buffered_in_sctp(rtc: &mut Rtc, id: ChannelId) -> usize {
    rtc.channel(id).map_or(0, |mut channel| channel.buffered_amount())
}
