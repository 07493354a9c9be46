// Runs campana beside the page, which stays alive meanwhile. Each message is a
// question with an id; the answer carries the same id. It stands behind the
// module's own script, whose functions it calls, in one script.

// Runs of which the middle time counts.
const RUNS = 3;

let network = null;
let sessions = {};

// campana calls these.
globalThis.campanaProgress = (pass, done, total) => {
  postMessage({ progress: { pass, share: total > 0 ? done / total : 1 } });
};
globalThis.campanaSkipped = (name, reason) => postMessage({ skipped: `${name}: ${reason}` });

function forget(...names) {
  for (const name of names) {
    sessions[name]?.session.free();
    delete sessions[name];
  }
}

// What the page needs to know of a network that runs.
function described(value) {
  const { name, type, dims } = value;
  value.free();
  return { name, type, dims: dims && Array.from(dims) };
}

function openSession(name, bytes) {
  forget(name);
  const session = new WebSession(bytes);
  sessions[name] = { session, inputs: session.inputs().map(described), outputs: session.outputs().map(described) };
  return sessions[name];
}

function prepared({ sidecar, picture, pixels }) {
  if (picture) return preparePicture(sidecar, picture.name, new Uint8Array(picture.bytes));
  return preparePixels(sidecar, pixels.width, pixels.height, new Uint8Array(pixels.rgba));
}

function timedRun({ session, inputs, warm }, values) {
  const [input] = inputs;
  const dims = Uint32Array.from(input.dims, (extent) => (extent > 0 ? extent : 1));
  const bytes = new Uint8Array(values.buffer);
  const times = [];
  for (let i = warm ? 1 : 0; i <= RUNS; i++) {
    session.give(input.name, "float32", dims, bytes);
    const begin = performance.now();
    session.run();
    times.push(performance.now() - begin);
  }
  const type = session.outputType(0);
  if (type !== "float32") throw new Error(`the network's first output is of type ${type}, which the page does not show`);
  const scores = new Float32Array(session.outputBytes(0).buffer);
  return { scores, milliseconds: times.slice(-RUNS).sort((a, b) => a - b)[RUNS >> 1] };
}

const answers = {
  start({ module }) {
    initSync({ module });
    return { methods: methods(), targets: targets(), level: level() };
  },
  open({ name, bytes }) {
    network?.free();
    network = null;
    forget("float", "quantized");
    network = new WebNetwork(name, new Uint8Array(bytes));
    try {
      const { inputs, outputs } = openSession("float", new Uint8Array(bytes));
      return { inputs, outputs };
    } catch (error) {
      if (error instanceof WebAssembly.RuntimeError) throw error;
      return { cannotRun: error.message };
    }
  },
  inspect({ bits }) {
    const inspected = network.inspect(bits);
    const { page } = inspected;
    inspected.free();
    return { page };
  },
  quantize({ choices, pictures }) {
    forget("quantized");
    network.clearPictures();
    for (const { name, bytes } of pictures) network.addPicture(name, new Uint8Array(bytes));
    const begin = performance.now();
    const smaller = network.quantize(JSON.stringify(choices));
    const seconds = (performance.now() - begin) / 1000;
    const { name, page, report } = smaller;
    const model = smaller.takeModel();
    smaller.free();
    let cannotRun = null;
    try {
      openSession("quantized", model);
    } catch (error) {
      if (error instanceof WebAssembly.RuntimeError) throw error;
      cannotRun = error.message;
    }
    return { name, page, report: JSON.parse(report), model, seconds, cannotRun };
  },
  // Float beside quantized, on one picture.
  run(question) {
    const values = prepared(question);
    const results = {};
    for (const name of Object.keys(sessions)) {
      results[name] = timedRun(sessions[name], values);
      sessions[name].warm = true;
    }
    return { results };
  },
};

onmessage = ({ data }) => {
  try {
    const answer = answers[data.kind](data);
    postMessage({ id: data.id, answer }, answer.model ? [answer.model.buffer] : []);
  } catch (error) {
    // After a trap the module's memory is in no known state.
    const fatal = error instanceof WebAssembly.RuntimeError;
    postMessage({ id: data.id, failure: fatal ? String(error) : error.message, fatal });
  }
};
