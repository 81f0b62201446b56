//! Reading candle tensors as plain slices, and making tensors of plain vectors.

use std::cell::Cell;

use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Shape, Storage, StorageRef, Tensor};

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

/// Changes the numbers of a contiguous f32 tensor on the CPU where they lie; gives what `change` gives.
///
/// # Errors
/// The tensor is another one.
pub fn in_place<R>(tensor: &Tensor, change: impl FnOnce(&mut [f32]) -> R) -> Result<R> {
    let (change, result) = (Cell::new(Some(change)), Cell::new(None));
    tensor.inplace_op1(&InPlace(&|values: &mut [f32]| result.set(change.take().map(|change| change(values)))))?;
    match result.into_inner() {
        Some(result) => Ok(result),
        None => input("in-place", "nothing was changed"),
    }
}

struct InPlace<'a>(&'a dyn Fn(&mut [f32]));

impl InplaceOp1 for InPlace<'_> {
    fn name(&self) -> &'static str {
        "in-place"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("{}: the tensor is not contiguous", self.name());
        };
        match storage {
            CpuStorage::F32(values) => (self.0)(&mut values[start..end]),
            _ => candle_core::bail!("{}: the tensor is not F32", self.name()),
        }
        Ok(())
    }
}
