// Which instructions of WebAssembly this engine has, and so which module it is given.

// A function of no arguments that makes a vector of bytes.
const SIMD128 = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];

// What the relaxed instructions may do in two ways they must do in the one that
// integer results need: (1 + 2^-12)^2 - (1 + 2^-11) rounded once is 2^-24, and
// four products of 60 with bytes of 200, which are unsigned, and 7 are 48007.
const RELAXED_SIMD = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 127, 3, 2, 1, 0, 7, 5, 1, 1, 102, 0, 0, 10, 62, 1, 60, 0, 67,
  0, 8, 128, 63, 253, 19, 67, 0, 8, 128, 63, 253, 19, 67, 0, 16, 128, 191, 253, 19, 253, 133, 2, 253, 31, 0, 67,
  0, 0, 128, 51, 91, 65, 60, 253, 15, 65, 200, 1, 253, 15, 65, 7, 253, 17, 253, 147, 2, 253, 27, 0, 65, 135, 247,
  2, 70, 113, 11,
];

// The name of the best level: "relaxed-simd", "simd128" or "portable".
function bestLevel() {
  try {
    if (!WebAssembly.validate(new Uint8Array(SIMD128))) return "portable";
    const relaxed = new Uint8Array(RELAXED_SIMD);
    if (!WebAssembly.validate(relaxed)) return "simd128";
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(relaxed));
    return exports.f() === 1 ? "relaxed-simd" : "simd128";
  } catch {
    return "portable";
  }
}

export { bestLevel };
