//! A number that stays whole as long as it can.

use serde::{Serialize, Serializer};

/// A whole number, or a real one where division, powers or size leave no other way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// Exactly this.
    Whole(i128),
    /// As near as 64 bits get.
    Real(f64),
}

impl Amount {
    /// The number as a real one.
    pub fn real(self) -> f64 {
        match self {
            Amount::Whole(n) => n as f64,
            Amount::Real(x) => x,
        }
    }

    /// The whole number, if it is one and fits.
    pub fn whole(self) -> Option<u64> {
        match self {
            Amount::Whole(n) => u64::try_from(n).ok(),
            Amount::Real(_) => None,
        }
    }

    /// The number rounded to a whole one that is not negative, as sizes are.
    pub fn rounded(self) -> u64 {
        match self {
            Amount::Whole(n) => u64::try_from(n.max(0)).unwrap_or(u64::MAX),
            Amount::Real(x) => x.round().max(0.0) as u64,
        }
    }

    pub(crate) fn add(self, other: Amount) -> Amount {
        self.both(other, i128::checked_add, |a, b| a + b)
    }

    pub(crate) fn sub(self, other: Amount) -> Amount {
        self.both(other, i128::checked_sub, |a, b| a - b)
    }

    pub(crate) fn mul(self, other: Amount) -> Amount {
        self.both(other, i128::checked_mul, |a, b| a * b)
    }

    /// Whole where nothing is left over.
    pub(crate) fn div(self, other: Amount) -> Amount {
        let exact = |a: i128, b: i128| (b != 0 && a % b == 0).then(|| a / b);
        self.both(other, exact, |a, b| a / b)
    }

    pub(crate) fn pow(self, other: Amount) -> Amount {
        let exact = |a: i128, b: i128| a.checked_pow(u32::try_from(b).ok()?);
        self.both(other, exact, f64::powf)
    }

    fn both(self, other: Amount, exact: impl Fn(i128, i128) -> Option<i128>, near: impl Fn(f64, f64) -> f64) -> Amount {
        match (self, other) {
            (Amount::Whole(a), Amount::Whole(b)) => {
                exact(a, b).map_or_else(|| Amount::Real(near(a as f64, b as f64)), Amount::Whole)
            }
            (a, b) => Amount::Real(near(a.real(), b.real())),
        }
    }
}

impl From<u64> for Amount {
    fn from(n: u64) -> Amount {
        Amount::Whole(n.into())
    }
}

impl From<f64> for Amount {
    /// A real number that is a whole one counts as such.
    fn from(x: f64) -> Amount {
        if x.fract() == 0.0 && x.abs() < 1e30 { Amount::Whole(x as i128) } else { Amount::Real(x) }
    }
}

impl Serialize for Amount {
    /// As a number of JSON: whole up to 64 bits.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Amount::Whole(n) => match (u64::try_from(n), i64::try_from(n)) {
                (Ok(n), _) => serializer.serialize_u64(n),
                (_, Ok(n)) => serializer.serialize_i64(n),
                _ => serializer.serialize_f64(n as f64),
            },
            Amount::Real(x) => serializer.serialize_f64(x),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_whole_as_long_as_they_can() {
        let whole = |n: i128| Amount::Whole(n);
        assert_eq!(whole(6).div(whole(3)), whole(2));
        assert_eq!(whole(7).div(whole(2)), Amount::Real(3.5));
        assert_eq!(whole(2).pow(whole(-1)), Amount::Real(0.5));
        assert_eq!(whole(i128::MAX).add(whole(1)), Amount::Real(i128::MAX as f64));
        assert_eq!(whole(1).div(whole(0)), Amount::Real(f64::INFINITY));
        assert_eq!(Amount::from(1e3), whole(1000));
        assert_eq!(whole(-3).rounded(), 0);
    }

    #[test]
    fn json_numbers_are_whole_up_to_64_bits() {
        let json = |a: Amount| serde_json::to_string(&a).expect("a number");
        assert_eq!(json(Amount::Whole(u64::MAX.into())), u64::MAX.to_string());
        assert_eq!(json(Amount::Whole(-5)), "-5");
        assert_eq!(json(Amount::Whole(1 << 100)), "1.2676506002282294e+30");
        assert_eq!(json(Amount::Real(12.5)), "12.5");
    }
}
