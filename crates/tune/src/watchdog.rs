//! The watchdog: stops a run whose loss is no number, or leaves for good.

/// What is wrong with a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Alarm {
    /// The loss or the gradient is no finite number.
    NotFinite,
    /// The loss has been far above its best for long.
    Diverged {
        /// The lowest smoothed loss so far.
        best: f64,
        /// The smoothed loss now.
        now: f64,
    },
}

/// Watches the losses of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Watchdog {
    smooth: Option<f64>,
    best: f64,
    bad: u32,
}

/// Weight of the newest loss in the smoothed one.
const NEWEST: f64 = 0.1;
/// How far above its best the smoothed loss may be, in nats.
const FAR: f64 = 2.0;
/// For how many updates in a row.
const LONG: u32 = 20;

impl Default for Watchdog {
    fn default() -> Watchdog {
        Watchdog { smooth: None, best: f64::INFINITY, bad: 0 }
    }
}

impl Watchdog {
    /// Takes the next update's loss and gradient; tells if the run has to end.
    pub fn see(&mut self, loss: f64, grad_norm: f64) -> Option<Alarm> {
        if !loss.is_finite() || !grad_norm.is_finite() {
            return Some(Alarm::NotFinite);
        }
        let now = self.smooth.map_or(loss, |before| before + NEWEST * (loss - before));
        self.smooth = Some(now);
        self.best = self.best.min(now);
        self.bad = if now > self.best + FAR { self.bad + 1 } else { 0 };
        (self.bad >= LONG).then_some(Alarm::Diverged { best: self.best, now })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_borne_and_divergence_is_not() {
        let mut dog = Watchdog::default();
        for i in 0..200 {
            assert_eq!(dog.see(3.0 + f64::from(i % 7) * 0.4, 1.0), None);
        }
        let mut calm = dog;
        assert_eq!(calm.see(40.0, 1.0), None, "one outlier");
        let alarm = (0..200).find_map(|_| dog.see(9.0, 1.0)).expect("an alarm");
        assert!(matches!(alarm, Alarm::Diverged { best, now } if best < 5.0 && now > best + 2.0));
        assert_eq!(calm.see(f64::NAN, 1.0), Some(Alarm::NotFinite));
        assert_eq!(calm.see(1.0, f64::INFINITY), Some(Alarm::NotFinite));
    }
}
