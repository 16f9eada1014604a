//! Values at stable places, named by keys that outlive them: a key whose value was removed finds nothing, also when its
//! place is in use again. So a packet that waits, or a remembered one, needs no looking after when its stream goes.
use std::ops::{Index, IndexMut};

/// Names one value of one slab for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    slot: u32,
    generation: u32,
}

impl Key {
    /// Finds nothing.
    pub(crate) const NOWHERE: Key = Key { slot: u32::MAX, generation: 0 };

    /// The place, for tables beside the slab. It is used again after the value is removed.
    pub(crate) fn slot(self) -> usize {
        self.slot as usize
    }
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

#[derive(Debug)]
pub(crate) struct Slab<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { entries: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub(crate) fn insert(&mut self, value: T) -> Key {
        match self.free.pop() {
            Some(slot) => {
                let entry = &mut self.entries[slot as usize];
                entry.value = Some(value);
                Key { slot, generation: entry.generation }
            }
            None => {
                self.entries.push(Entry { generation: 0, value: Some(value) });
                Key { slot: (self.entries.len() - 1) as u32, generation: 0 }
            }
        }
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let entry = self.entries.get_mut(key.slot()).filter(|entry| entry.generation == key.generation)?;
        let value = entry.value.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(key.slot);
        Some(value)
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        self.entries.get(key.slot()).filter(|entry| entry.generation == key.generation)?.value.as_ref()
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.entries.get_mut(key.slot()).filter(|entry| entry.generation == key.generation)?.value.as_mut()
    }

    /// The keys of all values.
    pub(crate) fn keys(&self) -> Vec<Key> {
        let present = self.entries.iter().enumerate().filter(|(_, entry)| entry.value.is_some());
        present.map(|(slot, entry)| Key { slot: slot as u32, generation: entry.generation }).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }
}

/// For keys whose owner keeps the value alive.
impl<T> Index<Key> for Slab<T> {
    type Output = T;

    fn index(&self, key: Key) -> &T {
        self.get(key).expect("a key whose value is kept")
    }
}

impl<T> IndexMut<Key> for Slab<T> {
    fn index_mut(&mut self, key: Key) -> &mut T {
        self.get_mut(key).expect("a key whose value is kept")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_never_finds_the_next_value_at_its_place() {
        let mut slab = Slab::default();
        let first = slab.insert('a');
        assert_eq!(slab.remove(first), Some('a'));
        let second = slab.insert('b');
        assert_eq!(second.slot(), first.slot());
        assert_eq!((slab.get(first), slab.get(second), slab.get(Key::NOWHERE)), (None, Some(&'b'), None));
        assert_eq!((slab.remove(first), slab.len(), slab.keys()), (None, 1, vec![second]));
    }
}
