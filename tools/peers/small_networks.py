"""Small networks, one an operator or shape: a convolution or product and what is tested behind it."""

import numpy as np
import onnx
from onnx import TensorProto, helper

random = np.random.default_rng(1)


class Net:
    """A network under construction; its input is a convolution's."""

    def __init__(self, shape, channels=8, weights=None, name="x"):
        self.nodes, self.constants, self.count = [], [], 0
        self.inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
        if weights is None:
            weights = [channels, shape[1]] + [1] * (len(shape) - 2)
        self.value = self.conv(name, weights) if len(weights) > 2 else self.dense(name, weights)

    def constant(self, values):
        values = np.asarray(values)
        if values.dtype == np.float64:
            values = values.astype(np.float32)
        name = f"c{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(values, name))
        return name

    def drawn(self, *shape):
        return self.constant(random.standard_normal(shape) / np.sqrt(max(np.prod(shape[1:]), 1)))

    def add(self, op, inputs, outputs=1, **attributes):
        names = [f"v{self.count + i}" for i in range(outputs)]
        self.count += outputs
        self.nodes.append(helper.make_node(op, inputs, names, name=f"n{len(self.nodes)}_{op}", **attributes))
        return names[0] if outputs == 1 else names

    def conv(self, of, weights, bias=True, **attributes):
        inputs = [of, self.drawn(*weights)] + ([self.drawn(weights[0])] if bias else [])
        return self.add("Conv", inputs, **attributes)

    def dense(self, of, weights):
        return self.add("Gemm", [of, self.drawn(*weights), self.drawn(weights[0])], transB=1)

    def then(self, op, *more, **attributes):
        self.value = self.add(op, [self.value, *[m if isinstance(m, str) else self.constant(m) for m in more]], **attributes)
        return self

    def then_conv(self, weights, **attributes):
        self.value = self.conv(self.value, weights, **attributes)
        return self

    def model(self, outputs=None):
        named = [onnx.ValueInfoProto(name=name) for name in outputs or [self.value]]
        for one in named:
            one.type.tensor_type.elem_type = TensorProto.FLOAT
        graph = helper.make_graph(self.nodes, "case", self.inputs, named, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


IMAGE = [1, 3, 12, 10]


def net(**options):
    return Net(IMAGE, **options)


def residual():
    one = net()
    branch = one.conv(one.value, [8, 8, 3, 3], pads=[1, 1, 1, 1])
    one.value = one.add("Relu", [one.add("Add", [branch, one.value])])
    return one


def joined(axis=1):
    one = net()
    left = one.add("Relu", [one.conv(one.value, [4, 8, 3, 3], pads=[1, 1, 1, 1])])
    right = one.add("Clip", [one.conv(one.value, [4, 8, 1, 1]), one.constant(np.float32(0)), one.constant(np.float32(6))])
    one.value = one.add("Concat", [left, right], axis=axis)
    return one.then_conv([5, 8 if axis == 1 else 4, 1, 1])


def gated():
    one = net()
    gate = one.add("GlobalAveragePool", [one.value])
    gate = one.add("HardSigmoid", [one.conv(gate, [8, 8, 1, 1])], alpha=1 / 6)
    one.value = one.add("Mul", [one.value, gate])
    return one.then_conv([6, 8, 1, 1])


def split():
    one = net()
    left, right = one.add("Split", [one.value], 2, axis=1)
    left = one.conv(left, [4, 4, 3, 3], pads=[1, 1, 1, 1])
    one.value = one.add("Add", [left, right])
    return one.then_conv([6, 4, 1, 1])


def two_outputs():
    one = net()
    flat = one.add("Flatten", [one.add("GlobalAveragePool", [one.value])])
    return one, [one.value, one.dense(flat, [5, 8])]


def two_inputs():
    one = net()
    one.inputs.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6]))
    flat = one.add("Flatten", [one.add("GlobalAveragePool", [one.value])])
    one.value = one.add("Add", [one.dense(flat, [5, 8]), one.dense("y", [5, 6])])
    return one


def channels_last_input():
    one = Net([1, 3, 8, 8])
    first, one.nodes = one.nodes[0], []
    one.inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 6, 3])]
    turned = one.add("Transpose", ["x"], perm=[0, 3, 1, 2])
    one.value = one.add("Conv", [turned, *first.input[1:]])
    return one.then_conv([4, 8, 3, 3])


def flattened_by_shape():
    one = net().then_conv([4, 8, 3, 3], strides=[2, 2]).then("Relu")
    batch = one.add("Gather", [one.add("Shape", [one.value]), one.constant(np.int64(0))], axis=0)
    batch = one.add("Unsqueeze", [batch, one.constant(np.int64([0]))])
    shape = one.add("Concat", [batch, one.constant(np.int64([-1]))], axis=0)
    one.value = one.add("Reshape", [one.value, shape])
    one.value = one.dense(one.value, [7, 80])
    return one


def attention():
    one = Net([1, 6], weights=[12, 6])
    one.value = one.add("Reshape", [one.value, one.constant(np.int64([1, 3, 4]))])
    turned = one.add("Transpose", [one.value], perm=[0, 2, 1])
    one.value = one.add("MatMul", [one.add("Softmax", [one.add("MatMul", [one.value, turned])], axis=-1), one.value])
    return one


def dense_of_rank_3():
    one = Net([1, 5, 6], weights=[1])
    return one


def rank_3():
    one = Net([2, 6], weights=[12, 6]).then("Reshape", np.int64([2, 3, 4]))
    one.value = one.add("Add", [one.add("MatMul", [one.value, one.drawn(4, 5)]), one.drawn(5)])
    return one.then("Relu")


RESIZE = dict(mode="linear")
CASES = {
    "conv": lambda: net(),
    "conv same": lambda: net().then_conv([4, 8, 3, 3], pads=[1, 1, 1, 1]).then("Relu"),
    "conv stride 2": lambda: net().then_conv([4, 8, 3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
    "conv asymmetric": lambda: net().then_conv([4, 8, 3, 5], pads=[0, 2, 1, 1], strides=[2, 1]),
    "conv SAME_LOWER": lambda: net().then_conv([4, 8, 3, 3], auto_pad="SAME_LOWER", strides=[2, 2]),
    "conv SAME_UPPER": lambda: net().then_conv([4, 8, 4, 4], auto_pad="SAME_UPPER"),
    "conv dilated": lambda: net().then_conv([4, 8, 3, 3], dilations=[2, 2], pads=[2, 2, 2, 2]),
    "conv grouped": lambda: net().then_conv([6, 4, 3, 3], group=2, pads=[1, 1, 1, 1]),
    "conv without bias": lambda: net().then_conv([6, 8, 3, 3], bias=False),
    "depthwise": lambda: net().then_conv([8, 1, 3, 3], group=8, pads=[1, 1, 1, 1]),
    "depthwise multiplied": lambda: net().then_conv([16, 1, 3, 3], group=8, strides=[2, 2], pads=[1, 1, 1, 1]),
    "depthwise dilated": lambda: net().then_conv([8, 1, 3, 3], group=8, dilations=[2, 2], pads=[2, 2, 2, 2]),
    "conv of one axis": lambda: Net([1, 3, 20]).then_conv([6, 8, 5], pads=[2, 2], strides=[2]).then("Relu").then_conv([4, 6, 1]),
    "conv of a batch": lambda: Net([3, 3, 9, 9]).then_conv([4, 8, 3, 3]),
    "open batch": lambda: Net(["N", 3, 9, 9]).then_conv([4, 8, 3, 3]),
    "residual": residual,
    "concat": joined,
    "concat of rows": lambda: joined(2),
    "gated": gated,
    "split": split,
    "two outputs": two_outputs,
    "two inputs": two_inputs,
    "channels last input": channels_last_input,
    "flattened": lambda: flattened_by_shape(),
    "dense": lambda: Net([1, 6], weights=[12, 6]).then("Relu"),
    "dense of rank 3": rank_3,
    "attention": attention,
    "clip to 3": lambda: net().then("Clip", np.float32(-0.5), np.float32(0.7)),
    "relu6": lambda: net().then("Clip", np.float32(0), np.float32(6)).then_conv([4, 8, 1, 1]),
    "leaky relu": lambda: net().then("LeakyRelu", alpha=0.2).then_conv([4, 8, 1, 1]),
    "prelu": lambda: net().then("PRelu", random.uniform(0, 1, [8, 1, 1])).then_conv([4, 8, 1, 1]),
    "sigmoid": lambda: net().then("Sigmoid").then_conv([4, 8, 1, 1]),
    "tanh": lambda: net().then("Tanh").then_conv([4, 8, 1, 1]),
    "hard swish": lambda: net().then("HardSwish").then_conv([4, 8, 1, 1]),
    "elu": lambda: net().then("Elu").then_conv([4, 8, 1, 1]),
    "softmax of channels": lambda: net().then("Softmax", axis=1),
    "softmax of rows": lambda: net().then("Softmax", axis=2),
    "max pool": lambda: net().then("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]).then_conv([4, 8, 1, 1]),
    "max pool ceil": lambda: net().then("MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1).then_conv([4, 8, 1, 1]),
    "average pool": lambda: net().then("AveragePool", kernel_shape=[2, 2], strides=[2, 2]).then_conv([4, 8, 1, 1]),
    "average pool counted": lambda: net().then(
        "AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1).then_conv([4, 8, 1, 1]),
    "average pool same": lambda: net().then("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]).then_conv([4, 8, 1, 1]),
    "average pool of counted places": lambda: net().then(
        "AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 1, 1]).then_conv([4, 8, 1, 1]),
    "average pool ceil": lambda: net().then(
        "AveragePool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1).then_conv([4, 8, 1, 1]),
    "response normalization": lambda: net().then("LRN", size=3, alpha=0.1).then_conv([4, 8, 1, 1]),
    "global average": lambda: net().then("GlobalAveragePool").then("Flatten"),
    "reduced mean": lambda: net().then("ReduceMean", axes=[2, 3], keepdims=0),
    "reduced max": lambda: net().then("ReduceMax", axes=[1], keepdims=1),
    "pad": lambda: net().then("Pad", np.int64([0, 0, 1, 2, 0, 0, 0, 1])).then_conv([4, 8, 3, 3]),
    "pad by a value": lambda: net().then("Pad", np.int64([0, 0, 1, 2, 0, 0, 0, 1]), np.float32(0.3)).then_conv([4, 8, 3, 3]),
    "pad of channels": lambda: net().then("Pad", np.int64([0, 2, 0, 0, 0, 2, 0, 0])).then_conv([4, 12, 1, 1]),
    "pad by reflection": lambda: net().then("Pad", np.int64([0, 0, 1, 2, 0, 0, 1, 2]), mode="reflect").then_conv([4, 8, 3, 3]),
    "slice": lambda: net().then("Slice", np.int64([1, 0]), np.int64([-1, 9]), np.int64([3, 2]), np.int64([2, 1])).then_conv([4, 8, 1, 1]),
    "transpose": lambda: net().then("Transpose", perm=[0, 2, 3, 1]),
    "shuffle": lambda: net().then("Reshape", np.int64([1, 2, 4, 12, 10])).then("Transpose", perm=[0, 2, 1, 3, 4]).then(
        "Reshape", np.int64([1, 8, 12, 10])).then_conv([4, 8, 1, 1]),
    "squeeze": lambda: net().then("GlobalAveragePool").then("Squeeze", np.int64([2, 3])),
    "gather": lambda: net().then("Gather", np.int64(2), axis=2),
    "doubled linearly": lambda: net().then("Resize", "", np.float32([1, 1, 2, 2]), mode="linear").then_conv([4, 8, 1, 1]),
    "doubled to the nearest": lambda: net().then(
        "Resize", "", np.float32([1, 1, 2, 2]), mode="nearest", nearest_mode="floor",
        coordinate_transformation_mode="asymmetric").then_conv([4, 8, 1, 1]),
    "aligned corners": lambda: net().then(
        "Resize", "", "", np.int64([1, 8, 17, 23]), mode="linear", coordinate_transformation_mode="align_corners"),
    "transposed conv": lambda: net().then("ConvTranspose", random.standard_normal([8, 4, 2, 2]) / 4, strides=[2, 2]),
    "transposed conv padded": lambda: net().then(
        "ConvTranspose", random.standard_normal([8, 4, 3, 3]) / 4, strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]),
    "normalization": lambda: net().then("Relu").then(
        "BatchNormalization", random.uniform(.5, 2, 8), random.standard_normal(8), random.standard_normal(8),
        random.uniform(.5, 2, 8)).then_conv([4, 8, 1, 1]),
    "to space": lambda: net().then("DepthToSpace", blocksize=2),
    "maximum": lambda: net().then("Max", np.float32(0.1)),
    "product with a constant": lambda: net().then("Mul", random.uniform(.5, 2, [8, 1, 1])).then_conv([4, 8, 1, 1]),
}


def made(make):
    """The model of a case, and an input for it."""
    one = make()
    one, outputs = one if isinstance(one, tuple) else (one, None)
    model = one.model(outputs)
    shapes = {i.name: [d.dim_value or 1 for d in i.type.tensor_type.shape.dim] for i in model.graph.input}
    return model, {key: random.standard_normal(shape).clip(-3, 3).astype(np.float32) for key, shape in shapes.items()}
