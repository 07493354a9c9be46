// campana for Node, browsers and bundlers: networks are made smaller and run where they are.

import * as wasm from "./campana.js";
import { bestLevel } from "./levels.js";

// The modules, each named in full so that bundlers find them.
const MODULES = {
  portable: () => new URL("./campana-portable.wasm", import.meta.url),
  simd128: () => new URL("./campana-simd128.wasm", import.meta.url),
  "relaxed-simd": () => new URL("./campana-relaxed-simd.wasm", import.meta.url),
};

const ARRAYS = {
  float32: Float32Array,
  float64: Float64Array,
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
  bool: Uint8Array,
};

let loading = null;
let heard = null;

// The module calls these.
globalThis.campanaProgress = (pass, done, total) => heard?.onProgress?.({ pass, done, total });
globalThis.campanaSkipped = (name, reason) => heard?.onSkipped?.({ name, reason });

async function read(url) {
  if (url.protocol === "file:") return (await import("node:fs/promises")).readFile(url);
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} could not be loaded: ${response.status}`);
  return response.arrayBuffer();
}

export function load({ level = bestLevel(), module } = {}) {
  loading ??= (async () => {
    const levels = Object.keys(MODULES);
    if (!(level in MODULES)) throw new Error(`no level '${level}': ${levels.join(", ")}`);
    if (levels.indexOf(level) > levels.indexOf(bestLevel())) throw new Error(`this engine does not run the level '${level}'`);
    wasm.initSync({ module: module ?? (await read(MODULES[level]())) });
    return { level: wasm.level(), methods: wasm.methods(), targets: wasm.targets() };
  })();
  loading.catch(() => (loading = null));
  return loading;
}

function bytesOf(data) {
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  throw new TypeError("a model or picture is bytes: an ArrayBuffer or a Uint8Array");
}

// Has a job's progress told to its own caller.
function listening(listener, job) {
  heard = listener;
  try {
    return job();
  } finally {
    heard = null;
  }
}

export async function inspect(model, { name = "model.onnx", bits = 4, onProgress } = {}) {
  await load();
  const network = new wasm.WebNetwork(name, bytesOf(model));
  try {
    const inspected = listening({ onProgress }, () => network.inspect(bits));
    const { page, report } = inspected;
    inspected.free();
    return { page, report: JSON.parse(report) };
  } finally {
    network.free();
  }
}

export async function quantize(model, options = {}) {
  const { name = "model.onnx", pictures = [], onProgress, onSkipped, ...choices } = options;
  await load();
  const network = new wasm.WebNetwork(name, bytesOf(model));
  try {
    for (const picture of pictures) network.addPicture(picture.name ?? "picture", bytesOf(picture.bytes ?? picture));
    const smaller = listening({ onProgress, onSkipped }, () => network.quantize(JSON.stringify(choices)));
    const made = { name: smaller.name, model: smaller.takeModel(), page: smaller.page, report: JSON.parse(smaller.report) };
    smaller.free();
    return made;
  } finally {
    network.free();
  }
}

export async function preparePicture(picture, sidecar, name = "picture") {
  await load();
  return wasm.preparePicture(JSON.stringify(sidecar), name, bytesOf(picture));
}

function described(value) {
  const { name, type, dims } = value;
  value.free();
  return Object.freeze({ name, type, dims: dims ? Array.from(dims) : null });
}

export class Session {
  #session;

  constructor(session) {
    this.#session = session;
    this.inputs = session.inputs().map(described);
    this.outputs = session.outputs().map(described);
    this.weightBytes = session.weightBytes;
    this.milliseconds = null;
  }

  static async open(model) {
    await load();
    return new Session(new wasm.WebSession(bytesOf(model)));
  }

  run(inputs) {
    const session = this.#opened();
    for (const [name, { data, dims }] of Object.entries(inputs)) {
      const declared = this.inputs.find((input) => input.name === name);
      session.give(name, typeOf(data, declared), Uint32Array.from(dims ?? this.#dimsOf(declared, data)), bytesOf(data));
    }
    const begin = performance.now();
    session.run();
    this.milliseconds = performance.now() - begin;
    return Object.fromEntries(this.outputs.map(({ name }, i) => [name, this.#output(i)]));
  }

  close() {
    this.#session?.free();
    this.#session = null;
  }

  #opened() {
    if (!this.#session) throw new Error("the session is closed");
    return this.#session;
  }

  // The declared extents; one that is open takes what the others leave.
  #dimsOf(declared, data) {
    const { dims } = declared ?? {};
    if (!dims || dims.filter((extent) => extent < 0).length > 1) {
      throw new Error(`input '${declared?.name}' needs dims: the model leaves them open`);
    }
    const known = dims.reduce((product, extent) => (extent < 0 ? product : product * extent), 1);
    return dims.map((extent) => (extent < 0 ? data.length / known : extent));
  }

  #output(i) {
    const [type, dims, bytes] = [this.#session.outputType(i), this.#session.outputDims(i), this.#session.outputBytes(i)];
    if (!bytes || !ARRAYS[type]) throw new Error(`output '${this.outputs[i].name}' of type ${type} has no typed array`);
    return { type, dims: Array.from(dims), data: new ARRAYS[type](bytes.buffer) };
  }
}

function typeOf(data, declared) {
  if (declared?.type === "bool" && data instanceof Uint8Array) return "bool";
  const found = Object.entries(ARRAYS).find(([, array]) => data instanceof array);
  if (!found) throw new TypeError(`input '${declared?.name}' needs a typed array as data`);
  return found[0];
}
