//! The speakers of a room.
use crate::slab::Slab;
use crate::track::Track;
use crate::{Event, RoomId};

#[derive(Debug, Default)]
pub(crate) struct Room {
    pub(crate) peers: usize,
    /// Indices of published audio tracks.
    pub(crate) audio: Vec<u32>,
    /// A timer runs.
    pub(crate) armed: bool,
}

impl Room {
    /// Ends an interval: who changed, if anybody.
    pub(crate) fn poll_speakers(&self, id: RoomId, tracks: &mut Slab<Track>) -> Option<Event> {
        let mut changes = Vec::new();
        for index in &self.audio {
            let Some(track) = tracks.get_mut(*index) else { continue };
            if let Some(change) = track.speaker.poll() {
                changes.push((track.id, change.level, change.active));
            }
        }
        (!changes.is_empty()).then_some(Event::Speakers { room: id, changes })
    }
}
