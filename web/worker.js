// Runs campana beside the page, which stays alive meanwhile. Each message is a
// question with an id; the answer carries the same id.
"use strict";

let network = null;

// campana calls this.
function reportProgress(done, total) {
  postMessage({ progress: total > 0 ? done / total : 1 });
}

const answers = {
  start({ module }) {
    wasm_bindgen.initSync({ module });
    return { methods: wasm_bindgen.methods() };
  },
  open({ name, bytes }) {
    network?.free();
    network = null;
    network = new wasm_bindgen.WebNetwork(name, new Uint8Array(bytes));
    return {};
  },
  inspect({ bits }) {
    return { page: network.inspect(bits) };
  },
  quantize({ bits, method }) {
    const begin = performance.now();
    const smaller = network.quantize(bits, method);
    const answer = { name: smaller.name, page: smaller.page, model: smaller.takeModel() };
    smaller.free();
    return { ...answer, seconds: (performance.now() - begin) / 1000 };
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
