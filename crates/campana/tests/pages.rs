//! The pages as a browser sees them: no message on its console, nothing asked
//! of a network. Runs where Chromium is installed, and says so elsewhere.
#![cfg(unix)]

mod support;

use std::fs;
use std::process::Command;

use support::{Folder, fixture, skipped};

/// What Chromium says of a page on its console, and the document once its
/// script has run; `None` where there is no Chromium.
fn browse(folder: &Folder, page: &str) -> Option<(Vec<String>, String)> {
    let profile = format!("--user-data-dir={}", folder.path("profile").display());
    let output = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
        ])
        .args(["--no-first-run", "--disable-background-networking"])
        .args(["--disable-component-update", "--disable-sync"])
        .args(["--enable-logging=stderr", "--dump-dom", &profile])
        .arg(format!("file://{}", folder.path(page).display()))
        .output();
    let Ok(output) = output else {
        skipped(&format!("there is no chromium to look at {page}"));
        return None;
    };
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    let console = said.lines().filter(|line| line.contains("CONSOLE"));
    Some((
        console.map(str::to_owned).collect(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
    ))
}

#[test]
fn pages_are_silent_and_their_tables_sort() {
    let folder = Folder::with_model(fs::read(fixture()).expect("the fixture"));
    folder
        .run(&["inspect", "model.onnx", "--html", "inspect.html"])
        .succeeds();
    let quantize = [
        "quantize",
        "model.onnx",
        "-o",
        "out.onnx",
        "--report",
        "quantize.html",
    ];
    folder.run(&quantize).succeeds();
    for (page, column) in [("inspect.html", 4), ("quantize.html", 4)] {
        // Chromium has no finger to click with: the page clicks itself.
        let text = String::from_utf8(folder.read(page)).expect("a page is UTF-8");
        let click = format!(
            "document.querySelector('table.sortable').tHead.rows[0].cells[{column}].click();\n</script>"
        );
        assert_eq!(text.matches("</script>").count(), 1, "{page}");
        folder.write(page, text.replace("</script>", &click));
        let Some((console, document)) = browse(&folder, page) else {
            return;
        };
        assert!(console.is_empty(), "{page}: {console:?}");
        assert!(document.contains("aria-sort=\"ascending\""), "{page}");
        let counts = weights_in_rows(&document, column);
        assert_eq!(counts.len(), 10, "{page}: {counts:?}");
        assert!(
            counts.is_sorted() && counts[0] < counts[9],
            "{page}: {counts:?}"
        );
    }
}

#[test]
fn the_page_of_a_benchmark_is_silent_and_has_a_bar_for_each_layer() {
    let folder = Folder::with_model(fs::read(fixture()).expect("the fixture"));
    let sidecar = fs::read(fixture().with_extension("json")).expect("its sidecar");
    folder.write("model.json", sidecar);
    let report = folder
        .run(&[
            "bench",
            "model.onnx",
            "--runs=2",
            "--json",
            "--html",
            "page.html",
        ])
        .json();
    let layers = report["models"][0]["layers"].as_array().expect("layers");
    let Some((console, document)) = browse(&folder, "page.html") else {
        return;
    };
    assert!(console.is_empty(), "{console:?}");
    assert_eq!(
        document.matches("<span class=\"bar\">").count(),
        layers.len()
    );
}

#[test]
fn what_a_console_says_is_heard() {
    let folder = Folder::new();
    folder.write("page.html", "<script>console.error('heard')</script>");
    if let Some((console, _)) = browse(&folder, "page.html") {
        assert!(
            console.iter().any(|line| line.contains("heard")),
            "{console:?}"
        );
    }
}

/// The numbers of a column of the first table.
fn weights_in_rows(document: &str, column: usize) -> Vec<u64> {
    let body = document.split("<tbody>").nth(1).expect("a table");
    let body = body.split("</tbody>").next().expect("its end");
    body.split("<tr>")
        .skip(1)
        .map(|row| {
            // The first cell is a heading.
            let cell = row.split("<td").nth(column).expect("a cell");
            let text = cell.split('>').nth(1).expect("its text");
            let text = text.split('<').next().expect("its end");
            text.replace(',', "").parse().expect("a number")
        })
        .collect()
}
