//! Examples of each command, for its help and its manual page.

/// What an example does, and its line.
type Example = (&'static str, &'static str);

/// The examples of a command.
const EXAMPLES: [(&str, &[Example]); 11] = [
    (
        "inspect",
        &[
            ("What each width would cost", "campana inspect model.onnx"),
            (
                "The same as a page",
                "campana inspect model.onnx --html page.html",
            ),
        ],
    ),
    (
        "quantize",
        &[
            (
                "4 bits a weight, without data",
                "campana quantize model.onnx -o smaller.onnx",
            ),
            (
                "Corrected on images, with a page about it",
                "campana quantize model.onnx -o smaller.onnx --calibrate train --report page.html",
            ),
            (
                "The smallest that loses at most 1 % of right answers",
                "campana quantize model.onnx -o smaller.onnx --max-drop 1% --data validation",
            ),
            (
                "On integers in stock runtimes",
                "campana quantize model.onnx -o int8.onnx --target int8 --calibrate train",
            ),
        ],
    ),
    (
        "evaluate",
        &[(
            "Two models on the same images",
            "campana evaluate model.onnx smaller.onnx --data test --reference model.onnx",
        )],
    ),
    (
        "compare",
        &[
            (
                "Two widths of every method, as a page",
                "campana compare model.onnx --data test --bits 3,4 --html compare.html",
            ),
            (
                "The second of four shares, on a machine of its own",
                "campana compare model.onnx --data test --shard 2/4 --out rows-2.jsonl",
            ),
        ],
    ),
    (
        "merge",
        &[(
            "One table of two shares",
            "campana merge rows-1.jsonl rows-2.jsonl --html compare.html",
        )],
    ),
    (
        "run",
        &[
            ("What a picture shows", "campana run model.onnx picture.jpg"),
            (
                "What any network computes from arrays",
                "campana run model.onnx inputs.npz -o outputs.npz",
            ),
        ],
    ),
    (
        "bench",
        &[(
            "Beside the float model, layer by layer",
            "campana bench smaller.onnx --reference model.onnx --layers",
        )],
    ),
    (
        "verify",
        &[(
            "In two runtimes that python3 has",
            "campana verify smaller.onnx --reference model.onnx --runtimes onnxruntime,openvino",
        )],
    ),
    (
        "export",
        &[
            (
                "C for a microcontroller",
                "campana export w4a8.onnx -o firmware",
            ),
            (
                "What it takes, and whether that fits",
                "campana export w4a8.onnx --plan --flash 256kB --ram 64kB",
            ),
        ],
    ),
    (
        "pack",
        &[(
            "The smallest file to ship",
            "campana pack smaller.onnx -o smaller.campana",
        )],
    ),
    (
        "unpack",
        &[(
            "The model again",
            "campana unpack smaller.campana -o smaller.onnx",
        )],
    ),
];

/// The examples of a command by its name.
pub(crate) fn of(command: &str) -> &'static [Example] {
    let found = EXAMPLES.iter().find(|(name, _)| *name == command);
    found.map_or(&[], |(_, examples)| examples)
}

/// The command line with examples in its long help.
pub(crate) fn added_to(mut command: clap::Command) -> clap::Command {
    for (name, examples) in EXAMPLES {
        let lines: String = examples
            .iter()
            .map(|(does, line)| format!("\n  {does}:\n    {line}"))
            .collect();
        command = command.mut_subcommand(name, |command| {
            command.after_long_help(format!("Examples:{lines}"))
        });
    }
    command
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::args::Args;

    #[test]
    fn every_example_is_a_line_that_the_command_takes() {
        let command = added_to(Args::command());
        for (name, examples) in EXAMPLES {
            assert!(!examples.is_empty());
            for (_, line) in examples {
                assert!(line.starts_with(&format!("campana {name} ")), "{line}");
                let found = command.clone().try_get_matches_from(line.split(' '));
                assert!(found.is_ok(), "{line}: {found:?}");
            }
        }
    }
}
