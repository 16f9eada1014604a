//! Offers and answers. str0m keeps changes only until the offer is made, while a program collects them over several
//! calls and wants to know the mid of each section at once; this file bridges the two.

use std::hash::{BuildHasher, Hasher};

use str0m::Rtc;
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::channel::{ChannelConfig, Reliability};
use str0m::media::{Direction, MediaKind, Mid, Rid, Simulcast};

use crate::error::PeerError;
use crate::sdp;

const RTX_PACKETS: usize = 2000;
const RTX_AGE: std::time::Duration = std::time::Duration::from_secs(3);

/// A section that the next offer adds.
#[derive(Clone)]
pub(crate) struct NewSection {
    pub kind: MediaKind,
    pub direction: Direction,
    pub stream_id: Option<String>,
    pub track_id: Option<String>,
    pub simulcast: Option<Simulcast>,
}

#[derive(Clone)]
enum Change {
    Section { seed: u64, mid: Mid, section: NewSection },
    Channel(ChannelConfig),
}

/// A section of ours and the direction that the program wants for it.
struct Wanted {
    mid: Mid,
    direction: Direction,
}

#[derive(Default)]
pub(crate) struct Negotiation {
    changes: Vec<Change>,
    sections: Vec<Wanted>,
    pending: Option<SdpPendingOffer>,
    /// What the pending offer added, should it be taken back.
    offered: Vec<Change>,
    /// Both sides have the section of data channels: more of them need no offer.
    app: bool,
    /// `stream_id cid` of what goes out on sections that were there before.
    named: Vec<(Mid, String)>,
    /// RED on or off per sending audio section, set when the section exists.
    red: Vec<(Mid, bool)>,
    /// What a sending section sends, for the order of its codecs.
    preferred: Vec<(Mid, &'static str)>,
    /// Sending video sections whose streams are not set up yet.
    video: Vec<(Mid, Vec<Option<Rid>>)>,
}

impl Negotiation {
    pub fn knows(&self, mid: Mid) -> bool {
        self.sections.iter().any(|wanted| wanted.mid == mid)
    }

    pub fn set_red(&mut self, mid: Mid, red: bool) {
        self.red.push((mid, red));
        self.prefer(mid, if red { "red" } else { "opus" });
    }

    /// List `codec` first in the section's offers.
    pub fn prefer(&mut self, mid: Mid, codec: &'static str) {
        self.preferred.push((mid, codec));
    }

    fn tidied(&self, sdp: &str) -> String {
        // The newest word counts: a section may be used again.
        let preferred = |mid: &str| {
            self.preferred.iter().rev().find(|(known, _)| known.to_string() == mid).map(|(_, codec)| *codec)
        };
        let named = |mid: &str| {
            self.named.iter().rev().find(|(known, _)| known.to_string() == mid).map(|(_, msid)| msid.as_str())
        };
        sdp::rename_streams(&sdp::tidy_local(sdp, preferred), named)
    }

    pub fn stop(&mut self, mid: Mid) {
        for wanted in self.sections.iter_mut().filter(|wanted| wanted.mid == mid) {
            wanted.direction = direction(false, wanted.direction.is_receiving());
        }
        // A section that never was in an offer needs none to go.
        let is_new = |change: &Change| matches!(change, Change::Section { mid: m, .. } if *m == mid);
        if self.changes.iter().any(is_new) {
            self.changes.retain(|change| !is_new(change));
            self.sections.retain(|wanted| wanted.mid != mid);
        }
    }

    /// Send on a section that exists, or that the next remote offer brings.
    pub fn use_section(
        &mut self,
        rtc: &mut Rtc,
        mid: Mid,
        kind: MediaKind,
        stream_id: &str,
        cid: &str,
    ) -> Result<Mid, PeerError> {
        let existing = rtc.media(mid);
        if existing.is_some_and(|media| media.kind() != kind) {
            return Err(PeerError::invalid(format!("section {mid} carries the other kind of media")));
        }
        let receives = existing.is_none_or(|media| media.direction().is_receiving());
        match self.sections.iter_mut().find(|wanted| wanted.mid == mid) {
            Some(wanted) if wanted.direction.is_sending() => {
                return Err(PeerError::invalid(format!("section {mid} sends already")));
            }
            Some(wanted) => wanted.direction = direction(true, wanted.direction.is_receiving()),
            None => self.sections.push(Wanted { mid, direction: direction(true, receives) }),
        }
        if kind == MediaKind::Video {
            self.video.push((mid, vec![None]));
        }
        let token = |text: &str| text.chars().filter(char::is_ascii_graphic).take(64).collect::<String>();
        self.named.retain(|(known, _)| *known != mid);
        self.preferred.retain(|(known, _)| *known != mid);
        self.named.push((mid, format!("{} {}", token(stream_id), token(cid))));
        Ok(mid)
    }

    pub fn set_receiving(&mut self, rtc: &mut Rtc, mid: Mid, receiving: bool) -> Result<(), PeerError> {
        if let Some(wanted) = self.sections.iter_mut().find(|wanted| wanted.mid == mid) {
            wanted.direction = direction(wanted.direction.is_sending(), receiving);
            return Ok(());
        }
        if rtc.media(mid).is_none() {
            return Err(PeerError::invalid(format!("there is no section {mid}")));
        }
        // Whoever sends has said so with `use_section`.
        self.sections.push(Wanted { mid, direction: direction(false, receiving) });
        Ok(())
    }

    /// Whether we send on a section, and receive: true unless the program has said that it does not want it.
    fn takes_part(&self, mid: Mid) -> (bool, bool) {
        match self.sections.iter().find(|wanted| wanted.mid == mid) {
            Some(wanted) => (wanted.direction.is_sending(), wanted.direction.is_receiving()),
            None => (false, true),
        }
    }

    /// Take the pending offer back; its changes go into the next one. str0m has not made them yet.
    pub fn rollback(&mut self) -> bool {
        let offered = std::mem::take(&mut self.offered);
        self.changes.splice(0..0, offered);
        self.pending.take().is_some()
    }

    pub fn add_channel(&mut self, label: &str, ordered: bool, max_retransmits: Option<u16>) {
        self.changes.push(Change::Channel(ChannelConfig {
            label: label.to_owned(),
            ordered,
            reliability: match max_retransmits {
                Some(retransmits) => Reliability::MaxRetransmits { retransmits },
                None => Reliability::Reliable,
            },
            negotiated: None,
            protocol: String::new(),
        }));
    }

    /// Open what channels wait, when there is nothing to negotiate for them and no offer of ours would be invalidated.
    pub fn open_channels(&mut self, rtc: &mut Rtc) {
        if !self.app || self.pending.is_some() {
            return;
        }
        let changes = std::mem::take(&mut self.changes);
        let (channels, rest): (Vec<_>, Vec<_>) = changes.into_iter().partition(|c| matches!(c, Change::Channel(_)));
        self.changes = rest;
        let mut api = rtc.sdp_api();
        for change in channels {
            if let Change::Channel(config) = change {
                api.add_channel_with_config(config);
            }
        }
        // Channels alone are made at once.
        let offer = api.apply();
        debug_assert!(offer.is_none());
    }

    /// Add a section to the next offer; returns its mid.
    ///
    /// str0m draws a mid when a section is added to an offer, not earlier, and lets nobody choose it. It draws from a
    /// generator that can be seeded per thread, so the draw is made now to learn the mid and repeated from the same seed
    /// when the offer is made. `create_offer` checks that both agree.
    pub fn add_section(&mut self, rtc: &mut Rtc, section: NewSection) -> Result<Mid, PeerError> {
        let seed = loop {
            let seed = entropy();
            let mid = draw(rtc, seed, &section);
            if !self.knows(mid) {
                break seed;
            }
        };
        let mid = draw(rtc, seed, &section);
        self.sections.push(Wanted { mid, direction: section.direction });
        if section.kind == MediaKind::Video && section.direction == Direction::SendOnly {
            let rids = match &section.simulcast {
                Some(simulcast) => simulcast.send.iter().map(|layer| Some(layer.rid)).collect(),
                None => vec![None],
            };
            self.video.push((mid, rids));
        }
        self.changes.push(Change::Section { seed, mid, section });
        Ok(mid)
    }

    pub fn create_offer(&mut self, rtc: &mut Rtc, ice_restart: bool) -> Result<String, PeerError> {
        if self.pending.is_some() {
            return Err(PeerError::state("an offer is waiting for its answer already"));
        }
        self.offered.clone_from(&self.changes);
        let mut api = rtc.sdp_api();
        for change in self.changes.drain(..) {
            match change {
                Change::Section { seed, mid, section } => {
                    fastrand::seed(seed);
                    let NewSection { kind, direction, stream_id, track_id, simulcast } = section;
                    // It may have been stopped while an offer that was taken back was under way.
                    let wanted = self.sections.iter().find(|wanted| wanted.mid == mid);
                    let direction = wanted.map_or(direction, |wanted| wanted.direction);
                    let drawn = api.add_media(kind, direction, stream_id, track_id, simulcast);
                    fastrand::seed(entropy());
                    if drawn != mid {
                        return Err(PeerError::state("the section's mid is not the one promised"));
                    }
                }
                Change::Channel(config) => {
                    api.add_channel_with_config(config);
                }
            }
        }
        // An answer may have made a section inactive for a while; each offer asks for what is wanted.
        for wanted in &self.sections {
            api.set_direction(wanted.mid, wanted.direction);
        }
        if ice_restart {
            api.ice_restart(true);
        }
        let offered = match api.apply() {
            Some(offered) => offered,
            None => repeat_offer(rtc, &self.sections)?,
        };
        let (offer, pending) = offered;
        self.pending = Some(pending);
        Ok(self.tidied(&offer.to_sdp_string()))
    }

    pub fn set_answer(&mut self, rtc: &mut Rtc, answer: &str) -> Result<(), PeerError> {
        let Some(pending) = self.pending.take() else {
            return Err(PeerError::state("no offer is waiting for an answer"));
        };
        let parsed = SdpAnswer::from_sdp_string(&sdp::tidy_remote(answer, false));
        let answer = match parsed {
            Ok(answer) => answer,
            Err(error) => {
                // The offer still stands; a readable answer may follow.
                self.pending = Some(pending);
                return Err(PeerError::invalid(format!("the answer cannot be read: {error}")));
            }
        };
        if let Err(error) = rtc.sdp_api().accept_answer(pending, answer) {
            self.rollback();
            return Err(PeerError::invalid(format!("the answer cannot be used: {error}")));
        }
        self.app |= std::mem::take(&mut self.offered).iter().any(|change| matches!(change, Change::Channel(_)));
        self.settle(rtc);
        self.open_channels(rtc);
        Ok(())
    }

    /// What is set on streams, once they exist.
    fn settle(&mut self, rtc: &mut Rtc) {
        for (mid, red) in &self.red {
            rtc.direct_api().set_red_send(*mid, *red);
        }
        self.video.retain(|(mid, rids)| {
            if rtc.media(*mid).is_none() {
                return true;
            }
            for rid in rids {
                // The default drops queued retransmissions when they pass 15 % of the rate: on a bad path each of them
                // is a frozen picture.
                if let Some(stream) = rtc.direct_api().stream_tx_by_mid(*mid, *rid) {
                    stream.set_rtx_cache(RTX_PACKETS, RTX_AGE, None);
                }
            }
            false
        });
    }

    pub fn accept_offer(&mut self, rtc: &mut Rtc, offer: &str) -> Result<String, PeerError> {
        // str0m mirrors what is offered; we take part only where something is sent and wanted.
        let offer = sdp::restrict(&sdp::tidy_remote(offer, true), |mid| self.takes_part(Mid::from(mid)));
        let app = offer.lines().any(|line| line.starts_with("m=application "));
        let offer = SdpOffer::from_sdp_string(&offer)
            .map_err(|error| PeerError::invalid(format!("the offer cannot be read: {error}")))?;
        if self.pending.is_some() {
            return Err(PeerError::state("an offer of ours is waiting for its answer"));
        }
        // str0m leaves a section of ours that rests at rest, even when the other side wants it again.
        let resting: Vec<&Wanted> = self
            .sections
            .iter()
            .filter(|wanted| rtc.media(wanted.mid).is_some_and(|media| media.direction() == Direction::Inactive))
            .collect();
        let mut api = rtc.sdp_api();
        resting.iter().for_each(|wanted| api.set_direction(wanted.mid, wanted.direction));
        drop(api);
        let answer = rtc
            .sdp_api()
            .accept_offer(offer)
            .map_err(|error| PeerError::invalid(format!("the offer cannot be used: {error}")))?;
        self.app |= app;
        self.settle(rtc);
        self.open_channels(rtc);
        Ok(self.tidied(&answer.to_sdp_string()))
    }
}

/// An offer that changes nothing, which servers ask for when it is their side that has changed. str0m makes one only for
/// a change, so a section's direction is changed and changed back, by way of one that interrupts nothing.
fn repeat_offer(rtc: &mut Rtc, sections: &[Wanted]) -> Result<(SdpOffer, SdpPendingOffer), PeerError> {
    let mut api = rtc.sdp_api();
    if let Some(wanted) = sections.first() {
        let other = if wanted.direction == Direction::Inactive { Direction::RecvOnly } else { Direction::SendRecv };
        api.set_direction(wanted.mid, other);
        api.set_direction(wanted.mid, wanted.direction);
    }
    api.apply().ok_or_else(|| PeerError::state("there is nothing to offer"))
}

fn direction(sending: bool, receiving: bool) -> Direction {
    match (sending, receiving) {
        (true, true) => Direction::SendRecv,
        (true, false) => Direction::SendOnly,
        (false, true) => Direction::RecvOnly,
        (false, false) => Direction::Inactive,
    }
}

fn draw(rtc: &mut Rtc, seed: u64, section: &NewSection) -> Mid {
    let section = section.clone();
    fastrand::seed(seed);
    let mid = rtc.sdp_api().add_media(
        section.kind,
        section.direction,
        section.stream_id,
        section.track_id,
        section.simulcast,
    );
    // Credentials may be drawn from the same generator: never leave it in a state that an offer could reveal.
    fastrand::seed(entropy());
    mid
}

fn entropy() -> u64 {
    // The standard library's hasher is keyed by the operating system's randomness.
    let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
    hasher.write_u128(std::time::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_nanos()));
    hasher.finish()
}
