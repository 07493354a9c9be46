//! Runs an ONNX model on noise, or on floats from a file: `latency MODEL [--batch N]
//! [--threads N] [--seconds S] [--layers] [--input FILE] [--output FILE]`; files hold
//! raw little-endian float32.
#![expect(clippy::print_stdout, reason = "what an example is for")]

use std::time::{Duration, Instant};

use campana_ir::graph::Dim;
use campana_runtime::{Input, Plan, PlanOptions, Session};
use campana_tensor::TensorData;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let option = |name: &str| {
        args.iter()
            .position(|arg| arg == name)
            .and_then(|i| args.get(i + 1))
    };
    let model = args.get(1).ok_or("a model is expected")?;
    let batch: usize = option("--batch").map_or(Ok(1), |v| v.parse())?;
    let threads: usize = option("--threads").map_or(Ok(1), |v| v.parse())?;
    let seconds: f64 = option("--seconds").map_or(Ok(2.0), |v| v.parse())?;

    let graph = campana_ir::format::load(model)?;
    let session = Session::new(Plan::new(&graph, PlanOptions::default())?, threads);
    drop(graph);
    let input = session
        .plan()
        .inputs()
        .first()
        .ok_or("a model with an input is expected")?;
    let name = input.name.clone();
    let shape: Vec<usize> = input
        .shape
        .iter()
        .flatten()
        .map(|dim| match dim {
            Dim::Fixed(dim) => *dim,
            Dim::Symbol(_) => batch,
        })
        .collect();
    let data: Vec<f32> = match option("--input") {
        Some(file) => std::fs::read(file)?
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            .collect(),
        None => (0..shape.iter().product::<usize>())
            .map(|i| ((i * 7919 % 1013) as f32 / 506.5 - 1.0) * 2.0)
            .collect(),
    };
    let inputs = [(
        name.as_str(),
        Input::F32 {
            shape: &shape,
            data: &data,
        },
    )];
    let outputs = session.run(&inputs)?;
    if let Some(file) = option("--output") {
        let mut bytes = Vec::new();
        for output in &outputs {
            if let TensorData::F32(values) = output.data() {
                values
                    .iter()
                    .for_each(|value| bytes.extend(value.to_le_bytes()));
            }
        }
        return Ok(std::fs::write(file, bytes)?);
    }
    if args.iter().any(|arg| arg == "--layers") {
        let mut best: Vec<(String, u64)> = Vec::new();
        for _ in 0..20 {
            let (_, times) = session.profile(&inputs)?;
            best.resize(times.len(), (String::new(), u64::MAX));
            for (best, time) in best.iter_mut().zip(times) {
                best.0 = format!("{:20} {}", time.op_type, time.node);
                best.1 = best.1.min(time.elapsed_ns);
            }
        }
        for (node, elapsed_ns) in &best {
            println!("{:9.1} us  {node}", *elapsed_ns as f64 * 1e-3);
        }
        println!(
            "{:9.1} us  in all",
            best.iter().map(|(_, ns)| *ns as f64).sum::<f64>() * 1e-3
        );
    }
    let mut times = Vec::new();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs_f64(seconds) || times.len() < 5 {
        let start = Instant::now();
        session.run(&inputs)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    println!(
        "batch {batch} threads {threads}: min {:.3} ms, median {:.3} ms; weights {} bytes, activations {} bytes",
        times[0],
        times[times.len() / 2],
        session.weight_bytes(),
        session.activation_bytes(),
    );
    Ok(())
}
