// Runs a program compiled for wasm32-wasip1: it sees the machine's files and variables.
//
// usage: node tools/web/wasi.mjs PROGRAM [ARGUMENTS]

import { readFile } from "node:fs/promises";
import { argv, env, exit } from "node:process";
import { WASI } from "node:wasi";

const wasi = new WASI({
  version: "preview1",
  args: argv.slice(2),
  env,
  preopens: { "/": "/" },
  returnOnExit: true,
});
// What older C libraries of WASI leave out: there are no threads, and no paths
// without links and dots (data beside a model cannot be opened).
const EAGAIN = 6;
const missing = {
  realpath: () => 0,
  pthread_attr_init: () => 0,
  pthread_attr_setstacksize: () => 0,
  pthread_attr_destroy: () => 0,
  pthread_create: () => EAGAIN,
  pthread_join: () => EAGAIN,
  pthread_detach: () => EAGAIN,
};
const module = await WebAssembly.compile(await readFile(argv[2]));
const instance = await WebAssembly.instantiate(module, { ...wasi.getImportObject(), env: missing });
exit(wasi.start(instance));
