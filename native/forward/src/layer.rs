//! A place for a received stream: an audio track, a video track, or one simulcast layer of it. Which stream fills it may
//! change.
use greenroom_congestion::KeyframeThrottle;

use crate::frame::PayloadFormat;
use crate::slab::Key;
use crate::{Kind, Receiver};

pub(crate) struct Layer {
    /// The publishing peer.
    pub(crate) publisher: Key,
    pub(crate) track: Key,
    pub(crate) kind: Kind,
    /// Spatial layer.
    pub(crate) spatial: u8,
    pub(crate) rid: String,
    /// Several layers share the track.
    pub(crate) simulcast: bool,
    /// The stream it is fed by; none until SDP or a packet told its SSRC.
    pub(crate) inbound: Option<Key>,
    /// SSRC of its retransmissions; 0 until known.
    pub(crate) rtx_ssrc: u32,
    pub(crate) throttle: KeyframeThrottle,
    /// Told upstairs.
    pub(crate) announced: bool,
    formats: Vec<PayloadFormat>,
    nack: bool,
}

impl Layer {
    pub(crate) fn new(publisher: Key, track: Key, receiver: &Receiver, rid: &str, spatial: u8) -> Self {
        let interval = if spatial == 0 { KeyframeThrottle::LOW } else { KeyframeThrottle::HIGH };
        let mut layer = Layer {
            publisher,
            track,
            kind: receiver.kind,
            spatial,
            rid: rid.to_owned(),
            simulcast: false,
            inbound: None,
            rtx_ssrc: 0,
            throttle: KeyframeThrottle::new(interval),
            announced: false,
            formats: Vec::new(),
            nack: false,
        };
        layer.update(receiver);
        layer
    }

    /// Takes over what may change in a renegotiation.
    pub(crate) fn update(&mut self, receiver: &Receiver) {
        self.formats = receiver.codecs.iter().map(PayloadFormat::new).collect();
        self.nack = receiver.nack;
        self.simulcast = receiver.layers.len() > 1;
    }

    /// Whether lost packets may be asked for.
    pub(crate) fn nack(&self) -> bool {
        self.nack
    }

    /// RTP clock before a packet told which payload type is in use, in Hz.
    pub(crate) fn clock_rate(&self) -> u32 {
        self.formats.first().map_or(90_000, |format| format.clock_rate.max(1))
    }

    /// The format of a payload type.
    pub(crate) fn format(&self, pt: u8) -> Option<PayloadFormat> {
        self.formats.iter().find(|format| format.pt == pt).copied()
    }

    /// The format whose retransmissions have this payload type.
    pub(crate) fn repaired(&self, rtx_pt: u8) -> Option<PayloadFormat> {
        self.formats.iter().find(|format| format.rtx_pt == rtx_pt && rtx_pt != 0).copied()
    }
}
