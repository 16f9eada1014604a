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
/// Who is quieter than this, in -dBov, does not speak, and needs no place that somebody else has to spare.
const AUDIBLE: u8 = 60;
/// A packet without a level counts as quiet speech, in -dBov.
const UNKNOWN_LEVEL: u8 = 45;

/// A track that is forwarded while the room has more than it forwards.
#[derive(Debug, Clone, Copy)]
struct Place {
    track: Key,
    /// Who publishes it.
    publisher: Option<Key>,
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
    pub(crate) fn admit(&mut self, now: Instant, track: Key, publisher: Option<Key>, level: Option<u8>) -> Admission {
        match self.top_speakers {
            None => Admission::OnStage,
            Some(top) => self.compare(now, track, publisher, level.unwrap_or(UNKNOWN_LEVEL), top),
        }
    }

    fn compare(&mut self, now: Instant, track: Key, publisher: Option<Key>, level: u8, top: usize) -> Admission {
        let level = u16::from(level.min(127)) * 16;
        if let Some(place) = self.stage.iter_mut().find(|place| place.track == track) {
            place.heard = now;
            place.level = if level < place.level { level } else { place.level + (level - place.level).div_ceil(16) };
            return Admission::OnStage;
        }
        let newcomer = Place { track, publisher, level, since: now, heard: now };
        if self.stage.len() < top {
            self.stage.push(newcomer);
            return Admission::Enters;
        }
        // Levels are what publishers say they are. So loudness decides between publishers about one place each, and what
        // somebody has beside that is the first to go.
        let is_absent = |place: &Place| now >= place.heard + ABSENT;
        let is_spare = |place: &Place| self.stage.iter().filter(|other| other.publisher == place.publisher).count() > 1;
        let has_place = self.stage.iter().any(|place| place.publisher == publisher);
        let lacks_one = !has_place && level <= u16::from(AUDIBLE) * 16;
        let last = (0..self.stage.len())
            .filter(|at| !has_place || is_absent(&self.stage[*at]) || is_spare(&self.stage[*at]))
            .max_by_key(|at| {
                let place = &self.stage[*at];
                (is_absent(place), lacks_one && is_spare(place), place.level)
            });
        let Some(last) = last else { return Admission::Offstage };
        let place = &self.stage[last];
        let entitled = lacks_one && is_spare(place) || level + u16::from(LOUDER) * 16 <= place.level;
        if is_absent(place) || entitled && now >= place.since + STAY {
            self.stage[last] = newcomer;
            return Admission::Enters;
        }
        Admission::Offstage
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
        assert_eq!(room.admit(start, a, Some(a), Some(127)), Admission::OnStage, "no limit");
        room.set_top_speakers(Some(2));
        assert_eq!(room.admit(start, a, Some(a), Some(30)), Admission::Enters);
        assert_eq!(room.admit(start, b, Some(b), Some(60)), Admission::Enters);
        assert_eq!(room.admit(at(20), c, Some(c), Some(20)), Admission::Offstage, "b has just begun");
        for ms in (20..2000).step_by(20) {
            assert_eq!(room.admit(at(ms), a, Some(a), Some(30)), Admission::OnStage);
            assert_eq!(room.admit(at(ms), b, Some(b), Some(60)), Admission::OnStage);
        }
        assert_eq!(room.admit(at(2000), c, Some(c), Some(57)), Admission::Offstage, "hardly louder");
        assert_eq!(room.admit(at(2000), c, Some(c), Some(25)), Admission::Enters);
        assert_eq!(room.admit(at(2020), b, Some(b), Some(60)), Admission::Offstage);
        assert_eq!(room.admit(at(2020), a, Some(a), Some(30)), Admission::OnStage);
        assert_eq!(room.admit(at(4000), b, Some(b), Some(100)), Admission::Enters, "somebody is silent for seconds");
    }

    #[test]
    fn nobody_takes_all_places_by_claiming_to_be_the_loudest() {
        let start = Instant::now();
        let mut keys = Slab::default();
        let [mallory, alice, a] = [(); 3].map(|()| keys.insert(()));
        let loud = [(); 3].map(|()| keys.insert(()));
        let mut room = Room::default();
        room.set_top_speakers(Some(2));
        let mut heard = 0;
        for ms in (0..5000).step_by(20) {
            let now = start + Duration::from_millis(ms);
            for track in loud {
                room.admit(now, track, Some(mallory), Some(0));
            }
            let level = if ms < 3000 { 30 } else { 60 };
            heard += u32::from(room.admit(now, a, Some(alice), Some(level)) != Admission::Offstage);
        }
        assert_eq!(heard, 200, "from the first second on");
        // Nor is one taken for silence; and alone, somebody has every place there is.
        let now = start + Duration::from_secs(10);
        let mut hear =
            |ms| loud.map(|track| room.admit(now + Duration::from_millis(ms), track, Some(mallory), Some(0)));
        assert_eq!(hear(0), [Admission::OnStage, Admission::Enters, Admission::Offstage]);
        assert_eq!(hear(1500), [Admission::OnStage, Admission::OnStage, Admission::Offstage]);
        let later = now + Duration::from_millis(1520);
        assert_eq!(room.admit(later, a, Some(alice), Some(127)), Admission::Offstage);
        assert_eq!(room.admit(later, a, Some(alice), Some(60)), Admission::Enters);
    }
}
