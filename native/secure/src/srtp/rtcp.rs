//! Replay protection of SRTCP: RFC 3711, 3.4 keeps an index per sending SSRC.

use super::replay::ReplayWindow;

/// How many SSRCs are remembered. A peer that sends RTCP from more loses the replay protection of the one that was
/// silent longest; only packets that authenticate get this far, so nobody else can push an SSRC out.
const MAX_SOURCES: usize = 64;

/// The windows of all SSRCs of one peer, most recently used first: nearly every packet finds its own at once.
#[derive(Default)]
pub(super) struct RtcpSources(Vec<(u32, ReplayWindow)>);

impl RtcpSources {
    pub(super) fn is_fresh(&self, ssrc: u32, index: u32) -> bool {
        self.0.iter().find(|(known, _)| *known == ssrc).is_none_or(|(_, window)| window.is_fresh(u64::from(index)))
    }

    pub(super) fn accept(&mut self, ssrc: u32, index: u32) {
        let at = match self.0.iter().position(|(known, _)| *known == ssrc) {
            Some(at) => at,
            None => {
                if self.0.len() == MAX_SOURCES {
                    self.0.pop();
                }
                self.0.push((ssrc, ReplayWindow::default()));
                self.0.len() - 1
            }
        };
        self.0[at].1.accept(u64::from(index));
        self.0[..=at].rotate_right(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_kept_per_ssrc_and_bounded() {
        let mut sources = RtcpSources::default();
        for ssrc in 0..1000 {
            assert!(sources.is_fresh(ssrc, 7));
            sources.accept(ssrc, 7);
            assert!(!sources.is_fresh(ssrc, 7));
            assert!(sources.is_fresh(ssrc, 8));
        }
        assert_eq!(sources.0.len(), MAX_SOURCES);
        assert!(!sources.is_fresh(999, 7));
    }
}
