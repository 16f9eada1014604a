//! Instants as other programs on this machine see them.

use std::sync::OnceLock;
use std::time::Instant;

/// Microseconds of CLOCK_MONOTONIC, which is Python's `time.monotonic`.
pub(crate) fn monotonic_us(at: Instant) -> i64 {
    static ORIGIN: OnceLock<(Instant, i64)> = OnceLock::new();
    let (origin, ns) = *ORIGIN.get_or_init(|| (Instant::now(), now_ns()));
    let ns = match at.checked_duration_since(origin) {
        Some(after) => ns + after.as_nanos() as i64,
        None => ns - origin.duration_since(at).as_nanos() as i64,
    };
    ns / 1000
}

fn now_ns() -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to a structure on this stack. The clock exists on every Linux, so that the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn instants_are_on_the_monotonic_clock() {
        let at = Instant::now();
        let before = monotonic_us(at);
        assert!((before - 1_000_000..=before + 1_000_000).contains(&(now_ns() / 1000)), "{before}");
        assert_eq!(monotonic_us(at + Duration::from_secs(1)) - monotonic_us(at), 1_000_000);
    }
}
