//! Attention over packed spans.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp3, Layout, Shape, Tensor};
use porism_kernels::attention::backward::{DenseGradients, dense_backward};
use porism_kernels::attention::dense::{Dense, DenseSpan, dense_forward};

use crate::error::input;
use crate::tensor::{Numbers, output, rows_and_width, slice, tensor};
use crate::{OpContext, Result};

/// `softmax(scale * Q K^T) V` within each span. Shapes: q `[tokens, heads * head_dim]`, k and v
/// `[entries, kv_heads * head_dim]`; the result has q's. Rows outside the spans are zero.
pub fn attention(
    context: &OpContext,
    spec: &Dense,
    spans: &[DenseSpan],
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
) -> Result<Tensor> {
    const OP: &str = "attention";
    let (q, tokens, q_width) = rows_and_width(OP, q)?;
    let (k, entries, k_width) = rows_and_width(OP, k)?;
    let (v, v_rows, v_width) = rows_and_width(OP, v)?;
    if spec.head_dim == 0 || spec.kv_heads == 0 || spec.heads == 0 || !spec.heads.is_multiple_of(spec.kv_heads) {
        let Dense { heads, kv_heads, head_dim, .. } = spec;
        return input(OP, format!("{heads} query heads over {kv_heads} key heads of {head_dim} features"));
    }
    if q_width != spec.q_width() || k_width != spec.kv_width() || v_width != k_width || v_rows != entries {
        let (q, k, v) = (q.dims(), k.dims(), v.dims());
        return input(
            OP,
            format!("q is {q:?}, k {k:?}, v {v:?} where rows of {}, {} were due", spec.q_width(), spec.kv_width()),
        );
    }
    let (mut row, mut entry) = (0, 0);
    for span in spans {
        let DenseSpan { queries, keys, .. } = span;
        if !span.is_sound() || queries.start < row || keys.start < entry {
            return input(OP, format!("rows {queries:?}, keys {keys:?} overlap another span or see what is not there"));
        }
        (row, entry) = (queries.end, keys.end);
    }
    if row > tokens || entry > entries {
        return input(OP, format!("the spans end at row {row} of {tokens}, entry {entry} of {entries}"));
    }
    let op =
        Attention { context: context.clone(), spec: spec.clone(), spans: spans.to_vec(), log_sums: OnceLock::new() };
    Ok(q.apply_op3(&k, &v, op)?)
}

struct Attention {
    context: OpContext,
    spec: Dense,
    spans: Vec<DenseSpan>,
    /// Log-sum-exp of each row and head, left by the forward pass for the backward: a custom operation
    /// has one result and nowhere else to put a second.
    log_sums: OnceLock<Vec<f32>>,
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let q = slice(self.name(), s1, l1)?;
        let (k, v) = (slice(self.name(), s2, l2)?, slice(self.name(), s3, l3)?);
        let (mut out, mut log_sums) = (vec![0.0; q.len()], vec![0.0; q.len() / self.spec.head_dim]);
        let OpContext { pool, isa } = &self.context;
        dense_forward(pool, *isa, &self.spec, &self.spans, q, k, v, &mut out, &mut log_sums);
        // Set once: an operation value is applied once.
        let _ = self.log_sums.set(log_sums);
        Ok(output(out, l1.shape()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        out: &Tensor,
        dout: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let Some(log_sums) = self.log_sums.get() else {
            candle_core::bail!("attention: backward without a forward pass");
        };
        let dout = dout.contiguous()?;
        let [qs, ks, vs, outs, douts] = [q, k, v, out, &dout].map(Numbers::of);
        let mut gradients = [q, k, v].map(|t| t.track_op().then(|| vec![0.0; t.elem_count()]));
        let [dq, dk, dv] = &mut gradients;
        let OpContext { pool, isa } = &self.context;
        dense_backward(
            pool,
            *isa,
            &self.spec,
            &self.spans,
            qs.slice(self.name())?,
            ks.slice(self.name())?,
            vs.slice(self.name())?,
            outs.slice(self.name())?,
            log_sums,
            douts.slice(self.name())?,
            DenseGradients { dq: dq.as_deref_mut(), dk: dk.as_deref_mut(), dv: dv.as_deref_mut() },
        );
        let [dq, dk, dv] = gradients;
        let wrap = |d: Option<Vec<f32>>, t: &Tensor| d.map(|d| tensor(d, t.shape())).transpose();
        Ok((wrap(dq, q)?, wrap(dk, k)?, wrap(dv, v)?))
    }
}
