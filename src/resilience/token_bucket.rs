//! How often something may happen: a bucket that fills at a steady rate and holds one second's worth.

use tokio::time::Instant;

/// Permits an event up to a number of times a second.
#[derive(Debug)]
pub struct TokenBucket {
    per_second: f64,
    tokens: f64,
    filled: Instant,
}

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        Self { per_second: per_second.into(), tokens: per_second.into(), filled: Instant::now() }
    }

    /// Whether nothing has happened for so long that it is as good as new.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.level(Instant::now()) >= self.per_second
    }

    /// Whether it would not permit anything now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.level(Instant::now()) < 1.0
    }

    fn level(&self, now: Instant) -> f64 {
        let filled = self.tokens + (now - self.filled).as_secs_f64() * self.per_second;
        filled.min(self.per_second)
    }

    /// Whether it may happen now; if so, it counts.
    pub fn permits(&mut self) -> bool {
        let now = Instant::now();
        self.tokens = self.level(now);
        self.filled = now;
        let permitted = self.tokens >= 1.0;
        if permitted {
            self.tokens -= 1.0;
        }
        permitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_second_holds_so_many() {
        let mut rate = TokenBucket::new(5);
        let permitted = |rate: &mut TokenBucket| (0..100).filter(|_| rate.permits()).count();
        assert_eq!(permitted(&mut rate), 5);
        tokio::time::advance(Duration::from_millis(400)).await;
        assert_eq!(permitted(&mut rate), 2);
        assert!(!rate.is_full() && rate.is_empty());
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert!(rate.is_full());
        assert_eq!(permitted(&mut rate), 5);
    }
}
