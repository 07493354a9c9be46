// Times all engines in turn, each in short slices, on one thread, and sends the
// server what came of it.
import { load, quantize, Session } from "/campana/index.js";

// Values of the picture are within it; of deviation 1.
const RANGE = Math.sqrt(3);

const settings = await (await fetch("/settings.json")).json();
const file = async (name) => new Uint8Array(await (await fetch(`/models/${name}`)).arrayBuffer());

ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = "/ort/";

async function campana(model, target) {
  const bits = target === "int8" ? 8 : 4;
  // Corrections change values, not what is computed.
  const bytes = target === "float" ? model : (await quantize(model, { target, bits, correct: false, inputRange: [-RANGE, RANGE] })).model;
  const session = await Session.open(bytes);
  const [{ name, dims }] = session.inputs;
  const shape = dims.map((extent) => (extent > 0 ? extent : 1));
  const data = image(shape);
  return { run: () => Object.values(session.run({ [name]: { data, dims: shape } }))[0].data, close: () => session.close() };
}

async function onnxruntime(model, shape) {
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
  const name = session.inputNames[0];
  const tensor = new ort.Tensor("float32", image(shape), shape);
  return {
    run: async () => (await session.run({ [name]: tensor }))[session.outputNames[0]].data,
    close: () => session.release(),
  };
}

// The same pseudorandom picture for all.
function image(shape) {
  let state = 1;
  return Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state / 2 ** 31 - 1) * RANGE;
  });
}

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

function likeness(a, b) {
  const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}

async function slice(engine) {
  const times = [];
  const end = performance.now() + settings.sliceMs;
  while (times.length < 3 || performance.now() < end) {
    const begin = performance.now();
    await engine.run();
    times.push(performance.now() - begin);
  }
  return median(times);
}

async function measure(name) {
  const float = await file(`${name}.float.onnx`);
  const own = await Session.open(float);
  const shape = own.inputs[0].dims.map((extent) => (extent > 0 ? extent : 1));
  own.close();
  const engines = {
    "onnxruntime-web float": await onnxruntime(float, shape),
    "onnxruntime-web int8": await onnxruntime(await file(`${name}.qdq.onnx`), shape),
    "campana float": await campana(float, "float"),
    "campana int8": await campana(float, "int8"),
    "campana w4a8": await campana(float, "w4a8"),
  };
  const expected = Array.from(await engines["onnxruntime-web float"].run());
  const rows = {};
  for (const [engine, { run }] of Object.entries(engines)) {
    for (let i = 0; i < 3; i++) await run();
    rows[engine] = { likeness: likeness(expected, Array.from(await run())), times: [] };
  }
  for (let round = 0; round < settings.rounds; round++) {
    for (const [engine, it] of Object.entries(engines)) rows[engine].times.push(await slice(it));
  }
  for (const it of Object.values(engines)) it.close();
  return rows;
}

async function quantizing(name) {
  const begin = performance.now();
  const { report } = await quantize(await file(name), { sidecar: settings.sidecar });
  return { name, seconds: (performance.now() - begin) / 1000, corrected: report.corrected };
}

async function all() {
  const answer = { agent: navigator.userAgent, ...(await load()), ort: ort.env.versions.web, models: {}, quantized: [] };
  for (const name of settings.models) answer.models[name] = await measure(name);
  for (const name of settings.quantized) answer.quantized.push(await quantizing(name));
  return answer;
}

const body = await all().catch((error) => ({ error: `${error.message}\n${error.stack}` }));
await fetch("/result", { method: "POST", body: JSON.stringify(body) });
