//! How the learning rate goes over a run: the schedules of transformers' `get_{constant,linear,cosine}_schedule_with_warmup`.

use serde::{Deserialize, Serialize};

/// How the learning rate goes on after it has risen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// It stays.
    #[default]
    Constant,
    /// It falls in a straight line to zero at the end.
    Linear,
    /// It falls along half a cosine to zero at the end (Loshchilov and Hutter 2017, without restarts).
    Cosine,
}

impl Schedule {
    /// What the highest learning rate is multiplied with at update `step` of `total`, the first being 0. Over the first
    /// `warmup` updates it rises in a straight line from zero: the first of them changes nothing.
    pub fn factor(self, step: u64, total: u64, warmup: u64) -> f64 {
        if step < warmup {
            return step as f64 / warmup as f64;
        }
        let falling = total.saturating_sub(warmup).max(1) as f64;
        match self {
            Schedule::Constant => 1.0,
            Schedule::Linear => total.saturating_sub(step) as f64 / falling,
            Schedule::Cosine => {
                // Beyond the end a cosine would rise again, which transformers lets it do.
                let progress = ((step - warmup) as f64 / falling).min(1.0);
                0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
            }
        }
    }
}
