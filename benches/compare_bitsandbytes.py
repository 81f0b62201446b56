"""Matrices in four bits by bitsandbytes and by `porism convert`, and models of them by transformers and by porism.

    pip install bitsandbytes accelerate transformers torch safetensors
    porism convert MODEL.gguf -o FOLDER --to f32
    python benches/compare_bitsandbytes.py --porism target/release/porism --folder FOLDER --text TEXT.txt \\
        [--windows 2] [--threads 2] >> results.jsonl

FOLDER is a model in f32. For NF4 and FP4, each without and with double quantization, it prints a line of JSON: of how
many matrices the places, the scales and the nested scales are the same bytes; how far transformers with bitsandbytes, on
the folder that porism wrote, is from transformers on the weights that porism decodes from it; the perplexity of a text by
both programs; and of how many matrices porism decodes the same from a folder that transformers saved. bitsandbytes runs on the CPU.

The mean of a matrix's scales, around which they are nested, is summed by PyTorch in an order of its own. Where it is not
the same f32, nested scales are compared around bitsandbytes' mean too, by porism's rule written in numpy.
"""

import argparse
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import time

# This folder has a profile.py, which would stand before Python's own.
sys.path = [path for path in sys.path if os.path.abspath(path) != os.path.dirname(os.path.abspath(__file__))]
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import bitsandbytes.functional as F  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from safetensors import safe_open  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig  # noqa: E402

CONTEXT, STRIDE = 1024, 512


def tensors(folder):
    """Every tensor of a folder by name."""
    found = {}
    for path in sorted(pathlib.Path(folder).glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            found.update({name: file.get_tensor(name) for name in file.keys()})
    return found


def same(a, b):
    return bool(torch.equal(a.view(torch.uint8), b.view(torch.uint8)))


def nested_rule(scales, offset):
    """The codes of scales around a mean: the place of 65,536 that a scale is nearest to, and the map's nearest value."""
    level = F.create_dynamic_map().numpy().astype(np.float64)
    borders = (level[:-1] + level[1:]) / 2
    codes = []
    for block in np.split(scales - offset, range(256, len(scales), 256)):
        largest = np.abs(block).max()
        place = np.floor((block * (np.float32(1) / largest) + np.float32(1)) * np.float32(32767.5) + np.float32(0.5))
        codes.append(np.searchsorted(borders, place.astype(np.float64) / 32767.5 - 1, side="left"))
    return np.concatenate(codes).astype(np.uint8)


def matrices(folder, source, kind, double):
    """Compares every packed matrix of a folder with what bitsandbytes makes of the source's."""
    ours, state_key = tensors(folder), f".quant_state.bitsandbytes__{kind}"
    names = [name[: -len(state_key)] for name in ours if name.endswith(state_key)]
    row = {"matrices": len(names), "same_places": 0, "same_scales": 0, "same_tables": 0}
    if double:
        row.update({"same_nested_scales": 0, "same_means": 0, "scales": 0, "other_codes": 0, "other_codes_around_their_mean": 0})
    for name in names:
        places, state = F.quantize_4bit(source[name], quant_type=kind, compress_statistics=double)
        theirs = state.as_dict(packed=True)
        row["same_places"] += same(places, ours[name])
        row["same_scales"] += same(theirs["absmax"], ours[f"{name}.absmax"])
        row["same_tables"] += same(theirs["quant_map"], ours[f"{name}.quant_map"])
        said = json.loads(bytes(ours[name + state_key].tolist()))
        expected = json.loads(bytes(theirs[state_key[1:]].tolist()))
        offset = expected.pop("nested_offset", None)
        mean = said.pop("nested_offset", None)
        assert said == expected, (said, expected)
        if double:
            same_mean = np.float32(mean) == np.float32(offset)
            row["same_means"] += bool(same_mean)
            row["same_nested_scales"] += same(theirs["nested_absmax"], ours[f"{name}.nested_absmax"])
            row["scales"] += len(theirs["absmax"])
            row["other_codes"] += int((theirs["absmax"] != ours[f"{name}.absmax"]).sum())
            _, exact = F.quantize_4bit(source[name], quant_type=kind)
            codes = nested_rule(exact.absmax.numpy(), np.float32(offset))
            row["other_codes_around_their_mean"] += int((torch.from_numpy(codes) != theirs["absmax"]).sum())
    return row


def decoded_alike(a, model, folder, at):
    """Of how many of a model's packed matrices porism decodes the same from a folder."""
    subprocess.run([a.porism, "convert", str(folder), "-o", str(at), "--to", "f32"], check=True, capture_output=True)
    unpacked, count = tensors(at), 0
    for name, module in model.named_modules():
        if type(module).__name__ == "Linear4bit":
            weight, expected = module.weight, unpacked[f"{name}.weight"]
            count += same(F.dequantize_4bit(weight.data, weight.quant_state).reshape(expected.shape), expected)
    return count


def scored(model, ids, windows):
    """The sum of a text's negative log-likelihoods in windows, and the logits of the first."""
    done, nll, count, first = 1, 0.0, 0, None
    for begin in range(0, windows * STRIDE, STRIDE):
        end = min(begin + CONTEXT, len(ids))
        with torch.no_grad():
            logits = model(torch.tensor([ids[begin:end]])).logits[0].float()
        first = logits if first is None else first
        scores = logits.log_softmax(-1)[torch.arange(done - 1 - begin, end - 1 - begin), torch.tensor(ids[done:end])]
        nll, count, done = nll - scores.double().sum().item(), count + end - done, end
    return math.exp(nll / count), first


def perplexity(a, model):
    command = [a.porism, "measure", "perplexity", a.text, "-m", str(model), "--protocol", "sliding", "--json"]
    command += ["--chunks", str(a.windows), "--threads", str(a.threads)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["perplexity"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--porism", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--windows", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    source = tensors(a.folder)
    text = pathlib.Path(a.text).read_bytes().decode()
    ids = AutoTokenizer.from_pretrained(a.folder)(text, add_special_tokens=False)["input_ids"]
    dense = perplexity(a, a.folder)
    for kind in ("nf4", "fp4"):
        for double in (False, True):
            with tempfile.TemporaryDirectory() as at:
                packed, decoded = pathlib.Path(at) / "packed", pathlib.Path(at) / "decoded"
                command = [a.porism, "convert", a.folder, "-o", str(packed), "--to", kind]
                begun = time.perf_counter()
                subprocess.run(command + (["--double-quant"] if double else []), check=True, capture_output=True)
                row = {"model": pathlib.Path(a.folder).name, "type": kind, "double_quant": double}
                row["convert_seconds"] = round(time.perf_counter() - begun, 3)
                row["packed_bytes"] = (packed / "model.safetensors").stat().st_size
                row.update(matrices(packed, source, kind, double))
                theirs = AutoModelForCausalLM.from_pretrained(packed, dtype=torch.float32).eval()
                row["layers_of_bitsandbytes"] = sum(type(m).__name__ == "Linear4bit" for m in theirs.modules())
                row["same_decoded_weights"] = decoded_alike(a, theirs, packed, decoded)
                row["perplexity_bitsandbytes"], logits = scored(theirs, ids, a.windows)
                plain = AutoModelForCausalLM.from_pretrained(decoded, dtype=torch.float32).eval()
                _, expected = scored(plain, ids, 1)
                row["largest_logit_difference"] = (logits - expected).abs().max().item()
                row["logit_deviation"] = expected.std().item()
                row["perplexity_porism"] = perplexity(a, packed)
                row["perplexity_f32"] = dense
                words = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type=kind, bnb_4bit_use_double_quant=double)
                saved = AutoModelForCausalLM.from_pretrained(a.folder, quantization_config=words, dtype=torch.float32)
                saved.save_pretrained(pathlib.Path(at) / "saved")
                for file in pathlib.Path(a.folder).glob("tokenizer*"):
                    (pathlib.Path(at) / "saved" / file.name).write_bytes(file.read_bytes())
                row["same_decoded_weights_of_their_folder"] = decoded_alike(a, saved, pathlib.Path(at) / "saved", pathlib.Path(at) / "again")
                print(json.dumps(row), flush=True)


main()
