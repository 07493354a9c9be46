// Serves the benchmark's page on this machine, has Chromium run it, and prints
// the record. See run.sh.
//
// usage: node run.mjs MODELS CAMPANA ORT NAME... [--quantize FILE...]

import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { cpus, tmpdir } from "node:os";
import { extname, join, normalize } from "node:path";
import { argv, env, exit } from "node:process";
import { fileURLToPath } from "node:url";

const [models, campana, ort, ...names] = argv.slice(2);
const cut = names.indexOf("--quantize");
const settings = {
  models: cut < 0 ? names : names.slice(0, cut),
  quantized: cut < 0 ? [] : names.slice(cut + 1),
  rounds: Number(env.ROUNDS ?? 11),
  sliceMs: Number(env.SLICE_MS ?? 150),
  sidecar: { input: { size: 32, mean: [0.4914, 0.4822, 0.4465], std: [0.247, 0.2435, 0.2616] } },
};
const here = fileURLToPath(new URL(".", import.meta.url));
const folders = { models, campana, ort };
const types = { ".js": "text/javascript", ".mjs": "text/javascript", ".html": "text/html", ".wasm": "application/wasm" };

function answer(url) {
  if (url === "/settings.json") return JSON.stringify(settings);
  const [, folder, name] = /^\/(\w+)\/([^?]+)/.exec(url) ?? [];
  if (folder in folders) return readFileSync(join(folders[folder], normalize(name).replace(/^(\.\.\/)+/, "")));
  return readFileSync(join(here, url === "/" ? "page.html" : "page.js"));
}

const profile = mkdtempSync(join(tmpdir(), "campana-bench-"));
let browser = null;
const server = createServer((request, response) => {
  if (request.method === "POST") {
    let body = "";
    request.on("data", (part) => (body += part));
    request.on("end", () => {
      response.end();
      finish(JSON.parse(body));
    });
    return;
  }
  try {
    const data = answer(request.url);
    response.setHeader("Content-Type", types[extname(request.url.split("?")[0])] ?? "text/html");
    response.end(data);
  } catch {
    response.statusCode = 404;
    response.end();
  }
});

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

function finish(result) {
  browser.kill();
  server.close();
  setTimeout(() => {
    rmSync(profile, { recursive: true, force: true });
    if (result.error) {
      console.error(result.error);
      exit(1);
    }
    print(result);
    exit(0);
  }, 1000);
}

function print({ agent, level, ort: version, models, quantized }) {
  const commit = execFileSync("git", ["rev-parse", "--short", "HEAD"], { cwd: here }).toString().trim();
  console.log(`- ${cpus()[0].model}, one thread; ${/Chrome\/[\d.]+/.exec(agent)?.[0] ?? agent}`);
  console.log(`- campana ${commit}, module ${level}; onnxruntime-web ${version}`);
  console.log(`- median of ${settings.rounds} rounds in turn; ratios are the medians of the rounds' ratios`);
  for (const [name, rows] of Object.entries(models)) {
    console.log(`\n## ${name}\n`);
    console.log("| engine | ms | least | of onnxruntime-web float | of its int8 | likeness |");
    console.log("| --- | --- | --- | --- | --- | --- |");
    for (const [engine, { times, likeness }] of Object.entries(rows)) {
      const of = (peer) => median(times.map((time, i) => time / rows[peer].times[i])).toFixed(2);
      const cells = [engine, median(times).toFixed(1), Math.min(...times).toFixed(1), of("onnxruntime-web float"), of("onnxruntime-web int8")];
      console.log(`| ${cells.join(" | ")} | ${likeness.toFixed(3)} |`);
    }
  }
  for (const { name, seconds, corrected } of quantized) {
    console.log(`\n${name} quantized to 4 bits ${corrected ? "with" : "without"} the correction: ${seconds.toFixed(1)} s`);
  }
}

server.listen(0, "127.0.0.1", () => {
  const url = `http://127.0.0.1:${server.address().port}/`;
  const flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", `--user-data-dir=${profile}`];
  browser = spawn(env.CHROMIUM ?? "chromium", [...flags, url], { stdio: "ignore" });
  browser.on("error", (error) => {
    console.error(`no Chromium: ${error.message}`);
    exit(3);
  });
});
