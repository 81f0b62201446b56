//! llama.cpp's adapter files: names, dimensions and scales as its loader takes them, and what is refused.

use std::path::Path;
use std::sync::Arc;

use porism_formats::adapter::{GgufLora, LowRankPair};
use porism_formats::gguf::{Gguf, GgufHeader, GgufWriter};
use porism_formats::{Storage, Weight};
use porism_kernels::BlockType;

/// What is done to something good.
type Change<'a, T> = &'a dyn Fn(&mut T);

/// A file of zeros with the given changes to a right header.
fn read(edit: impl Fn(&mut GgufHeader)) -> Result<GgufLora, String> {
    let mut header = GgufHeader::new();
    header.set("general.type", "adapter");
    header.set("general.architecture", "llama");
    header.set("adapter.type", "lora");
    header.set("adapter.lora.alpha", 16.0f32);
    edit(&mut header);
    let mut writer = GgufWriter::new(Vec::new(), Path::new("a.gguf"), &header).map_err(|e| e.to_string())?;
    let due: Vec<(String, usize)> = writer.remaining().map(|(name, size)| (name.to_owned(), size)).collect();
    for (name, size) in due {
        writer.write(&name, &vec![0; size]).map_err(|e| e.to_string())?;
    }
    let bytes: Arc<dyn Storage> = Arc::new(writer.finish().map_err(|e| e.to_string())?);
    Gguf::from_bytes(bytes, "a.gguf").and_then(|file| GgufLora::read(&file)).map_err(|e| e.to_string())
}

fn add(header: &mut GgufHeader, base: &str, a: &[u64], b: &[u64]) {
    header.tensor(&format!("{base}.lora_a"), a, BlockType::F32);
    header.tensor(&format!("{base}.lora_b"), b, BlockType::F16);
}

const Q: &str = "blk.0.attn_q.weight";

/// `scale = alpha ? alpha / rank : 1` with the rank of each pair (`llama_adapter_lora_weight::get_scale`).
#[test]
fn scales_are_those_of_llama_cpp() {
    let scales = |alpha: Option<f32>| -> Vec<f32> {
        let file = read(|h| {
            add(h, Q, &[6, 4], &[4, 10]);
            add(h, "blk.0.attn_v.weight", &[6, 8], &[8, 3]);
            h.set("adapter.lora.alpha", alpha.unwrap_or(0.0));
        });
        file.unwrap().pairs.iter().map(|p| p.scale).collect()
    };
    assert_eq!(scales(Some(16.0)), [4.0, 2.0]);
    assert_eq!(scales(None), [1.0, 1.0]);
    let pair = &read(|h| add(h, Q, &[6, 4], &[4, 10])).unwrap().pairs[0];
    assert_eq!((pair.a.rows(), pair.a.cols(), pair.b.rows(), pair.b.cols()), (4, 6, 10, 4));
    // ggml leaves out a last dimension of 1: rank 1.
    let pair = &read(|h| add(h, Q, &[6], &[1, 10])).unwrap().pairs[0];
    assert_eq!((pair.rank(), pair.b.rows(), pair.scale), (1, 10, 16.0));
}

#[test]
fn defects_are_named() {
    let table: [(&str, Change<'_, GgufHeader>); 11] = [
        ("`general.type` is \"model\", not \"adapter\"", &|h| h.set("general.type", "model")),
        ("`adapter.type` is \"ia3\"", &|h| h.set("adapter.type", "ia3")),
        ("`general.type` should hold a UTF-8 string", &|h| h.set("general.type", 1u32)),
        ("aLoRA", &|h| h.set("adapter.alora.invocation_tokens", [1u32].as_slice())),
        ("`adapter.lora.alpha` should hold a float", &|h| h.set("adapter.lora.alpha", "16")),
        ("there are no low-rank pairs", &|_| ()),
        ("not both of A and B", &|h| h.tensor("blk.0.attn_q.weight.lora_a", &[6, 4], BlockType::F32)),
        ("`blk.0.attn_q.bias` is no part of a LoRA", &|h| h.tensor("blk.0.attn_q.bias", &[4], BlockType::F32)),
        ("of different ranks", &|h| add(h, Q, &[6, 4], &[5, 10])),
        ("[6, 4, 2]; two are read", &|h| add(h, Q, &[6, 4, 2], &[4, 10])),
        ("its scale of NaN is no number", &|h| {
            h.set("adapter.lora.alpha", f32::NAN);
            add(h, Q, &[6, 4], &[4, 10]);
        }),
    ];
    for (part, edit) in table {
        let message = read(edit).err().unwrap_or_else(|| panic!("read: {part}"));
        assert!(message.contains(part), "{message} for {part}");
    }
    let file = read(|h| {
        add(h, Q, &[6, 4], &[4, 10]);
        h.tensor("blk.0.attn_norm.weight", &[6], BlockType::F32);
    });
    assert_eq!(file.unwrap().ignored, ["blk.0.attn_norm.weight"], "as llama.cpp does");
}

fn pair(name: &str, rank: usize, scale: f32) -> LowRankPair {
    let numbers = |n: usize| (0..n).map(|i| (i as f32 * 0.37 + rank as f32).sin()).collect::<Vec<f32>>();
    LowRankPair {
        name: name.to_owned(),
        a: Weight::from_f32(&numbers(rank * 3), rank, 3).unwrap(),
        b: Weight::from_f32(&numbers(5 * rank), 5, rank).unwrap(),
        scale,
        magnitude: None,
        embedding: false,
    }
}

/// `scale * B A` by definition, `[out, in]`.
fn change(pair: &LowRankPair) -> Vec<f64> {
    let (a, b, inputs) = (pair.a.to_f32(), pair.b.to_f32(), pair.a.cols());
    let rows = b.chunks_exact(pair.rank());
    rows.flat_map(|b| {
        let a = &a;
        (0..inputs).map(move |j| {
            let sum: f64 = b.iter().enumerate().map(|(r, b)| f64::from(*b) * f64::from(a[r * inputs + j])).sum();
            f64::from(pair.scale) * sum
        })
    })
    .collect()
}

fn round_trip(pairs: &[LowRankPair]) -> (GgufLora, Gguf, tempfile::TempDir) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("a.gguf");
    let adapter =
        GgufLora { architecture: "llama".into(), name: Some("n".into()), pairs: pairs.to_vec(), ..GgufLora::default() };
    adapter.write(&path).unwrap();
    let again = adapter.write(&path).unwrap_err().to_string();
    assert!(again.contains("it exists already"), "{again}");
    (GgufLora::open(&path).unwrap(), Gguf::open(&path).unwrap(), home)
}

#[test]
fn scales_fold_into_one_alpha() {
    // rsLoRA: alpha 6 over the root of rank 4; two alphas and a rank that are other ones; a pair that is switched off.
    let pairs = [
        pair("blk.0.attn_k.weight", 4, 3.0),
        pair("blk.0.attn_q.weight", 4, 3.0),
        pair("blk.0.attn_v.weight", 4, 0.3),
        pair("blk.0.ffn_up.weight", 2, -1.0),
        pair("blk.1.ffn_up.weight", 7, 0.0),
    ];
    let (file, gguf, _home) = round_trip(&pairs);
    assert_eq!(gguf.get_f32("adapter.lora.alpha").unwrap(), 12.0);
    assert_eq!(gguf.get_str("general.type").unwrap(), "adapter");
    assert_eq!(gguf.get_str("adapter.type").unwrap(), "lora");
    assert_eq!((file.architecture.as_str(), file.name.as_deref()), ("llama", Some("n")));
    assert_eq!(gguf.tensor("blk.0.ffn_up.weight.lora_a").unwrap().dims(), [3, 2]);
    assert_eq!(gguf.tensor("blk.0.ffn_up.weight.lora_b").unwrap().dims(), [2, 5]);
    assert_eq!(
        gguf.weight("blk.0.attn_q.weight.lora_b").unwrap().bytes(),
        pairs[1].b.bytes(),
        "the common ones as they are"
    );
    for (was, is) in pairs.iter().zip(&file.pairs) {
        assert_eq!(was.name, is.name);
        for (was, is) in change(was).iter().zip(change(is)) {
            assert!((was - is).abs() <= 1e-6 * was.abs(), "{was} {is}");
        }
    }
    // Alpha 0 would mean a scale of 1.
    let (file, gguf, _home) = round_trip(&[pair(Q, 4, 0.0)]);
    assert_eq!(gguf.get_f32("adapter.lora.alpha").unwrap(), 1.0);
    assert!(change(&file.pairs[0]).iter().all(|v| *v == 0.0));
}

/// The token embedding has A turned: `ne = [rank, vocabulary]` and `[rank, width]`.
#[test]
fn the_embedding_is_turned() {
    let table = LowRankPair { embedding: true, ..pair("token_embd.weight", 2, 1.0) };
    let (file, gguf, _home) = round_trip(std::slice::from_ref(&table));
    assert_eq!(gguf.tensor("token_embd.weight.lora_a").unwrap().dims(), [2, 3]);
    assert_eq!(gguf.tensor("token_embd.weight.lora_b").unwrap().dims(), [2, 5]);
    let a = gguf.weight("token_embd.weight.lora_a").unwrap().to_f32();
    assert_eq!(a[1], table.a.to_f32()[3], "row 0 of the file, column 1: row 1 of A, column 0");
    assert!(file.pairs[0].embedding);
    assert_eq!(file.pairs[0].a.to_f32(), table.a.to_f32());
}

#[test]
fn what_cannot_be_said_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let refused = |pairs: Vec<LowRankPair>| {
        let adapter = GgufLora { architecture: "llama".into(), pairs, ..GgufLora::default() };
        adapter.write(&home.path().join("a.gguf")).unwrap_err().to_string()
    };
    let magnitude = Some(Weight::from_f32(&[1.0; 5], 1, 5).unwrap());
    let dora = refused(vec![LowRankPair { magnitude, ..pair(Q, 4, 1.0) }]);
    assert!(dora.contains("magnitudes (DoRA)") && dora.contains("merge it into the model"), "{dora}");
    assert!(refused(Vec::new()).contains("no low-rank pairs"));
    assert!(refused(vec![pair(Q, 4, f32::INFINITY)]).contains("its scale of inf"));
    assert!(refused(vec![pair(&"x".repeat(60), 4, 1.0)]).contains("longer than 63 bytes"));
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}
