//! What the processor can do, found at run time and passed to every kernel as a value.

/// A level of vector instructions that kernels are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Isa {
    /// Plain Rust: the reference that every other level is tested against.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// Also the int8 dot product of AVX-512 VNNI (and VL), and where many numbers are multiplied vectors of 512 bits.
    Avx2Vnni,
}

impl Isa {
    /// Every level that kernels are written for, the reference first.
    pub const ALL: [Isa; 3] = [Isa::Scalar, Isa::Avx2, Isa::Avx2Vnni];

    /// The best level of the processor that runs this. With the feature `scalar`, which is for tests, always
    /// [`Isa::Scalar`].
    pub fn detect() -> Isa {
        if cfg!(feature = "scalar") {
            return Isa::Scalar;
        }
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c") {
                if is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512vl") {
                    return Isa::Avx2Vnni;
                }
                return Isa::Avx2;
            }
        }
        Isa::Scalar
    }

    /// Every level that the processor supports, the reference first.
    pub fn available() -> Vec<Isa> {
        Isa::ALL.into_iter().filter(|&i| i <= Isa::detect()).collect()
    }

    /// The level's name, for reports.
    pub const fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx2Vnni => "avx2+vnni",
        }
    }
}
