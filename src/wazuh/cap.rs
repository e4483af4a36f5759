//! How many events may be unconfirmed at a time.

/// The cap on unconfirmed events: wide open until something is lost, then small and growing back
/// while confirmations come, so that a manager that restarts again and again repeats little.
///
/// A confirmation takes at least 1.2 s, so a manager that processes 15,000 events a second needs
/// some 20,000 under way: the cap must not be small without a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cap {
    limit: usize,
}

impl Cap {
    /// Never more than this, as promised to users.
    pub const WIDEST: usize = 50_000;
    /// After a loss; with it some 2,000 events a second still pass.
    pub const NARROWEST: usize = 2_500;
    /// So many confirmed events widen it by one: by a twentieth in the time of one confirmation,
    /// tenfold in about a minute.
    const GROWTH: usize = 20;

    /// Continues where an earlier run stopped; what [`Cap::save`] did not write is wide open.
    #[must_use]
    pub fn from_saved(saved: Option<&str>) -> Self {
        let limit = saved.and_then(|text| text.trim().parse().ok());
        Self {
            limit: limit.map_or(Self::WIDEST, |limit: usize| {
                limit.clamp(Self::NARROWEST, Self::WIDEST)
            }),
        }
    }

    /// How many events may be unconfirmed now.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// `events` were confirmed.
    pub fn confirmed(&mut self, events: usize) {
        // Rounded up, or batches of fewer than `GROWTH` would never widen it.
        let growth = events.div_ceil(Self::GROWTH);
        self.limit = self.limit.saturating_add(growth).min(Self::WIDEST);
    }

    /// A batch must be sent again.
    pub fn lost(&mut self) {
        self.limit = Self::NARROWEST;
    }

    /// For the ledger.
    #[must_use]
    pub fn save(&self) -> String {
        self.limit.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_open_until_a_loss_and_remembered_across_runs() {
        let mut cap = Cap::from_saved(None);
        assert_eq!(cap.limit(), Cap::WIDEST);
        cap.confirmed(1_000);
        assert_eq!(cap.limit(), Cap::WIDEST);
        cap.lost();
        cap.confirmed(1_000);
        assert_eq!(cap.limit(), Cap::NARROWEST + 50);
        assert_eq!(Cap::from_saved(Some(&cap.save())), cap);
        for odd in ["", "none", "-1", "1", "99999999999"] {
            let limit = Cap::from_saved(Some(odd)).limit();
            assert!((Cap::NARROWEST..=Cap::WIDEST).contains(&limit));
        }
    }

    /// A kill loses all that is unconfirmed, at worst a full cap, and the manager is killed
    /// after each ten thousand events.
    #[test]
    fn twenty_kills_in_a_row_repeat_little_and_calm_opens_it_again() {
        // What is under way at most, whatever the cap: 1.2 s of each rate and a quarter queue.
        for under_way in [2_400 + 4_096, 18_000 + 4_096] {
            let mut cap = Cap::from_saved(None);
            let mut repeated = 0;
            for _ in 0..20 {
                cap.confirmed(10_000);
                repeated += cap.limit().min(under_way);
                cap.lost();
            }
            assert!(repeated <= 20 * 4_000, "{repeated}");
        }
        let mut cap = Cap::from_saved(Some("0"));
        let mut seconds = 0.0;
        while cap.limit() < 22_000 {
            cap.confirmed(cap.limit());
            seconds += 1.3;
        }
        assert!(seconds < 90.0, "{seconds}");
    }
}
