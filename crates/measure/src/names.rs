//! Modes of the executor by the names that flags and reports use, for serde.

use porism_models::cpu::{Activations, KvType};
use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

fn find<'de, D: Deserializer<'de>, T: Copy>(
    from: D,
    all: &[T],
    name: impl Fn(T) -> &'static str,
) -> Result<T, D::Error> {
    let given = String::deserialize(from)?;
    let known = || all.iter().map(|&t| name(t)).collect::<Vec<_>>().join(", ");
    all.iter()
        .copied()
        .find(|&t| name(t) == given)
        .ok_or_else(|| D::Error::custom(format!("\"{given}\" is none of {}", known())))
}

/// `#[serde(with = "names::kv_type")]`.
pub(crate) mod kv_type {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(kind: &KvType, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(kind.name())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<KvType, D::Error> {
        find(from, &KvType::ALL, KvType::name)
    }
}

/// `#[serde(with = "names::activations")]`.
pub(crate) mod activations {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(mode: &Activations, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(mode.name())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Activations, D::Error> {
        find(from, &[Activations::F32, Activations::Int8], Activations::name)
    }
}
