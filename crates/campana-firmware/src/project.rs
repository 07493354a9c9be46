//! What stands around the code: how it is built, and what to know.

use crate::memory::Firmware;
use crate::plan::MemoryPlan;

/// `CMakeLists.txt`: a library, and a test of it.
pub(crate) fn cmake(name: &str, sources: &[String]) -> String {
    let sources = sources.join("\n    ");
    format!(
        "cmake_minimum_required(VERSION 3.10)\nproject({name} C)\n\nset(CMAKE_C_STANDARD 99)\n\
         if(NOT CMAKE_BUILD_TYPE)\n    set(CMAKE_BUILD_TYPE Release)\nendif()\n\n\
         add_library({name} STATIC\n    {sources}\n)\n\
         target_include_directories({name} PUBLIC ${{CMAKE_CURRENT_SOURCE_DIR}})\n\n\
         if(CMAKE_SOURCE_DIR STREQUAL CMAKE_CURRENT_SOURCE_DIR)\n    enable_testing()\n    \
         add_executable({name}_test {name}_test.c)\n    target_link_libraries({name}_test {name})\n    \
         add_test(NAME {name} COMMAND {name}_test)\nendif()\n"
    )
}

/// `README.md`.
pub(crate) fn readme(
    firmware: &Firmware,
    name: &str,
    left_out: Option<&str>,
    plan: &MemoryPlan,
    sources: &[String],
) -> String {
    let upper = name.to_uppercase();
    let gives_floats = firmware
        .network
        .outputs
        .iter()
        .any(|&output| firmware.network.values[output].codes.is_none());
    let outputs = match gives_floats {
        true => {
            "Outputs that the network does not round to 8 bits are float32; they are computed on integers, so \
             that no floating-point unit and no library for it is needed."
        }
        false => "Outputs are int8 codes, too.",
    };
    let left_out = left_out.map_or_else(String::new, |note| format!("\n{note}\n"));
    format!(
        "# {name}\n\nA quantized network as C99, written by `campana export --target c`. It needs `<stdint.h>` and\n\
         `<string.h>`, allocates nothing and gives the results of campana's integer engine bit for bit.\n\n\
         ```c\n#include \"{name}.h\"\n```\n\n\
         Inputs are int8 codes: a value x becomes `x / SCALE + ZERO_POINT`, rounded to the nearest integer (ties\n\
         to even) and held to -128 and 127, with the constants of `{name}.h`. Images have their channels last.\n\
         {outputs}\n{left_out}\n\
         | | |\n| --- | --- |\n| flash for constants | {} bytes |\n| RAM (`{upper}_ARENA_BYTES`) | {} bytes |\n\
         | multiply-accumulates | {} |\n\n\
         Build and test it here:\n\n```sh\ncmake -B build && cmake --build build && ctest --test-dir build\n```\n\n\
         Or compile these files into your own program: {}. `{name}_test.c` holds a\n\
         `main` that compares outputs with those of the engine; it prints through `printf`.\n",
        plan.flash_bytes() - plan.code_bytes,
        plan.arena_bytes,
        plan.multiply_accumulates(),
        sources.join(", "),
    )
}
