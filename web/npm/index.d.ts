/** Instructions that a module uses. */
export type Level = "portable" | "simd128" | "relaxed-simd";

/** Bytes of a file. */
export type Bytes = ArrayBuffer | ArrayBufferView;

export type TypedArray =
  | Float32Array | Float64Array | Int8Array | Uint8Array | Int16Array | Uint16Array
  | Int32Array | Uint32Array | BigInt64Array | BigUint64Array;

export interface Loaded {
  /** Instructions of the module that was loaded. */
  level: Level;
  /** Names of all methods, the default first. */
  methods: string[];
  /** Names of all forms, the default first. */
  targets: string[];
}

/**
 * Loads the module for this engine. Everything else does it when it is first
 * needed; the first call decides.
 */
export function load(options?: { level?: Level; module?: BufferSource | WebAssembly.Module }): Promise<Loaded>;

/** How far a job is: in which of its passes over all weights, and how many of them are done. */
export interface Progress {
  pass: number;
  done: number;
  total: number;
}

export interface Inspected {
  /** The HTML page of `campana inspect --html`. */
  page: string;
  /** What `campana inspect --json` prints. */
  report: Record<string, unknown>;
}

/** What is known of the weights of an ONNX file. */
export function inspect(
  model: Bytes,
  options?: { name?: string; bits?: number; onProgress?: (progress: Progress) => void },
): Promise<Inspected>;

/** What a network takes; the same as the JSON file beside a model. */
export interface Sidecar {
  input: {
    size: number | [number, number];
    mean: number[];
    std: number[];
    channels?: "RGB" | "BGR" | "grey" | null;
    layout?: "NCHW" | "NHWC" | null;
    resize?: number | [number, number] | null;
    resize_short?: number | null;
    crop?: number | [number, number] | null;
    interpolation?: "bilinear" | "bicubic" | null;
    [key: string]: unknown;
  };
  labels?: string[];
  [key: string]: unknown;
}

/** The options of `campana quantize`; what is left out is their default. */
export interface QuantizeOptions {
  /** What messages and the report call the model. */
  name?: string;
  /** Bits of a weight, 1 to 8. */
  bits?: number;
  /** How levels are designed, one of `methods`. */
  method?: string;
  /** The form that is written, one of `targets`. */
  target?: string;
  /** `false` leaves out the correction. */
  correct?: boolean;
  /** What the network takes; needed with pictures. */
  sidecar?: Sidecar;
  /** Least and greatest value of the input, where that is all that is known. */
  inputRange?: [number, number];
  /** PNG or JPEG pictures that the correction looks at, rather than synthetic ones. */
  pictures?: Array<Bytes | { name?: string; bytes: Bytes }>;
  onProgress?: (progress: Progress) => void;
  /** Hears of pictures that could not be read. */
  onSkipped?: (skipped: { name: string; reason: string }) => void;
}

export interface Quantized {
  /** What the file may be called. */
  name: string;
  /** The file. */
  model: Uint8Array;
  /** The HTML page of `campana quantize --report`. */
  page: string;
  /** What `campana quantize --json` prints. */
  report: Record<string, unknown>;
}

/** Makes an ONNX file smaller. */
export function quantize(model: Bytes, options?: QuantizeOptions): Promise<Quantized>;

/** A PNG or JPEG picture as a network takes it. */
export function preparePicture(picture: Bytes, sidecar: Sidecar, name?: string): Promise<Float32Array>;

/** What a network declares of an input or output. */
export interface Value {
  name: string;
  /** As NumPy calls it, such as `float32`; empty where none is declared. */
  type: string;
  /** Extents, -1 where a run decides; null where not even the rank is declared. */
  dims: number[] | null;
}

/** A network that runs, on the thread that calls it. */
export class Session {
  private constructor();
  /** Opens an ONNX file or a container of campana. */
  static open(model: Bytes): Promise<Session>;
  readonly inputs: readonly Value[];
  readonly outputs: readonly Value[];
  /** Bytes of weights and other constants in memory. */
  readonly weightBytes: number;
  /** How long the last run took. */
  readonly milliseconds: number | null;
  /** Runs once. Extents may be left out where the model declares all but one. */
  run(
    inputs: Record<string, { data: TypedArray; dims?: readonly number[] }>,
  ): Record<string, { type: string; dims: number[]; data: TypedArray }>;
  /** Gives its memory back. */
  close(): void;
}
