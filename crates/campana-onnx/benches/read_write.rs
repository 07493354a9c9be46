//! Reading and writing a model of 64 MB, beside the plain copy of its file.

use std::hint::black_box;
use std::io::Write;

use campana_onnx::{Content, Edits, Model, NewNode, NewTensor, Source, schema};
use campana_tensor::ElementType;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const TENSORS: usize = 64;
const TENSOR_LEN_BYTES: usize = 1 << 20;

fn model_file() -> tempfile::NamedTempFile {
    let weights = vec![1u8; TENSOR_LEN_BYTES];
    let mut graph = Content::default();
    for layer in 0..TENSORS {
        let (input, weight) = (format!("x{layer}"), format!("w{layer}"));
        let node = NewNode::new("MatMul", [&input, &weight], [format!("x{}", layer + 1)]);
        let dims = [TENSOR_LEN_BYTES / 4];
        let tensor = NewTensor::raw(&weight, &dims, ElementType::F32, &weights);
        graph = graph
            .message(schema::graph::NODE, node)
            .message(schema::graph::INITIALIZER, tensor);
    }
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    Content::default()
        .int(schema::model::IR_VERSION, 8)
        .message(schema::model::GRAPH, graph)
        .write(&Source::from_bytes(Vec::new()), &mut file)
        .expect("written");
    file.flush().expect("written");
    file
}

fn read_write(criterion: &mut Criterion) {
    let file = model_file();
    let path = file.path();
    let mut group = criterion.benchmark_group("64 MB model");
    group.throughput(Throughput::Bytes((TENSORS * TENSOR_LEN_BYTES) as u64));
    group.sample_size(10);
    group.bench_function("parse", |bencher| {
        bencher.iter(|| Model::open(path).expect("a valid model"));
    });
    let model = Model::open(path).expect("a valid model");
    group.bench_function("read_f32 of every tensor", |bencher| {
        bencher.iter(|| {
            for tensor in &model.graph.initializers {
                black_box(model.read_f32(tensor).expect("read"));
            }
        });
    });
    let out = tempfile::NamedTempFile::new().expect("a temporary file");
    group.bench_function("write without edits", |bencher| {
        bencher.iter(|| {
            let mut out = std::fs::File::create(out.path()).expect("a file");
            Edits::new(&model).write(&mut out).expect("written")
        });
    });
    group.bench_function("copy of the file by the system", |bencher| {
        bencher.iter(|| std::fs::copy(path, out.path()).expect("copied"));
    });
    group.finish();
}

criterion_group!(benches, read_write);
criterion_main!(benches);
