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
        sdp::tidy_local(sdp, |mid| {
            self.preferred.iter().find(|(known, _)| known.to_string() == mid).map(|(_, codec)| *codec)
        })
    }

    pub fn stop(&mut self, mid: Mid) {
        for wanted in self.sections.iter_mut().filter(|wanted| wanted.mid == mid) {
            wanted.direction = Direction::Inactive;
        }
        // A section that never was in an offer needs none to go.
        let is_new = |change: &Change| matches!(change, Change::Section { mid: m, .. } if *m == mid);
        if self.changes.iter().any(is_new) {
            self.changes.retain(|change| !is_new(change));
            self.sections.retain(|wanted| wanted.mid != mid);
        }
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
        let mut api = rtc.sdp_api();
        for change in self.changes.drain(..) {
            match change {
                Change::Section { seed, mid, section } => {
                    fastrand::seed(seed);
                    let NewSection { kind, direction, stream_id, track_id, simulcast } = section;
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
        rtc.sdp_api()
            .accept_answer(pending, answer)
            .map_err(|error| PeerError::invalid(format!("the answer cannot be used: {error}")))?;
        for (mid, red) in &self.red {
            rtc.direct_api().set_red_send(*mid, *red);
        }
        for (mid, rids) in std::mem::take(&mut self.video) {
            for rid in rids {
                // The default drops queued retransmissions when they pass 15 % of the rate: on a bad path each of them
                // is a frozen picture.
                if let Some(stream) = rtc.direct_api().stream_tx_by_mid(mid, rid) {
                    stream.set_rtx_cache(RTX_PACKETS, RTX_AGE, None);
                }
            }
        }
        Ok(())
    }

    pub fn accept_offer(&mut self, rtc: &mut Rtc, offer: &str) -> Result<String, PeerError> {
        let offer = SdpOffer::from_sdp_string(&sdp::tidy_remote(offer, true))
            .map_err(|error| PeerError::invalid(format!("the offer cannot be read: {error}")))?;
        if self.pending.is_some() {
            return Err(PeerError::state("an offer of ours is waiting for its answer"));
        }
        let answer = rtc
            .sdp_api()
            .accept_offer(offer)
            .map_err(|error| PeerError::invalid(format!("the offer cannot be used: {error}")))?;
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
