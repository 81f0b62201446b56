//! Writes every tensor of a GGUF file as little-endian f32, in the file's order, to a file or pipe:
//! `dequantize MODEL.gguf OUT`. `scripts/fixtures/compare_model.py` compares that with the Python
//! package `gguf`.

use std::io::Write;
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, model, out] = &arguments[..] else {
        return Err("usage: dequantize MODEL.gguf OUT".into());
    };
    let start = std::time::Instant::now();
    let model = porism_formats::Gguf::open(Path::new(model))?;
    let opened = start.elapsed();
    let mut out = std::io::BufWriter::new(std::fs::File::create(out)?);
    for tensor in model.tensors() {
        for value in model.weight(tensor.name())?.to_f32() {
            out.write_all(&value.to_le_bytes())?;
        }
    }
    out.flush()?;
    let seconds = start.elapsed().as_secs_f64();
    writeln!(std::io::stderr(), "opened in {opened:?}, decoded in {seconds:.2} s")?;
    Ok(())
}
