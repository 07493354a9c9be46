"use strict";

const part = (id) => document.getElementById(id);
const [drop, picker, failure, busy, doing, progress, cancel] = ["drop", "file", "failure", "busy", "doing", "progress", "cancel"].map(part);
const [choices, bits, method, result, views, view, lost, distributions] =
  ["choices", "bits", "method", "result", "views", "view", "lost", "distributions"].map(part);

// The network in hand, and the pages about it.
let file = null;
let pages = {};
let engine = null;

class Stopped extends Error {}

// campana in a worker of its own. To stop it is to end the worker: whoever goes
// on makes another.
class Engine {
  constructor() {
    const source = new Blob([part("worker").textContent], { type: "text/javascript" });
    this.worker = new Worker(URL.createObjectURL(source));
    this.worker.onmessage = ({ data }) => this.hear(data);
    this.worker.onerror = () => this.end(new Error("campana could not start: this browser forbids it"));
    this.waiting = new Map();
    this.questions = 0;
    this.started = this.start();
  }
  async start() {
    const { methods } = await this.ask("start", { module: await module() });
    if (method.length === 0) method.append(...methods.map((name) => new Option(name)));
  }
  async open(chosen) {
    await this.started;
    if (this.opened === chosen) return;
    const bytes = await chosen.arrayBuffer();
    await this.ask("open", { name: chosen.name, bytes }, [bytes]);
    this.opened = chosen;
  }
  ask(kind, data, transfer = []) {
    return new Promise((resolve, reject) => {
      if (this.ended) throw this.ended;
      const id = this.questions++;
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ ...data, kind, id }, transfer);
    });
  }
  hear(data) {
    if (data.progress !== undefined) {
      progress.value = data.progress;
    } else if (data.fatal) {
      const memory = "The file may need more memory than a browser gives; the command line has no such limit.";
      this.end(new Error(`campana stopped (${data.failure}). ${memory}`));
    } else {
      const { resolve, reject } = this.waiting.get(data.id);
      this.waiting.delete(data.id);
      if (data.failure === undefined) resolve(data.answer);
      else reject(new Error(data.failure));
    }
  }
  end(reason) {
    this.worker.terminate();
    this.ended = reason;
    if (engine === this) engine = null;
    for (const { reject } of this.waiting.values()) reject(reason);
  }
}

// The module, which is stored compressed in this page.
async function module() {
  const bytes = Uint8Array.from(atob(part("module").textContent), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

function size(bytes) {
  const [value, unit] = bytes < 1e3 ? [bytes, "bytes"] : bytes < 1e6 ? [bytes / 1e3, "kB"] : [bytes / 1e6, "MB"];
  return `${Number(value.toPrecision(3)).toLocaleString("en")}\u00a0${unit}`;
}

// Does one thing at a time, with a bar while it lasts and a message where it
// fails.
async function work(what, job) {
  failure.hidden = true;
  busy.hidden = false;
  doing.textContent = what;
  progress.removeAttribute("value");
  for (const control of [picker, ...choices.elements]) control.disabled = true;
  try {
    engine ??= new Engine();
    const running = engine;
    await running.open(file);
    await job(running);
  } catch (error) {
    if (!(error instanceof Stopped)) {
      failure.textContent = error.message;
      failure.hidden = false;
    }
    return false;
  } finally {
    busy.hidden = true;
    for (const control of [picker, ...choices.elements]) control.disabled = false;
  }
  return true;
}

function show(which) {
  view.hidden = false;
  views.hidden = false;
  lost.hidden = !pages.lost;
  lost.setAttribute("aria-pressed", which === "lost");
  distributions.setAttribute("aria-pressed", which === "distributions");
  view.srcdoc = pages[which];
}

// The page scrolls, not the report in it.
view.addEventListener("load", () => {
  const body = view.contentDocument.body;
  new ResizeObserver(() => {
    view.style.height = `${Math.ceil(body.getBoundingClientRect().height)}px`;
  }).observe(body);
});

async function take(chosen) {
  file = chosen;
  pages = {};
  for (const section of [choices, result, views, view]) section.hidden = true;
  const isRead = await work(`Reading ${file.name}`, async (running) => {
    pages.distributions = (await running.ask("inspect", { bits: Number(bits.value) })).page;
  });
  if (!isRead) return;
  part("name").textContent = `${file.name}, ${size(file.size)}`;
  choices.hidden = false;
  show("distributions");
}

async function quantize() {
  const question = { bits: Number(bits.value), method: method.value };
  await work(`Quantizing to ${question.bits} bits with ${question.method}`, async (running) => {
    const { name, page, model, seconds } = await running.ask("quantize", question);
    const download = part("download");
    URL.revokeObjectURL(download.href);
    download.href = URL.createObjectURL(new Blob([model], { type: "application/octet-stream" }));
    download.download = name;
    download.textContent = `Download ${name}`;
    part("before").textContent = size(file.size);
    part("after").textContent = size(model.length);
    part("factor").textContent = `${(file.size / model.length).toFixed(1)} times smaller`;
    part("elapsed").textContent = `took ${seconds.toFixed(1)} s`;
    result.hidden = false;
    pages.lost = page;
    show("lost");
  });
}

picker.addEventListener("change", () => {
  if (picker.files[0]) take(picker.files[0]);
  picker.value = "";
});
choices.addEventListener("submit", (event) => {
  event.preventDefault();
  quantize();
});
cancel.addEventListener("click", () => engine?.end(new Stopped()));
lost.addEventListener("click", () => show("lost"));
distributions.addEventListener("click", () => show("distributions"));
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("over", kind === "dragenter" || kind === "dragover");
    if (kind === "drop" && !picker.disabled && event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
  });
}
