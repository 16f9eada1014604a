//! What one peer sends: its sections, and what each of its SSRCs is, for the life of the keys.
use std::time::Instant;

use greenroom_congestion::TwccRecorder;
use greenroom_secure::srtp::{RxSource, estimate_index};
use greenroom_wire::Ssrc;
use greenroom_wire::rtp::RtpHeader;

use crate::budget::Meter;
use crate::elements::{Dictionary, Elements};
use crate::hash::Map;
use crate::inbound::Inbound;
use crate::layer::Layer;
use crate::slab::{Key, Slab};
use crate::{Limits, Receiver};

/// SSRCs of one peer that are remembered: the rollover counters of those that went (RFC 3711, 3.3.1) and where replay
/// begins. A page that shares its screen again and again uses six each time.
const MAX_SOURCES: usize = 4096;

/// What an incoming SSRC is.
#[derive(Debug, Clone)]
enum Source {
    /// Media, feeding a layer.
    Media(Key),
    /// Retransmissions for a layer.
    Repair { layer: Key, window: Box<RxSource> },
    /// In use earlier; the highest number accepted.
    Former(u64),
}

/// What a packet belongs to, and the index it is opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    Media(Key),
    Repair(Key),
    /// Of no section that is known.
    Unclaimed,
}

/// Which layer a packet of an unclaimed SSRC names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) layer: Key,
    pub(crate) repair: bool,
    /// RTP clock of the payload type, in Hz.
    pub(crate) clock_rate: u32,
}

/// A section on which the peer sends.
#[derive(Debug)]
pub(crate) struct Publication {
    pub(crate) spec: Receiver,
    pub(crate) track: Key,
    pub(crate) layers: Vec<Key>,
}

/// See the module.
pub(crate) struct Receiving {
    publications: Vec<Publication>,
    sources: Map<u32, Source>,
    dictionary: Dictionary,
    twcc: TwccRecorder,
    transport_cc: bool,
    changes: Meter,
    unclaimed: Meter,
    copies: Meter,
}

impl Receiving {
    /// `ssrc`: that of our feedback.
    pub(crate) fn new(ssrc: Ssrc, now: Instant) -> Self {
        Receiving {
            publications: Vec::new(),
            sources: Map::default(),
            dictionary: Dictionary::default(),
            twcc: TwccRecorder::new(ssrc),
            transport_cc: false,
            changes: Meter::new(now),
            unclaimed: Meter::new(now),
            copies: Meter::new(now),
        }
    }

    pub(crate) fn publications(&self) -> &[Publication] {
        &self.publications
    }

    /// The layers of all sections.
    pub(crate) fn layers(&self) -> impl Iterator<Item = Key> {
        self.publications.iter().flat_map(|publication| &publication.layers).copied()
    }

    /// Takes the sections out, to be changed and put back.
    pub(crate) fn take_publications(&mut self) -> Vec<Publication> {
        std::mem::take(&mut self.publications)
    }

    /// All sections anew.
    pub(crate) fn set_publications(&mut self, publications: Vec<Publication>) {
        self.dictionary.set(publications.iter().flat_map(|p| p.spec.extensions.pairs()));
        self.transport_cc = publications.iter().any(|p| p.spec.transport_cc);
        self.publications = publications;
    }

    pub(crate) fn dictionary(&self) -> &Dictionary {
        &self.dictionary
    }

    /// What an SSRC is, and the extended number of a packet of it.
    #[inline]
    pub(crate) fn route(&self, inbounds: &Slab<Inbound>, ssrc: u32, seq: u16) -> (Route, u64) {
        match self.sources.get(&ssrc) {
            Some(Source::Media(key)) => (Route::Media(*key), inbounds[*key].index_of(seq)),
            Some(Source::Repair { layer, window }) => (Route::Repair(*layer), window.estimate(seq)),
            Some(Source::Former(highest)) => (Route::Unclaimed, estimate_index(*highest, seq)),
            None => (Route::Unclaimed, u64::from(seq)),
        }
    }

    /// How far an authentic packet lies behind the newest of its SSRC, if it is one that came before.
    #[inline]
    pub(crate) fn age_of_replay(&self, inbounds: &Slab<Inbound>, ssrc: u32, index: u64) -> Option<u64> {
        let (highest, fresh) = match self.sources.get(&ssrc)? {
            Source::Media(key) => (inbounds[*key].highest(), inbounds[*key].is_fresh(index)),
            Source::Repair { window, .. } => (window.highest(), window.is_fresh(index)),
            Source::Former(highest) => (Some(*highest), index > *highest),
        };
        if fresh { None } else { Some(highest?.saturating_sub(index)) }
    }

    /// Records an authenticated packet of a retransmission stream; `false`: a replay.
    pub(crate) fn accept_repair(&mut self, ssrc: u32, index: u64) -> bool {
        match self.sources.get_mut(&ssrc) {
            Some(Source::Repair { window, .. }) => window.accept(index),
            _ => false,
        }
    }

    /// Records an authenticated packet that nobody claims: its stream may be claimed later and must go on counting.
    pub(crate) fn note_unclaimed(&mut self, ssrc: u32, index: u64) {
        if let Some(Source::Former(highest)) = self.sources.get_mut(&ssrc) {
            *highest = index.max(*highest);
        }
    }

    /// Whether another packet of an unclaimed stream may be looked at.
    pub(crate) fn may_look(&mut self, now: Instant, limits: &Limits) -> bool {
        self.unclaimed.take(now, limits.unclaimed, 1)
    }

    /// Whether a stream may change its SSRC now.
    pub(crate) fn may_change(&mut self, now: Instant, limits: &Limits) -> bool {
        self.changes.take(now, limits.ssrc_changes, 1)
    }

    /// Whether what the peer sends may go to subscribers now.
    #[inline]
    pub(crate) fn may_forward(&self, now: Instant, limits: &Limits) -> bool {
        self.copies.is_within(now, limits.copies)
    }

    /// So many subscribers were sent a packet.
    #[inline]
    pub(crate) fn note_copies(&mut self, now: Instant, limits: &Limits, copies: usize) {
        self.copies.take_anyway(now, limits.copies, copies as u64);
    }

    /// Finds out which layer an unclaimed SSRC belongs to: by mid and rid where the packet carries them, else by a payload
    /// type that only one waiting section knows.
    pub(crate) fn claim(&self, layers: &Slab<Layer>, header: &RtpHeader, elements: &Elements<'_>) -> Option<Claim> {
        let rid = elements.rid.or(elements.repaired_rid);
        let by_mid = elements.mid.and_then(|mid| self.publications.iter().find(|p| p.spec.mid == mid));
        let known = self.sources.contains_key(&header.ssrc.0);
        let publication = match (by_mid, rid) {
            (Some(publication), _) => Some(publication),
            // Of a section that is gone, or not here yet; by its payload type alone it could be taken for another's.
            (None, _) if elements.mid.is_some() => None,
            (None, None) if known => None,
            (None, Some(rid)) => {
                only(self.publications.iter().filter(|p| p.layers.iter().any(|l| layers[*l].rid == rid)))
            }
            (None, None) => only(self.publications.iter().filter(|p| may_carry(p, layers, header.payload_type))),
        }?;
        let layer = match rid {
            Some(rid) => *publication.layers.iter().find(|l| layers[**l].rid == rid)?,
            None => only(publication.layers.iter().copied())?,
        };
        let state = &layers[layer];
        let repaired = state.repaired(header.payload_type);
        if elements.repaired_rid.is_some() || repaired.is_some() {
            return Some(Claim { layer, repair: true, clock_rate: repaired?.clock_rate });
        }
        Some(Claim { layer, repair: false, clock_rate: state.format(header.payload_type)?.clock_rate })
    }

    /// The number before which everything of this SSRC is a replay: `Some(None)` for a new one, nothing when the SSRC is
    /// in use or no more can be remembered.
    pub(crate) fn before(&self, ssrc: u32) -> Option<Option<u64>> {
        match self.sources.get(&ssrc) {
            Some(Source::Former(highest)) => Some(Some(*highest)),
            Some(_) => None,
            None => (self.sources.len() < MAX_SOURCES).then_some(None),
        }
    }

    /// A media SSRC and the stream it is.
    pub(crate) fn set_media(&mut self, ssrc: u32, inbound: Key) {
        self.sources.insert(ssrc, Source::Media(inbound));
    }

    /// An SSRC of retransmissions; `false` when it is something else now, or no more can be remembered.
    pub(crate) fn set_repair(&mut self, ssrc: u32, layer: Key) -> bool {
        let Some(before) = self.before(ssrc) else { return false };
        let window = Box::new(before.map_or_else(RxSource::default, RxSource::after));
        self.sources.insert(ssrc, Source::Repair { layer, window });
        true
    }

    /// The stream of a media SSRC.
    pub(crate) fn media(&self, ssrc: u32) -> Option<Key> {
        match self.sources.get(&ssrc)? {
            Source::Media(inbound) => Some(*inbound),
            _ => None,
        }
    }

    /// Whether an SSRC brings the retransmissions of this layer.
    pub(crate) fn repairs(&self, ssrc: u32, of: Key) -> bool {
        matches!(self.sources.get(&ssrc), Some(Source::Repair { layer, .. }) if *layer == of)
    }

    /// The SSRC is not in use any more; what was received of it is remembered. `highest`: of a media stream.
    pub(crate) fn retire(&mut self, ssrc: u32, highest: Option<u64>) {
        let Some(source) = self.sources.get_mut(&ssrc) else { return };
        let highest = match source {
            Source::Media(_) => highest,
            Source::Repair { window, .. } => window.highest(),
            Source::Former(_) => return,
        };
        match highest {
            Some(highest) => *source = Source::Former(highest),
            None => {
                self.sources.remove(&ssrc);
            }
        }
    }

    /// The same for the retransmissions of a layer, if that is what the SSRC is.
    pub(crate) fn retire_repair(&mut self, ssrc: u32, of: Key) {
        if self.repairs(ssrc, of) {
            self.retire(ssrc, None);
        }
    }

    /// The layer whose retransmissions an SSRC brings.
    pub(crate) fn repaired_layer(&self, ssrc: u32) -> Option<Key> {
        match self.sources.get(&ssrc)? {
            Source::Repair { layer, .. } => Some(*layer),
            _ => None,
        }
    }

    /// Transport-wide feedback, where the peer wants it. Returns when it is due.
    #[inline]
    pub(crate) fn note_transport_cc(&mut self, now: Instant, ssrc: Ssrc, number: u16, marker: bool) -> Option<Instant> {
        if !self.transport_cc {
            return None;
        }
        self.twcc.record(now, ssrc, number, marker);
        self.twcc.poll_timeout()
    }

    pub(crate) fn twcc(&mut self) -> &mut TwccRecorder {
        &mut self.twcc
    }
}

/// Whether a section could be where an unannounced SSRC belongs.
fn may_carry(publication: &Publication, layers: &Slab<Layer>, pt: u8) -> bool {
    publication.layers.len() == 1
        && publication.layers.iter().map(|key| &layers[*key]).any(|layer| {
            (layer.format(pt).is_some() && layer.inbound.is_none())
                || (layer.repaired(pt).is_some() && layer.rtx_ssrc == 0)
        })
}

/// The only item, if there is exactly one.
fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let first = items.next()?;
    items.next().is_none().then_some(first)
}
