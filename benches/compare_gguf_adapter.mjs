// Perplexity of a model with an adapter: llama.cpp (as node-llama-cpp carries it) and `porism measure perplexity`, on the same
// GGUF files.
//
//     npm install node-llama-cpp                      (in any folder; run this file from there, or set NODE_PATH's equivalent)
//     node compare_gguf_adapter.mjs PORISM MODEL.gguf TEXT CHUNKS [ADAPTER.gguf[:SCALE]]... >> results.jsonl
//
// llama-perplexity's protocol: chunks of 512 tokens that do not see each other, in each the last 255 predictions count. For each
// adapter, and for none, it prints a line of JSON: both perplexities and by how much they differ, in per cent.

import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename } from "node:path";
import { pathToFileURL } from "node:url";

const found = createRequire(process.cwd() + "/").resolve("node-llama-cpp");
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(found));
const [porism, modelPath, text, chunks, ...adapters] = process.argv.slice(2);
const LENGTH = 512;

const llama = await getLlama({ gpu: false, build: "never", logLevel: LlamaLogLevel.error });
const model = await llama.loadModel({ modelPath, defaultContextFlashAttention: false });
const tokens = model.tokenize(readFileSync(text, "utf8"));

async function theirs(filePath, scale) {
    const lora = filePath ? { adapters: [{ filePath, scale }] } : undefined;
    const context = await model.createContext({ contextSize: LENGTH, batchSize: LENGTH, threads: 2, lora });
    const sequence = context.getSequence();
    let [sum, count] = [0, 0];
    for (let chunk = 0; chunk < chunks; chunk++) {
        const ids = tokens.slice(chunk * LENGTH, (chunk + 1) * LENGTH);
        if (model.tokens.shouldPrependBosToken) ids[0] = model.tokens.bos;
        await sequence.clearHistory();
        const wanted = (id, i) => (i >= LENGTH / 2 && i < LENGTH - 1 ? [id, { generateNext: { logits: true } }] : id);
        const answers = await sequence.controlledEvaluate(ids.map(wanted));
        for (let i = LENGTH / 2; i < LENGTH - 1; i++) {
            const logits = answers[i].next.logits;
            const most = logits.values().next().value;
            let total = 0;
            for (const logit of logits.values()) total += Math.exp(logit - most);
            sum -= logits.get(ids[i + 1]) - most - Math.log(total);
            count++;
        }
    }
    await context.dispose();
    return Math.exp(sum / count);
}

function ours(adapter) {
    const words = ["measure", "perplexity", text, "-m", modelPath, "--chunks", chunks, "--json"];
    if (adapter) words.push("--adapter", adapter);
    return JSON.parse(execFileSync(porism, words, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] })).perplexity;
}

for (const adapter of [null, ...adapters]) {
    let [path, scale] = [adapter, 1];
    if (path && !existsSync(path)) {
        scale = Number(path.slice(path.lastIndexOf(":") + 1));
        path = path.slice(0, path.lastIndexOf(":"));
    }
    const [llamaCpp, own] = [await theirs(path, scale), ours(adapter)];
    const line = { model: basename(modelPath), adapter: path && basename(path), scale, chunks: Number(chunks) };
    console.log(JSON.stringify({ ...line, llama_cpp: llamaCpp, porism: own, difference_percent: 100 * (own / llamaCpp - 1) }));
}
