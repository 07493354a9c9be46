"use strict";

const part = (id) => document.getElementById(id);
const [picker, more, failure, busy, doing, progress, cancel] =
  ["file", "more", "failure", "busy", "doing", "progress", "cancel"].map(part);
const [choices, bits, method, target, scale, correct, result, running, views, view, lost, distributions] =
  ["choices", "bits", "method", "target", "scale", "correct", "result", "running", "views", "view", "lost", "distributions"]
    .map(part);

// What makes values of pixels, where no sidecar says it.
const SCALES = {
  unit: { mean: [0, 0, 0], std: [1, 1, 1] },
  imagenet: { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] },
  signed: { mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] },
  bytes: { mean: [0, 0, 0], std: [1 / 255, 1 / 255, 1 / 255] },
};

// What forms are, and how many bits they have unless others are chosen.
const FORMS = {
  lut: ["ONNX, smaller", 4, "A plain ONNX file: standard operators unpack the weights when a runtime loads it."],
  "lut-uint4": ["ONNX with uint4", 4, "An ONNX file of opset 21 with 4-bit tensors."],
  w4a8: ["ONNX, computed on integers", 4, "4-bit weights and 8-bit activations: campana computes on both, as here."],
  int8: ["ONNX, 8-bit QDQ", 8, "What ONNX runtimes compute on 8-bit integers."],
  float: ["ONNX, floats", 4, "The weights as after quantization, stored as floats: for other converters."],
  campana: ["campana's container", 4, "The smallest to ship; campana unpack makes an ONNX file of it."],
  tflite: ["TFLite, integers", 8, "For TFLite runtimes, on integers, with weights of 8 or 4 bits."],
  "tflite-float": ["TFLite, floats", 4, "For TFLite runtimes, in floats."],
  tflm: ["TFLite Micro", 4, "For microcontrollers: weights stay codes that its DECODE operator looks up."],
};

const LEVELS = {
  "relaxed-simd": "",
  simd128: "This browser lacks the dot products of relaxed SIMD: quantized networks run slower than they could.",
  portable: "This browser lacks SIMD: all works, but several times slower.",
};

// The network in hand, what belongs to it, and the pages about it.
let file = null;
let about = {};
let sidecar = null;
let pictures = [];
let pages = {};
let runs = [];
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
    const { methods, targets, level } = await this.ask("start", { module: await wasm() });
    if (method.length === 0) {
      method.append(...methods.map((name) => new Option(name)));
      target.append(...targets.map((name) => new Option(FORMS[name]?.[0] ?? name, name)));
      part("level").textContent = LEVELS[level];
      describeForm();
    }
  }
  async open(chosen) {
    await this.started;
    if (this.opened === chosen) return;
    const bytes = await chosen.arrayBuffer();
    about = await this.ask("open", { name: chosen.name, bytes }, [bytes]);
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
    if (data.progress) {
      const { pass, share } = data.progress;
      progress.value = share;
      if (this.steps) doing.textContent = this.steps[Math.min(pass, this.steps.length) - 1];
    } else if (data.skipped) {
      fail(`left out ${data.skipped}`);
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

async function unpacked(base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

// The module for this browser; all are stored compressed in this page.
function wasm() {
  const modules = JSON.parse(part("modules").textContent);
  return unpacked(modules[bestLevel()] ?? modules.portable ?? Object.values(modules)[0]);
}

function size(bytes) {
  const [value, unit] = bytes < 1e3 ? [bytes, "bytes"] : bytes < 1e6 ? [bytes / 1e3, "kB"] : [bytes / 1e6, "MB"];
  return `${Number(value.toPrecision(3)).toLocaleString("en")}\u00a0${unit}`;
}

function fail(message) {
  failure.textContent = message;
  failure.hidden = false;
}

const controls = () => [picker, more, part("try"), part("camera"), ...choices.elements];

// Does one thing at a time, with a bar while it lasts and a message where it
// fails.
async function work(steps, job) {
  failure.hidden = true;
  busy.hidden = false;
  doing.textContent = steps[0];
  progress.removeAttribute("value");
  for (const control of controls()) control.disabled = true;
  try {
    engine ??= new Engine();
    const current = engine;
    current.steps = steps;
    await current.open(file);
    await job(current);
  } catch (error) {
    if (!(error instanceof Stopped)) fail(error.message);
    return false;
  } finally {
    busy.hidden = true;
    for (const control of controls()) control.disabled = false;
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

// The rows and columns of the pictures that the network takes, where it takes such.
function pictureSize() {
  const dims = about.inputs?.length === 1 ? about.inputs[0].dims : null;
  const channels = dims?.length === 4 && (dims[1] === 3 || dims[1] === 1);
  const fixed = channels && dims[2] > 0 && dims[3] > 0;
  return sidecar ? JSON.parse(sidecar).input?.size : fixed ? [dims[2], dims[3]] : null;
}

// What the network takes, as a sidecar says it.
function description() {
  if (sidecar) return JSON.parse(sidecar);
  const size = pictureSize();
  if (!size) return null;
  const channels = about.inputs[0].dims[1] === 1 ? "grey" : "RGB";
  const { mean, std } = SCALES[scale.value];
  const of = (values) => (channels === "grey" ? values.slice(0, 1) : values);
  return { input: { size, resize: size, channels, mean: of(mean), std: of(std) } };
}

// The same for pictures of any size, of which the middle is taken.
function descriptionOfAny() {
  const takes = description();
  const { input } = takes;
  if (!input.resize && !input.resize_short && !input.crop) input.resize_short = Math.max(...[input.size].flat());
  return takes;
}

async function take(files) {
  const chosen = [...files];
  const named = (pattern) => chosen.filter(({ name }) => pattern.test(name));
  const images = named(/\.(png|jpe?g)$/i);
  const [described] = named(/\.json$/i);
  const model = chosen.find((one) => !images.includes(one) && one !== described);
  if (described) sidecar = await described.text();
  else if (model) sidecar = null;
  if (model) pictures = [];
  pictures.push(...images);
  if (model) await takeModel(model);
  else if (!file) fail("Choose an ONNX file first; pictures and the sidecar belong to it.");
  else {
    describeScaling();
    if (images.length > 0) await runAll(images);
  }
}

async function takeModel(model) {
  file = model;
  pages = {};
  about = {};
  runs = [];
  for (const section of [choices, result, running, views, view]) section.hidden = true;
  const isRead = await work([`Reading ${file.name}`], async (current) => {
    pages.distributions = (await current.ask("inspect", { bits: Number(bits.value) })).page;
  });
  if (!isRead) return;
  part("name").textContent = `${file.name}, ${size(file.size)}`;
  choices.hidden = false;
  describeScaling();
  show("distributions");
}

function describeScaling() {
  part("scaling").hidden = sidecar !== null || !pictureSize();
  const looksAt = pictures.length > 0 ? `your ${pictures.length} pictures` : "synthetic pictures";
  part("about").textContent =
    `The correction runs the network on ${looksAt} and chooses codes anew for the least error. 4 bits and auto, which ` +
    "keeps what measures best for each tensor, are a good start.";
}

function describeForm() {
  const form = FORMS[target.value];
  if (form) bits.value = form[1];
  part("advice").textContent = form?.[2] ?? "";
}

async function sampleFiles() {
  const { name, model, sidecar, pictures } = JSON.parse(part("sample").textContent);
  const bytes = (base64) => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  return [
    new File([await unpacked(model)], name),
    new File([sidecar], name.replace(/onnx$/, "json")),
    ...pictures.map((picture) => new File([bytes(picture.base64)], picture.name, { type: "image/png" })),
  ];
}

async function quantize() {
  const takes = description();
  const question = {
    bits: Number(bits.value), method: method.value, target: target.value, correct: correct.checked,
    ...(takes && { sidecar: takes }),
  };
  const steps = [`Quantizing to ${question.bits} bits with ${question.method}`, "Correcting layer by layer"];
  running.hidden = true;
  const isDone = await work(steps, async (current) => {
    const looksAt = question.sidecar ? pictures : [];
    const bytes = await Promise.all(looksAt.map(async (one) => ({ name: one.name, bytes: await one.arrayBuffer() })));
    const { name, page, model, seconds, report, cannotRun } =
      await current.ask("quantize", { choices: question, pictures: bytes });
    const download = part("download");
    URL.revokeObjectURL(download.href);
    download.href = URL.createObjectURL(new Blob([model], { type: "application/octet-stream" }));
    download.download = name;
    download.textContent = `Download ${name}`;
    part("before").textContent = size(file.size);
    part("after").textContent = size(model.length);
    part("factor").textContent = `${(file.size / model.length).toFixed(1)} times smaller`;
    const corrected = report.corrected ? "with the correction" : `not corrected: ${report.not_corrected}`;
    part("elapsed").textContent = `took ${seconds.toFixed(1)} s, ${corrected}`;
    part("advice").textContent = FORMS[target.value]?.[2] ?? "";
    result.hidden = false;
    pages.lost = page;
    current.cannotRun = cannotRun ?? about.cannotRun;
    show("lost");
  });
  if (isDone) await showRunning();
}

// The part of the page that runs both networks.
async function showRunning() {
  const canTake = pictureSize();
  const reason = engine.cannotRun ?? (canTake ? null : "the network takes no picture of a known size");
  running.hidden = false;
  part("runnote").textContent = reason
    ? `The page cannot run both networks here: ${reason}.`
    : "Each picture goes through both networks; times are for one run, on one thread.";
  for (const control of [more.parentElement, part("camera")]) control.hidden = reason !== null;
  runs = [];
  showRuns();
  if (!reason) await runAll(pictures);
}

async function runAll(images) {
  if (!pages.lost || engine?.cannotRun || !pictureSize() || images.length === 0) return;
  await work(["Running both networks"], async (current) => {
    for (const [i, image] of images.entries()) {
      const picture = { name: image.name, bytes: await image.arrayBuffer() };
      const question = { sidecar: JSON.stringify(descriptionOfAny()), picture };
      try {
        const { results } = await current.ask("run", question);
        runs.push({ name: image.name, url: URL.createObjectURL(image), results });
      } catch (error) {
        if (current.ended) throw error;
        fail(error.message);
      }
      progress.value = (i + 1) / images.length;
    }
  });
  showRuns();
}

// The likeliest class and its share, by the softmax unless the scores are shares already.
function answer(scores) {
  const best = scores.reduce((best, score, i) => (score > scores[best] ? i : best), 0);
  const sum = scores.reduce((sum, score) => sum + score, 0);
  const isShares = scores.every((score) => score >= 0) && Math.abs(sum - 1) < 1e-3;
  const total = scores.reduce((total, score) => total + Math.exp(score - scores[best]), 0);
  const labels = sidecar ? JSON.parse(sidecar).labels : null;
  return { best, label: labels?.[best] ?? `class ${best}`, share: isShares ? scores[best] : 1 / total };
}

function median(values) {
  return [...values].sort((a, b) => a - b)[values.length >> 1];
}

function showRuns() {
  const table = part("runs");
  table.hidden = runs.length === 0;
  part("alike").textContent = "";
  const rows = runs.map(({ name, url, results }) => {
    const row = document.createElement("tr");
    const image = Object.assign(new Image(), { src: url, alt: name, title: name, width: 48, height: 48 });
    row.insertCell().append(image);
    for (const { scores, milliseconds } of [results.float, results.quantized]) {
      const { label, share } = answer(scores);
      const cell = row.insertCell();
      cell.append(Object.assign(document.createElement("b"), { textContent: label }));
      cell.append(` ${Math.round(100 * share)}\u00a0%, ${milliseconds.toFixed(1)}\u00a0ms`);
    }
    return row;
  });
  table.tBodies[0].replaceChildren(...rows);
  if (runs.length === 0) return;
  const alike = runs.filter(({ results }) => answer(results.float.scores).best === answer(results.quantized.scores).best);
  const [float, quantized] = ["float", "quantized"].map((which) => median(runs.map((run) => run.results[which].milliseconds)));
  part("alike").textContent =
    `${alike.length} of ${runs.length} answers alike; ${float.toFixed(1)} ms in floats, ${quantized.toFixed(1)} ms quantized.`;
}

// One picture of the camera.
async function takeFrame() {
  const video = part("video");
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: true });
    video.srcObject = stream;
    video.hidden = false;
    await video.play();
    await new Promise((resolve) => setTimeout(resolve, 500));
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    canvas.getContext("2d").drawImage(video, 0, 0);
    for (const track of stream.getTracks()) track.stop();
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    await runAll([new File([blob], "camera.png")]);
  } catch (error) {
    const why = error.name === "NotAllowedError" ? "it was refused" : error.message;
    fail(`There is no picture from the camera: ${why}. Choose a picture instead.`);
  } finally {
    video.hidden = true;
  }
}

picker.addEventListener("change", () => {
  take(picker.files);
  picker.value = "";
});
more.addEventListener("change", () => {
  take(more.files);
  more.value = "";
});
part("try").addEventListener("click", async () => take(await sampleFiles()));
part("camera").addEventListener("click", takeFrame);
target.addEventListener("change", describeForm);
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
    if (kind === "drop" && !picker.disabled && event.dataTransfer.files[0]) take(event.dataTransfer.files);
  });
}
