//! Reading candle tensors as plain slices, and making tensors of plain vectors.

use candle_core::{CpuStorage, DType, Device, Layout, Shape, Storage, StorageRef, Tensor};

use crate::Result;
use crate::error::input;

/// The f32 numbers of a contiguous CPU tensor, for as long as this is held.
pub(crate) struct Numbers<'a> {
    storage: StorageRef<'a>,
    layout: &'a Layout,
}

impl<'a> Numbers<'a> {
    /// A view of `tensor`, which must be contiguous (see [`rows_and_width`]).
    pub(crate) fn of(tensor: &'a Tensor) -> Numbers<'a> {
        let (storage, layout) = tensor.storage_and_layout();
        Numbers { storage, layout }
    }

    /// The numbers, row-major.
    pub(crate) fn slice(&self, op: &'static str) -> candle_core::Result<&[f32]> {
        match &*self.storage {
            Storage::Cpu(storage) => slice(op, storage, self.layout),
            _ => candle_core::bail!("{op}: the tensor is not on the CPU"),
        }
    }
}

/// The numbers of a custom operation's input.
pub(crate) fn slice<'a>(op: &'static str, storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        candle_core::bail!("{op}: an input is not contiguous");
    };
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// Checks that a tensor is f32 `[rows, width]` and makes it contiguous; gives rows and width with it.
pub(crate) fn rows_and_width(op: &'static str, tensor: &Tensor) -> Result<(Tensor, usize, usize)> {
    let &[rows, width] = tensor.dims() else {
        return input(op, format!("an input is {:?}, not [rows, width]", tensor.dims()));
    };
    if tensor.dtype() != DType::F32 {
        return input(op, format!("an input is {:?}, not F32", tensor.dtype()));
    }
    // A copy is itself on the tape, so the gradient finds its way back through the strides.
    Ok((tensor.contiguous()?, rows, width))
}

/// The result of a custom operation.
pub(crate) fn output(values: Vec<f32>, shape: impl Into<Shape>) -> (CpuStorage, Shape) {
    (CpuStorage::F32(values), shape.into())
}

/// A plain tensor on the CPU.
pub(crate) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> candle_core::Result<Tensor> {
    Tensor::from_vec(values, shape.into(), &Device::Cpu)
}
