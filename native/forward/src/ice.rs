//! ICE-lite (RFC 8445, 2.5): answer authenticated checks, learn addresses from them, follow nominations.
use std::time::Instant;

use crate::Path;

/// Addresses kept per peer: every interface of a client times our addresses, and some for those it lost.
const MAX_PATHS: usize = 16;
/// A nominated path is left for another working one after this silence, of checks and of media. Clients that lose an
/// interface nominate again within seconds; media should not wait for it.
const SILENT: std::time::Duration = std::time::Duration::from_secs(3);

/// One pair of local credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) ufrag: String,
    pub(crate) pwd: String,
}

/// What a check changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Learned {
    /// The path is new.
    pub(crate) added: bool,
    /// This one had to go for it.
    pub(crate) evicted: Option<Path>,
    /// The first check with new credentials ended these.
    pub(crate) retired: Option<Credentials>,
}

/// The ICE agent of one peer.
#[derive(Debug)]
pub(crate) struct IceLite {
    current: Credentials,
    previous: Option<Credentials>,
    paths: Vec<(Path, Instant)>,
    selected: Option<Path>,
    /// When anything authentic came on the selected path.
    heard: Option<Instant>,
}

impl IceLite {
    pub(crate) fn new(credentials: Credentials) -> Self {
        IceLite { current: credentials, previous: None, paths: Vec::new(), selected: None, heard: None }
    }

    /// New credentials; the old ones stay good until a check with the new ones. Returns what is not good any more.
    pub(crate) fn restart(&mut self, credentials: Credentials) -> Option<Credentials> {
        if credentials == self.current {
            return None;
        }
        let old = std::mem::replace(&mut self.current, credentials);
        self.previous.replace(old)
    }

    /// The password for a user fragment of ours.
    pub(crate) fn password(&self, ufrag: &str) -> Option<&str> {
        let all = std::iter::once(&self.current).chain(&self.previous);
        all.into_iter().find(|c| c.ufrag == ufrag).map(|c| c.pwd.as_str())
    }

    /// All user fragments that lead here.
    pub(crate) fn ufrags(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.current).chain(&self.previous).map(|c| c.ufrag.as_str())
    }

    /// All paths that passed a check.
    pub(crate) fn paths(&self) -> impl Iterator<Item = Path> {
        self.paths.iter().map(|(path, _)| *path)
    }

    /// Where to send.
    pub(crate) fn selected(&self) -> Option<Path> {
        self.selected
    }

    /// A check passed on this path. `nominated`: it carried USE-CANDIDATE.
    pub(crate) fn checked(&mut self, now: Instant, path: Path, ufrag: &str, nominated: bool) -> Learned {
        let mut learned = Learned::default();
        if ufrag == self.current.ufrag {
            learned.retired = self.previous.take();
        }
        match self.paths.iter_mut().find(|(known, _)| *known == path) {
            Some(entry) => entry.1 = now,
            None => {
                if self.paths.len() >= MAX_PATHS {
                    let selected = self.selected;
                    let oldest = (0..self.paths.len())
                        .filter(|i| Some(self.paths[*i].0) != selected)
                        .min_by_key(|i| self.paths[*i].1);
                    learned.evicted = oldest.map(|index| self.paths.swap_remove(index).0);
                }
                self.paths.push((path, now));
                learned.added = true;
            }
        }
        self.note_heard(now, path);
        if nominated || self.heard.is_none_or(|at| now > at + SILENT) {
            self.selected = Some(path);
            self.heard = Some(now);
        }
        learned
    }

    /// Whether a path is the one in use, and not silent.
    pub(crate) fn uses(&self, now: Instant, path: Path) -> bool {
        self.selected == Some(path) && self.heard.is_some_and(|at| now <= at + SILENT)
    }

    /// Something authentic came on a path.
    #[inline]
    pub(crate) fn note_heard(&mut self, now: Instant, path: Path) {
        if self.selected == Some(path) {
            self.heard = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn path(port: u16) -> Path {
        Path { local: 0, remote: ([10, 0, 0, 1], port).into() }
    }

    fn credentials(n: u8) -> Credentials {
        Credentials { ufrag: format!("u{n}"), pwd: format!("p{n}") }
    }

    #[test]
    fn the_first_path_serves_until_another_is_nominated() {
        let now = Instant::now();
        let mut ice = IceLite::new(credentials(1));
        assert!(ice.checked(now, path(1), "u1", false).added);
        assert!(ice.checked(now, path(2), "u1", false).added);
        assert_eq!(ice.selected(), Some(path(1)));
        ice.checked(now, path(2), "u1", true);
        assert_eq!(ice.selected(), Some(path(2)));
        ice.checked(now + Duration::from_secs(4), path(1), "u1", false);
        assert_eq!(ice.selected(), Some(path(1)), "the nominated path fell silent");
        ice.note_heard(now + Duration::from_secs(8), path(1));
        assert!(ice.uses(now + Duration::from_secs(11), path(1)) && !ice.uses(now + Duration::from_secs(8), path(2)));
        assert!(!ice.uses(now + Duration::from_secs(12), path(1)));
        ice.checked(now + Duration::from_secs(9), path(2), "u1", false);
        assert_eq!(ice.selected(), Some(path(1)), "media flows on it");
    }

    #[test]
    fn old_credentials_end_with_the_first_check_on_the_new_ones() {
        let now = Instant::now();
        let mut ice = IceLite::new(credentials(1));
        assert_eq!(ice.restart(credentials(2)), None);
        assert_eq!((ice.password("u1"), ice.password("u2"), ice.password("u3")), (Some("p1"), Some("p2"), None));
        assert_eq!(ice.checked(now, path(1), "u1", false).retired, None);
        assert_eq!(ice.checked(now, path(1), "u2", false).retired, Some(credentials(1)));
        assert_eq!(ice.password("u1"), None);
    }

    #[test]
    fn paths_are_bounded_and_the_selected_one_stays() {
        let now = Instant::now();
        let mut ice = IceLite::new(credentials(1));
        for port in 0..40 {
            ice.checked(now + Duration::from_millis(u64::from(port)), path(port), "u1", false);
        }
        assert_eq!(ice.paths().count(), MAX_PATHS);
        assert!(ice.paths().any(|p| p == path(0)));
    }
}
