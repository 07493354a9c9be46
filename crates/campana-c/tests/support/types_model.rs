//! An ONNX model that gives back what it takes, of every type that C can hold.

/// ONNX's numbers of the types.
const TYPES: [i32; 13] = [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 16];

/// The model's file: inputs `x0` to `x12` of shape `[n]` and `x13`, a scalar
/// float; outputs `y0` to `y13`.
pub(crate) fn bytes() -> Vec<u8> {
    let values = TYPES.iter().map(|&number| (number, true));
    let mut graph = Vec::new();
    let mut declared = Vec::new();
    for (i, (number, has_axis)) in values.chain([(1, false)]).enumerate() {
        let [input, output] = [format!("x{i}"), format!("y{i}")];
        let mut node = field(1, input.as_bytes());
        node.extend(field(2, output.as_bytes()));
        node.extend(field(4, b"Identity"));
        graph.extend(field(1, &node));
        declared.extend(field(11, &value(&input, number, has_axis)));
        declared.extend(field(12, &value(&output, number, has_axis)));
    }
    graph.extend(field(2, b"types"));
    graph.extend(declared);
    let opset = [field(1, b""), varint(2, 17)].concat();
    [varint(1, 9), field(7, &graph), field(8, &opset)].concat()
}

/// A `ValueInfoProto`.
fn value(name: &str, number: i32, has_axis: bool) -> Vec<u8> {
    let axis = field(1, &field(2, b"n"));
    let shape = if has_axis { axis } else { Vec::new() };
    let tensor = [varint(1, number as u64), field(2, &shape)].concat();
    [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
}

/// A field of bytes; all here are shorter than 16 kB.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut all = vec![number << 3 | 2];
    all.extend(base_128(bytes.len() as u64));
    all.extend(bytes);
    all
}

/// A field of a number.
fn varint(number: u8, value: u64) -> Vec<u8> {
    let mut all = vec![number << 3];
    all.extend(base_128(value));
    all
}

fn base_128(mut value: u64) -> Vec<u8> {
    let mut all = Vec::new();
    while value > 127 {
        all.push(value as u8 | 128);
        value >>= 7;
    }
    all.push(value as u8);
    all
}
