// The npm package as a user of Node meets it: a network is inspected, made
// smaller and run. LEVEL names the module, FIXTURES the folder of fixtures.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { env } from "node:process";
import { test } from "node:test";
import { inspect, load, quantize, Session } from "campana-web";

const fixture = (name) => readFileSync(`${env.FIXTURES}/${name}`);
const model = fixture("cifar10_resnet8.onnx");
const sidecar = JSON.parse(fixture("cifar10_resnet8.json"));

// A picture of the test images as the network takes it, and its class.
function image(index) {
  const record = fixture("cifar10_test_500.bin").subarray(index * 3073, (index + 1) * 3073);
  const { mean, std } = sidecar.input;
  const data = Float32Array.from(record.subarray(1), (pixel, i) => (pixel / 255 - mean[i >> 10]) / std[i >> 10]);
  return { data, label: record[0] };
}

function best(scores) {
  return scores.indexOf(Math.max(...scores));
}

const { level, methods, targets } = await load({ level: env.LEVEL });

test("the module is the one that was asked for", () => {
  assert.equal(level, env.LEVEL);
  assert.equal(methods[0], "auto");
  assert.ok(targets.includes("w4a8") && !targets.includes("coreml"));
});

test("a network is inspected", async () => {
  const { page, report } = await inspect(model, { name: "net.onnx" });
  assert.ok(page.startsWith("<!DOCTYPE html>"));
  assert.equal(report.model, "net.onnx");
});

test("smaller networks answer as the float one", async () => {
  const float = await Session.open(model);
  const { name } = float.inputs[0];
  assert.deepEqual(float.inputs[0].dims.slice(1), [3, 32, 32]);
  const images = Array.from({ length: 40 }, (_, i) => image(i * 12));
  const answers = (session) => images.map(({ data }) => best(Object.values(session.run({ [name]: { data } }))[0].data));
  const expected = answers(float);
  assert.ok(expected.filter((answer, i) => answer === images[i].label).length >= 30);
  for (const target of ["lut", "w4a8", "int8", "campana"]) {
    const told = [];
    const options = { name: "net.onnx", target, sidecar, onProgress: (progress) => told.push(progress) };
    const smaller = await quantize(model, options);
    assert.ok(smaller.report.corrected, target);
    assert.ok(smaller.model.length < model.length / 3, target);
    assert.ok(told.some(({ pass }) => pass === 2), "progress of the correction");
    const session = await Session.open(smaller.model);
    const alike = answers(session).filter((answer, i) => answer === expected[i]).length;
    assert.ok(alike >= 35, `${target}: ${alike} of 40 alike`);
    assert.ok(session.milliseconds > 0);
    session.close();
    assert.throws(() => session.run({}), /closed/);
  }
});

test("networks on integers give the bits that other processors gave", async () => {
  const recorded = (name) => readFileSync(`${env.FIXTURES}/../crates/campana-runtime/tests/recorded/${name}`);
  const records = fixture("cifar10_test_500.bin");
  const images = Array.from({ length: 4 }, (_, i) => records.subarray(i * 51 * 3073 + 1, (i * 51 + 1) * 3073));
  const data = Float32Array.from(images.flatMap((pixels) => [...pixels]), (pixel) => pixel / 64 - 2);
  for (const form of ["int8", "w4a8"]) {
    const session = await Session.open(recorded(`resnet8-${form}.onnx`));
    const [logits] = Object.values(session.run({ [session.inputs[0].name]: { data, dims: [4, 3, 32, 32] } }));
    const bits = Array.from(new Uint32Array(logits.data.buffer), (word) => word.toString(16).padStart(8, "0"));
    const expected = recorded(`resnet8-${form}.txt`).toString().match(/(?<==)[0-9a-f]{8}/g);
    assert.deepEqual(bits, expected, form);
    session.close();
  }
});

test("what is wrong is said", async () => {
  await assert.rejects(quantize(new Uint8Array(10), { name: "a.onnx" }), /cannot read 'a.onnx'/);
  await assert.rejects(quantize(model, { bits: 9 }), /bits must be/);
  await assert.rejects(quantize(model, { bitz: 4 }), /unknown field `bitz`/);
  await assert.rejects(quantize(model, { target: "coreml" }), /folder/);
  await assert.rejects(quantize("model.onnx"), /bytes/);
  const session = await Session.open(model);
  assert.throws(() => session.run({ nowhere: { data: new Float32Array(1), dims: [1] } }), /nowhere/);
  const { name } = session.inputs[0];
  assert.throws(() => session.run({ [name]: { data: new Float32Array(3), dims: [3] } }));
});
