//! Datagrams to be sent, back to back in one buffer.

/// What a peer wants sent, in order. Buffers are reused.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    /// Where each datagram ends.
    ends: Vec<usize>,
}

impl Outbox {
    /// Appends one datagram. Empty ones are ignored.
    pub fn push(&mut self, datagram: &[u8]) {
        if !datagram.is_empty() {
            self.bytes.extend_from_slice(datagram);
            self.ends.push(self.bytes.len());
        }
    }

    /// Every datagram, in order.
    pub fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Forgets what was sent.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_keep_their_order_and_bounds() {
        let mut outbox = Outbox::default();
        for datagram in [&b"one"[..], b"", b"three", b"5"] {
            outbox.push(datagram);
        }
        assert_eq!(outbox.datagrams().collect::<Vec<_>>(), [&b"one"[..], b"three", b"5"]);
        outbox.clear();
        assert!(outbox.is_empty());
        assert_eq!(outbox.datagrams().count(), 0);
    }
}
