"""Core ML packages, read and run without Core ML: the file of constants, codes and tables, and the program in NumPy.

Written from the format's documentation: nothing here is coremltools' but the classes that parse the messages. Programs
are run in 64-bit floats, whatever their own type.
"""

import math
import pathlib
import struct

import numpy as np
from coremltools.proto import MIL_pb2, Model_pb2

SPECIFICATION = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"
TYPES = {name: MIL_pb2.DataType.Value(name) for name in MIL_pb2.DataType.keys()}
BITS = {"UINT1": 1, "UINT2": 2, "UINT3": 3, "UINT4": 4, "UINT6": 6}
NUMPY = {"FLOAT16": np.float16, "FLOAT32": np.float32, "INT8": np.int8, "UINT8": np.uint8, "INT32": np.int32}
NAMES = {number: name for name, number in TYPES.items()}
# The types of the file of constants have numbers of their own.
STORED = {"FLOAT16": 1, "FLOAT32": 2, "UINT8": 3, "INT8": 4, "UINT1": 9, "UINT2": 10, "UINT4": 11, "UINT3": 12,
          "UINT6": 13, "INT32": 14}


def unpacked(data: bytes, name: str, count: int) -> np.ndarray:
    """Elements, the first in the low bits."""
    if name in BITS:
        bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[:count * BITS[name]]
        return bits.reshape(count, BITS[name]) @ (1 << np.arange(BITS[name])).astype(np.uint8)
    return np.frombuffer(data, NUMPY[name], count)


class Package:
    """A package's messages, and its constants."""

    def __init__(self, path: pathlib.Path):
        self.model = Model_pb2.Model()
        self.model.ParseFromString((path / SPECIFICATION).read_bytes())
        self.file = (path / WEIGHTS).read_bytes()
        function = self.model.mlProgram.functions["main"]
        self.inputs = function.inputs
        self.block = function.block_specializations[function.opset]
        self.constants = {}
        # What decodes weights, by the weights' name.
        self.decoded = {}
        for operation in self.block.operations:
            if operation.type == "const":
                self.constants[operation.outputs[0].name] = self.value(operation.attributes["val"])
            elif operation.type.startswith("constexpr_"):
                values = self.decode(operation)
                self.constants[operation.outputs[0].name] = values
                self.decoded[self.value(operation.attributes["name"])] = (operation.outputs[0].name, values)

    def value(self, value):
        kind = value.WhichOneof("value")
        if value.type.WhichOneof("type") == "listType":
            return [self.value(one) for one in value.immediateValue.list.values]
        name = NAMES[value.type.tensorType.dataType]
        shape = [extent.constant.size for extent in value.type.tensorType.dimensions]
        count = math.prod(shape)
        if kind == "blobFileValue":
            return self.record(value.blobFileValue.offset, name, count).reshape(shape)
        tensor = value.immediateValue.tensor
        held = getattr(tensor, tensor.WhichOneof("value")).values
        if name == "STRING":
            return held[0]
        if name == "BOOL":
            return bool(held[0])
        values = unpacked(held, name, count) if isinstance(held, bytes) else np.array(held, NUMPY[name])
        return values.reshape(shape)

    def record(self, offset: int, name: str, count: int) -> np.ndarray:
        sentinel, kind, length, start, unused = struct.unpack_from("<IIQQQ", self.file, offset)
        assert sentinel == 0xDEADBEEF and kind == STORED[name] and offset % 64 == start % 64 == 0, (offset, name)
        bits = BITS.get(name) or 8 * np.dtype(NUMPY[name]).itemsize
        assert 8 * length - unused == count * bits, (offset, name)
        return unpacked(self.file[start:start + length], name, count)

    def argument(self, binding):
        return self.constants[binding.name] if binding.WhichOneof("binding") == "name" else self.value(binding.value)

    def decode(self, operation):
        given = {name: self.argument(one.arguments[0]) for name, one in operation.inputs.items()}
        if operation.type == "constexpr_blockwise_shift_scale":
            data, scale = given["data"], given["scale"]
            for axis, (extent, count) in enumerate(zip(data.shape, scale.shape)):
                scale = np.repeat(scale, extent // count, axis)
            return data.astype(scale.dtype) * scale
        assert operation.type == "constexpr_lut_to_dense", operation.type
        codes, lut = given["indices"], given["lut"]
        *counts, size, vector = lut.shape
        assert len(counts) == codes.ndim and codes.max(initial=0) < size
        table = np.zeros(codes.shape, int)
        for axis, (extent, count) in enumerate(zip(codes.shape, counts)):
            place = np.arange(extent) // (extent // count)
            table = table * count + place.reshape([-1 if i == axis else 1 for i in range(codes.ndim)])
        values = lut.reshape(-1, size, vector)[table, codes]
        if vector == 1:
            return values[..., 0]
        axis = int(given["vector_axis"])
        shape = [extent * (vector if i == axis else 1) for i, extent in enumerate(codes.shape)]
        return np.moveaxis(values, -1, axis + 1).reshape(shape)

    def types(self):
        """Name and element type of each value."""
        tensors = [one for operation in self.block.operations for one in operation.outputs]
        return {one.name: NAMES.get(one.type.tensorType.dataType) for one in tensors}

    def run(self, feed: dict) -> dict:
        """The outputs for these inputs."""
        values = {name: np.asarray(value, np.float64) for name, value in feed.items()}
        for name, value in self.constants.items():
            is_float = isinstance(value, np.ndarray) and value.dtype.kind == "f"
            values[name] = value.astype(np.float64) if is_float else value
        for operation in self.block.operations:
            if operation.type == "const" or operation.type.startswith("constexpr_"):
                continue
            given = {}
            for name, argument in operation.inputs.items():
                bound = [values[one.name] if one.WhichOneof("binding") == "name" else self.value(one.value)
                         for one in argument.arguments]
                given[name] = bound if name == "values" else bound[0]
            results = globals()["op_" + operation.type](**given)
            results = results if isinstance(results, tuple) else (results,)
            for output, result in zip(operation.outputs, results):
                if output.type.WhichOneof("type") == "tensorType" and isinstance(result, np.ndarray):
                    shape = tuple(extent.constant.size for extent in output.type.tensorType.dimensions)
                    assert result.shape == shape, (operation.type, output.name, result.shape, shape)
                values[output.name] = result
        return {name: values[name] for name in self.block.outputs}


def windows(x, kernel, strides, dilations):
    """All windows of the last axes, these at the end."""
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations)]
    axes = tuple(range(x.ndim - len(kernel), x.ndim))
    view = np.lib.stride_tricks.sliding_window_view(x, spans, axes)
    places = [slice(None)] * (x.ndim - len(kernel)) + [slice(None, None, s) for s in strides]
    return view[tuple(places + [slice(None, None, d) for d in dilations])]


def bordered(x, pad, pad_type, count, value=0.0):
    assert pad_type in ("valid", "custom")
    pads = [(0, 0)] * (x.ndim - count) + list(zip(pad[::2], pad[1::2])) if pad_type == "custom" else [(0, 0)] * x.ndim
    return np.pad(x, pads, constant_values=value)


def op_conv(x, weight, strides, pad_type, dilations, groups, pad=(), bias=None):
    groups, count = int(groups), weight.ndim - 2
    seen = windows(bordered(x, pad, pad_type, count), weight.shape[2:], strides, dilations)
    parts = []
    for part, own in zip(np.split(seen, groups, 1), np.split(weight, groups, 0)):
        axes = list(range(2 + count, 2 + 2 * count))
        parts.append(np.moveaxis(np.tensordot(part, own, ([1] + axes, range(1, own.ndim))), -1, 1))
    made = np.concatenate(parts, 1)
    return made if bias is None else made + bias.reshape([-1] + [1] * count)


def op_conv_transpose(x, weight, strides, pad_type, dilations, groups, pad=(), bias=None):
    groups, kernel = int(groups), weight.shape[2:]
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations)]
    full = [(n - 1) * s + span for n, s, span in zip(x.shape[2:], strides, spans)]
    made = np.zeros([x.shape[0], weight.shape[1] * groups, *full])
    for at in np.ndindex(*kernel):
        parts = []
        for part, own in zip(np.split(x, groups, 1), np.split(weight, groups, 0)):
            parts.append(np.moveaxis(np.tensordot(part, own[(slice(None), slice(None), *at)], ([1], [0])), -1, 1))
        places = [slice(i * d, i * d + (n - 1) * s + 1, s) for i, d, n, s in zip(at, dilations, x.shape[2:], strides)]
        made[(slice(None), slice(None), *places)] += np.concatenate(parts, 1)
    if pad_type == "custom":
        made = made[(slice(None), slice(None), *[slice(a, n - b) for a, b, n in zip(pad[::2], pad[1::2], full)])]
    return made if bias is None else made + bias.reshape([-1] + [1] * len(kernel))


def pooled(x, kernel_sizes, strides, pad_type, pad, border):
    count = len(kernel_sizes)
    seen = windows(bordered(x, pad, pad_type, count, border), kernel_sizes, strides, [1] * count)
    return seen, tuple(range(seen.ndim - count, seen.ndim))


def op_max_pool(x, kernel_sizes, strides, pad_type, pad=()):
    seen, axes = pooled(x, kernel_sizes, strides, pad_type, pad, -np.inf)
    return seen.max(axes)


def op_avg_pool(x, kernel_sizes, strides, pad_type, exclude_padding_from_average, pad=()):
    seen, axes = pooled(x, kernel_sizes, strides, pad_type, pad, 0.0)
    if not exclude_padding_from_average:
        return seen.mean(axes)
    counted, _ = pooled(np.ones_like(x), kernel_sizes, strides, pad_type, pad, 0.0)
    return seen.sum(axes) / counted.sum(axes)


def op_linear(x, weight, bias=None):
    return x @ weight.T + (0.0 if bias is None else bias)


def op_matmul(x, y, transpose_x=False, transpose_y=False):
    return (np.swapaxes(x, -1, -2) if transpose_x else x) @ (np.swapaxes(y, -1, -2) if transpose_y else y)


def reduction(function):
    return lambda x, axes, keep_dims: function(x, axis=tuple(int(a) for a in axes), keepdims=keep_dims)


op_reduce_mean = reduction(np.mean)
op_reduce_sum = reduction(np.sum)
op_reduce_max = reduction(np.max)
op_reduce_min = reduction(np.min)
op_reduce_prod = reduction(np.prod)
op_reduce_l1_norm = reduction(lambda x, **how: np.abs(x).sum(**how))
op_reduce_l2_norm = reduction(lambda x, **how: np.sqrt((x * x).sum(**how)))
op_reduce_sum_square = reduction(lambda x, **how: (x * x).sum(**how))
op_reduce_log_sum_exp = reduction(lambda x, **how: np.log(np.exp(x).sum(**how)))


def op_softmax(x, axis):
    powers = np.exp(x - x.max(int(axis), keepdims=True))
    return powers / powers.sum(int(axis), keepdims=True)


def op_layer_norm(x, axes, epsilon, gamma=1.0, beta=0.0):
    axes = tuple(int(a) for a in axes)
    centred = x - x.mean(axes, keepdims=True)
    return centred / np.sqrt((centred ** 2).mean(axes, keepdims=True) + epsilon) * gamma + beta


def op_instance_norm(x, gamma, beta, epsilon):
    axes, shape = tuple(range(2, x.ndim)), [-1] + [1] * (x.ndim - 2)
    centred = x - x.mean(axes, keepdims=True)
    scaled = centred / np.sqrt((centred ** 2).mean(axes, keepdims=True) + epsilon)
    return scaled * gamma.reshape(shape) + beta.reshape(shape)


def op_local_response_norm(x, size, alpha, beta, k):
    half = int(size) // 2
    squares = np.pad(x * x, [(0, 0), (half, half)] + [(0, 0)] * (x.ndim - 2))
    sums = sum(squares[:, i:i + x.shape[1]] for i in range(int(size)))
    return x / (k + alpha / int(size) * sums) ** beta


def op_clip(x, alpha, beta):
    return np.clip(x, alpha, beta)


def op_relu6(x):
    return np.clip(x, 0, 6)


def op_prelu(x, alpha):
    return np.where(x > 0, x, x * alpha.reshape([-1] + [1] * (x.ndim - 2)))


def op_gelu(x, mode):
    if mode == "EXACT":
        return x / 2 * (1 + erf(x / np.sqrt(2)))
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x ** 3)))


erf = np.vectorize(math.erf, otypes=[float])
op_erf = lambda x: erf(x)
op_identity = lambda x: x.copy()
op_cast = lambda x, dtype: x
op_add = lambda x, y: x + y
op_sub = lambda x, y: x - y
op_mul = lambda x, y: x * y
op_real_div = lambda x, y: x / y
op_pow = lambda x, y: x ** y
op_maximum = lambda x, y: np.maximum(x, y)
op_minimum = lambda x, y: np.minimum(x, y)
op_relu = lambda x: np.maximum(x, 0)
op_leaky_relu = lambda x, alpha: np.where(x >= 0, x, alpha * x)
op_elu = lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))
op_thresholded_relu = lambda x, alpha: np.where(x >= alpha, x, 0.0)
op_sigmoid = lambda x: 1 / (1 + np.exp(-x))
op_sigmoid_hard = lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1)
op_silu = lambda x: x / (1 + np.exp(-x))
op_softplus = lambda x: np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)
op_softsign = lambda x: x / (1 + np.abs(x))
op_log = lambda x, epsilon: np.log(x + epsilon)


def of_numpy(function):
    return lambda x: function(x)


for _name in "tanh exp abs sqrt sin cos tan sinh cosh floor ceil sign round".split():
    globals()["op_" + _name] = of_numpy(getattr(np, _name))
for _name in "sin cos tan tanh".split():
    globals()["op_a" + _name] = of_numpy(getattr(np, "arc" + _name))


def op_reshape(x, shape):
    return x.reshape([int(n) for n in shape])


def op_transpose(x, perm):
    return x.transpose([int(a) for a in perm])


def op_concat(values, axis, interleave):
    assert not interleave
    return np.concatenate(values, int(axis))


def op_split(x, split_sizes, axis):
    return tuple(np.split(x, np.cumsum(split_sizes)[:-1], int(axis)))


def op_slice_by_index(x, begin, end, stride):
    return x[tuple(slice(int(a), int(b), int(s)) for a, b, s in zip(begin, end, stride))]


def op_pad(x, pad, mode, constant_val):
    pads = [(0, 0)] * (x.ndim - len(pad) // 2) + list(zip(pad[::2], pad[1::2]))
    how = {"constant": dict(constant_values=constant_val), "reflect": {}, "replicate": {}}[mode]
    return np.pad(x, pads, mode="edge" if mode == "replicate" else mode, **how)


def op_gather(x, indices, axis, validate_indices):
    return np.take(x, indices, int(axis))


def op_tile(x, reps):
    return np.tile(x, [int(n) for n in reps])


def op_upsample_nearest_neighbor(x, scale_factor_height, scale_factor_width):
    return x.repeat(int(scale_factor_height), 2).repeat(int(scale_factor_width), 3)


def interpolated(x, axis, places):
    low = np.floor(places).astype(int)
    high = np.minimum(low + 1, x.shape[axis] - 1)
    share = (places - low).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    return np.take(x, low, axis) * (1 - share) + np.take(x, high, axis) * share


def op_resize_bilinear(x, target_size_height, target_size_width, sampling_mode):
    for axis, to in ((2, int(target_size_height)), (3, int(target_size_width))):
        last, at = x.shape[axis] - 1, np.arange(to)
        if sampling_mode == "STRICT_ALIGN_CORNERS":
            places = at * last / max(to - 1, 1)
        else:
            assert sampling_mode == "UNALIGN_CORNERS"
            places = (at + 0.5) * x.shape[axis] / to - 0.5
        x = interpolated(x, axis, np.clip(places, 0, last))
    return x


def op_upsample_bilinear(x, scale_factor_height, scale_factor_width, align_corners, half_pixel_centers):
    assert not align_corners and not half_pixel_centers
    for axis, times in ((2, int(scale_factor_height)), (3, int(scale_factor_width))):
        places = np.arange(x.shape[axis] * times) / times
        x = interpolated(x, axis, np.clip(places, 0, x.shape[axis] - 1))
    return x


def op_depth_to_space(x, block_size):
    (n, c, h, w), b = x.shape, int(block_size)
    return x.reshape(n, b, b, c // b ** 2, h, w).transpose(0, 3, 4, 1, 5, 2).reshape(n, c // b ** 2, h * b, w * b)


def op_pixel_shuffle(x, upscale_factor):
    (n, c, h, w), b = x.shape, int(upscale_factor)
    return x.reshape(n, c // b ** 2, b, b, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(n, c // b ** 2, h * b, w * b)


def op_space_to_depth(x, block_size):
    (n, c, h, w), b = x.shape, int(block_size)
    return x.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4).reshape(n, c * b * b, h // b, w // b)


def op_classify(probabilities, classes):
    scores = probabilities.ravel()
    return classes[int(scores.argmax())], dict(zip(classes, scores))
