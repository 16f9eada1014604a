//! The speakers of a room: who is talking, and, where the room wants it so, the few loudest that are forwarded.
use std::time::{Duration, Instant};

use crate::slab::{Key, Slab};
use crate::track::Track;
use crate::{Event, RoomId};

/// A newcomer must be this much louder than the quietest of those on stage, in dB.
const LOUDER: u8 = 6;
/// Nobody leaves the stage sooner, except the silent: a syllable is no turn.
const STAY: Duration = Duration::from_millis(1000);
/// Without packets for this long a place is free.
const ABSENT: Duration = Duration::from_millis(1000);
/// A packet without a level counts as quiet speech, in -dBov.
const UNKNOWN_LEVEL: u8 = 45;

/// A track that is forwarded while the room has more than it forwards.
#[derive(Debug, Clone, Copy)]
struct Place {
    track: Key,
    /// Smoothed level in sixteenths of -dBov: rises with the voice at once, falls slowly.
    level: u16,
    since: Instant,
    heard: Instant,
}

/// Whether a packet is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Its track is on stage, or everybody is.
    OnStage,
    /// From this packet on.
    Enters,
    /// Others are louder.
    Offstage,
}

#[derive(Debug, Default)]
pub(crate) struct Room {
    pub(crate) peers: usize,
    /// Published audio tracks.
    pub(crate) audio: Vec<Key>,
    /// A timer runs.
    pub(crate) armed: bool,
    /// How many are forwarded; `None`: all.
    top_speakers: Option<usize>,
    stage: Vec<Place>,
}

impl Room {
    /// Forwards only the `top` loudest tracks from now on; `None`: all. Whether that is a change.
    pub(crate) fn set_top_speakers(&mut self, top: Option<usize>) -> bool {
        let changed = std::mem::replace(&mut self.top_speakers, top) != top;
        if changed {
            self.stage.clear();
        }
        changed
    }

    /// A track is gone.
    pub(crate) fn remove_audio(&mut self, track: Key) {
        self.audio.retain(|audio| *audio != track);
        self.stage.retain(|place| place.track != track);
    }

    /// Decides about a packet of an audio track.
    #[inline]
    pub(crate) fn admit(&mut self, now: Instant, track: Key, level: Option<u8>) -> Admission {
        match self.top_speakers {
            None => Admission::OnStage,
            Some(top) => self.compare(now, track, level.unwrap_or(UNKNOWN_LEVEL), top),
        }
    }

    fn compare(&mut self, now: Instant, track: Key, level: u8, top: usize) -> Admission {
        let level = u16::from(level.min(127)) * 16;
        if let Some(place) = self.stage.iter_mut().find(|place| place.track == track) {
            place.heard = now;
            place.level = if level < place.level { level } else { place.level + (level - place.level).div_ceil(16) };
            return Admission::OnStage;
        }
        let newcomer = Place { track, level, since: now, heard: now };
        if self.stage.len() < top {
            self.stage.push(newcomer);
            return Admission::Enters;
        }
        let quietest = |place: &&mut Place| (now >= place.heard + ABSENT, place.level);
        let Some(place) = self.stage.iter_mut().max_by_key(quietest) else { return Admission::Offstage };
        let absent = now >= place.heard + ABSENT;
        let louder = level + u16::from(LOUDER) * 16 <= place.level && now >= place.since + STAY;
        if !absent && !louder {
            return Admission::Offstage;
        }
        *place = newcomer;
        Admission::Enters
    }

    /// Ends an interval: who changed, if anybody.
    pub(crate) fn poll_speakers(&self, id: RoomId, tracks: &mut Slab<Track>) -> Option<Event> {
        let mut changes = Vec::new();
        for key in &self.audio {
            let Some(track) = tracks.get_mut(*key) else { continue };
            if let Some(change) = track.speaker.poll() {
                changes.push((track.id, change.level, change.active));
            }
        }
        (!changes.is_empty()).then_some(Event::Speakers { room: id, changes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loudest_are_on_stage_and_nobody_is_cut_off_by_a_cough() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut keys = Slab::default();
        let [a, b, c] = [(); 3].map(|()| keys.insert(()));
        let mut room = Room::default();
        assert_eq!(room.admit(start, a, Some(127)), Admission::OnStage, "no limit");
        room.set_top_speakers(Some(2));
        assert_eq!(room.admit(start, a, Some(30)), Admission::Enters);
        assert_eq!(room.admit(start, b, Some(60)), Admission::Enters);
        assert_eq!(room.admit(at(20), c, Some(20)), Admission::Offstage, "b has just begun");
        for ms in (20..2000).step_by(20) {
            assert_eq!(room.admit(at(ms), a, Some(30)), Admission::OnStage);
            assert_eq!(room.admit(at(ms), b, Some(60)), Admission::OnStage);
        }
        assert_eq!(room.admit(at(2000), c, Some(57)), Admission::Offstage, "hardly louder");
        assert_eq!(room.admit(at(2000), c, Some(25)), Admission::Enters);
        assert_eq!(room.admit(at(2020), b, Some(60)), Admission::Offstage);
        assert_eq!(room.admit(at(2020), a, Some(30)), Admission::OnStage);
        assert_eq!(room.admit(at(4000), b, Some(100)), Admission::Enters, "somebody is silent for seconds");
    }
}
