//! Dropout whose mask follows from a key, so that a block that runs a second time drops the same numbers.

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};

use crate::Result;
use crate::error::input;
use crate::tensor::{Numbers, output, rows_and_width, slice, tensor};

/// Zeroes each number with probability `share` and divides the others by `1 - share`, so that means stay (Srivastava et al. 2014,
/// in the inverted form that every library has); x `[n, width]`. What is dropped depends on the key and the place alone.
///
/// # Errors
/// The share is not from 0 to below 1.
pub fn dropout(x: &Tensor, share: f32, key: u64) -> Result<Tensor> {
    if !(0.0..1.0).contains(&share) {
        return input("dropout", format!("a share of {share} is not from 0 to below 1"));
    }
    let (x, ..) = rows_and_width("dropout", x)?;
    Ok(x.apply_op1(Dropout { share, key })?)
}

struct Dropout {
    share: f32,
    key: u64,
}

impl Dropout {
    fn apply(&self, numbers: &mut [f32]) {
        // Numbers below it are dropped; of 2^32, so that rounding of the share does not show.
        let bound = (f64::from(self.share) * 4_294_967_296.0) as u64;
        let scale = 1.0 / (1.0 - self.share);
        for (place, number) in numbers.iter_mut().enumerate() {
            let drawn = mixed(self.key.wrapping_add((place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))) >> 32;
            *number *= if drawn < bound { 0.0 } else { scale };
        }
    }
}

/// The finalizer of SplitMix64 (Steele et al. 2014).
fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl CustomOp1 for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let mut y = slice(self.name(), s, l)?.to_vec();
        self.apply(&mut y);
        Ok(output(y, l.shape()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let dy = dy.contiguous()?;
        let mut dx = Numbers::of(&dy).slice(self.name())?.to_vec();
        self.apply(&mut dx);
        Ok(Some(tensor(dx, x.shape())?))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::inner_product;

    fn dropped(share: f32, key: u64, n: usize) -> Vec<f32> {
        let ones = Tensor::ones((n / 8, 8), candle_core::DType::F32, &Device::Cpu).unwrap();
        dropout(&ones, share, key).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    /// The share that is dropped lies within five standard deviations of what was asked for, and neighbours are independent.
    #[test]
    fn as_many_are_dropped_as_asked() {
        let n = 80_000;
        for share in [0.05f32, 0.5, 0.9] {
            let values = dropped(share, 7, n);
            let kept = 1.0 / (1.0 - share);
            assert!(values.iter().all(|&v| v == 0.0 || v == kept));
            let zeros = values.iter().filter(|&&v| v == 0.0).count() as f64;
            let (p, n) = (f64::from(share), n as f64);
            assert!((zeros - p * n).abs() < 5.0 * (p * (1.0 - p) * n).sqrt(), "{share}: {zeros}");
            let both = values.windows(2).filter(|w| w[0] == 0.0 && w[1] == 0.0).count() as f64;
            assert!((both - p * p * n).abs() < 6.0 * (p * p * (1.0 - p * p) * n).sqrt(), "{share}: {both}");
        }
    }

    #[test]
    fn the_key_decides() {
        assert_eq!(dropped(0.3, 1, 800), dropped(0.3, 1, 800));
        assert_ne!(dropped(0.3, 1, 800), dropped(0.3, 2, 800));
        assert_eq!(dropped(0.0, 1, 800), vec![1.0; 800]);
        assert!(dropout(&Tensor::ones((1, 1), candle_core::DType::F32, &Device::Cpu).unwrap(), 1.0, 0).is_err());
    }

    /// Of `sum(dropout(x) * g)` the gradient is g, dropped alike.
    #[test]
    fn the_gradient_is_dropped_alike() {
        let wave = |n: usize, f: f32| -> Vec<f32> { (0..n).map(|i| (i as f32 * f).sin()).collect() };
        let x = Var::from_vec(wave(24, 0.3), (3, 8), &Device::Cpu).unwrap();
        let g = Tensor::from_vec(wave(24, 0.7), (3, 8), &Device::Cpu).unwrap();
        let y = dropout(x.as_tensor(), 0.4, 5).unwrap();
        let gradient = inner_product(&y, &g).unwrap().backward().unwrap().remove(x.as_tensor()).unwrap();
        let gradient: Vec<f32> = gradient.flatten_all().unwrap().to_vec1().unwrap();
        let mask = dropped(0.4, 5, 24);
        for ((d, m), g) in gradient.iter().zip(mask).zip(wave(24, 0.7)) {
            assert_eq!(*d, m * g);
        }
    }
}
