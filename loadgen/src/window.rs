//! The time that a throughput is taken over: from when the first message was to be sent to when the
//! last one was done.

/// A span of time, in nanoseconds from the run's start. Empty at first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window(Option<(u64, u64)>);

impl Window {
    /// A span.
    pub fn new(from_ns: u64, to_ns: u64) -> Self {
        Self(Some((from_ns, to_ns)))
    }

    /// Grows so that it has this span in it.
    #[inline]
    pub fn include(&mut self, from_ns: u64, to_ns: u64) {
        let (first, last) = self.0.unwrap_or((from_ns, to_ns));
        self.0 = Some((first.min(from_ns), last.max(to_ns)));
    }

    /// Grows so that it has another one in it.
    pub fn merge(&mut self, other: Self) {
        if let Some((from_ns, to_ns)) = other.0 {
            self.include(from_ns, to_ns);
        }
    }

    /// Grows to this time, if it has begun.
    pub fn extend_to(&mut self, ns: u64) {
        if self.0.is_some() {
            self.include(ns, ns);
        }
    }

    /// Its length.
    pub fn seconds(&self) -> f64 {
        self.0
            .map_or(0.0, |(from, to)| to.saturating_sub(from) as f64 / 1e9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_of_all_is_from_the_first_to_the_last() {
        let mut window = Window::default();
        window.extend_to(50);
        assert_eq!(window, Window::default(), "nothing has begun");
        window.merge(Window::new(5, 9));
        window.merge(Window::new(3, 4));
        window.merge(Window::default());
        assert_eq!(window, Window::new(3, 9));
        window.extend_to(1_000_000_003);
        assert!((window.seconds() - 1.0).abs() < 1e-9);
    }
}
