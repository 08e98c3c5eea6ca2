//! `import-text FILE`: imports every graph of FILE (see `onnx_text`) and prints the `nn` of each, or what is wrong.
#![forbid(unsafe_code)]

use kiln_frontend::{ImportOptions, import};
use kiln_testsuite::onnx_text;
use onnx_protobuf::Message;
use std::{env, fs, process::ExitCode};

fn main() -> ExitCode {
    match run() {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("import-text: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<String, String> {
    let path = env::args().nth(1).ok_or("usage: import-text FILE")?;
    let text = fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let file = folder.path().join("model.onnx");
    let mut out = String::new();
    for model in onnx_text::parse(&text).map_err(|e| format!("{path}: {e}"))? {
        let bytes = model.write_to_bytes().map_err(|e| e.to_string())?;
        fs::write(&file, bytes).map_err(|e| e.to_string())?;
        out += &format!("// {}\n", model.graph.name);
        match import(&file, &ImportOptions::default()) {
            Ok(imported) => out += &body(&imported.module.print()),
            Err(diagnostics) => out += &format!("{diagnostics}\n"),
        }
    }
    Ok(out)
}

/// The functions of a module's text, without the module around them.
fn body(module: &str) -> String {
    let lines = module.lines().filter(|line| !line.starts_with("module") && *line != "}");
    lines.map(|line| format!("{}\n", line.strip_prefix("  ").unwrap_or(line))).collect()
}
