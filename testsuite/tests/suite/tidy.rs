//! Rules about the sources themselves. Each failure lists every offender at once.

use kiln_frontend::ops::TABLE;
use kiln_machine::isa::ROWS;
use kiln_passes::registry;
use kiln_testsuite::{
    onnx_text, repository,
    sources::{self, PACKAGES, Source},
};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn all() -> Vec<Source> {
    sources::all().expect("the sources can be read")
}

fn none(offenders: Vec<String>, rule: &str) {
    assert!(offenders.is_empty(), "{rule}:\n  {}", offenders.join("\n  "));
}

/// What each package may depend on among ours, and the third-party crates that only some may know.
#[rustfmt::skip] // a table
const LAYERS: &[(&str, &[&str])] = &[
    ("kiln-machine",   &[]),
    ("kiln-runtime",   &["kiln-machine"]),
    ("kiln-ir",        &["kiln-machine", "melior", "mlir-sys"]),
    ("kiln-frontend",  &["kiln-ir", "kiln-machine"]),
    ("kiln-passes",    &["kiln-ir", "kiln-machine", "egg"]),
    ("kiln-backend",   &["kiln-ir", "kiln-machine"]),
    ("kiln",           &["kiln-ir", "kiln-frontend", "kiln-passes", "kiln-backend", "kiln-machine", "kiln-runtime",
                         "clap", "clap_complete", "clap_mangen"]),
];
const RESTRICTED: &[&str] = &["melior", "mlir-sys", "egg", "clap", "clap_complete", "clap_mangen"];

#[test]
fn crates_import_only_what_their_layer_allows() {
    let mut offenders = Vec::new();
    for (package, allowed) in LAYERS {
        let folder = PACKAGES.iter().find(|(name, _)| name == package).expect("a package of the workspace").1;
        let path = repository().join(folder).join("Cargo.toml");
        let text = fs::read_to_string(&path).expect("a manifest");
        let manifest: toml::Table = text.parse().expect("a manifest in TOML");
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(table) = manifest.get(section).and_then(|section| section.as_table()) else { continue };
            for name in table.keys() {
                let ours = PACKAGES.iter().any(|(ours, _)| ours == name);
                // the backend's own tests run what it emits
                let tested = (*package, section, name.as_str())
                    == ("kiln-backend", "dev-dependencies", "kiln-runtime");
                if (ours || RESTRICTED.contains(&name.as_str()))
                    && !allowed.contains(&name.as_str())
                    && !tested
                {
                    offenders.push(format!("{package} names {name} in [{section}]"));
                }
            }
        }
    }
    none(offenders, "dependencies against the layering (docs/architecture.md)");
}

/// The only files with unsafe code, each with its reason in its header.
const UNSAFE_FILES: &[&str] = &["ir/src/eval/fma.rs", "backend/machine/src/map.rs"];

fn may_be_unsafe(path: &str) -> bool {
    UNSAFE_FILES.contains(&path)
        || ["ir/src/ffi", "runtime/src/kernels"].iter().any(|folder| path.starts_with(folder))
}

#[test]
fn unsafe_code_stays_in_its_files() {
    let mut offenders = Vec::new();
    for source in all() {
        let path = source.path.to_string_lossy();
        let code = source.text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let uses = code
            .clone()
            .any(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == "unsafe"));
        if uses && !may_be_unsafe(&path) {
            offenders.push(format!("{path} has unsafe code"));
        }
        let root = path.ends_with("src/lib.rs") || path.ends_with("src/main.rs") || path.contains("src/bin/");
        if root
            && !source.text.contains("#![forbid(unsafe_code)]")
            && !source.text.contains("#![deny(unsafe_code)]")
        {
            offenders.push(format!("{path} does not forbid (or, with a named exception, deny) unsafe_code"));
        }
    }
    none(offenders, "unsafe code");
}

#[test]
fn every_module_says_what_it_is() {
    let silent =
        all().into_iter().filter(|s| !s.text.starts_with("//!")).map(|s| s.path.display().to_string());
    none(silent.collect(), "files that do not open with a `//!` line");
}

#[test]
fn no_file_is_named_after_nothing() {
    let names = ["mod.rs", "utils.rs", "util.rs", "common.rs", "helpers.rs", "misc.rs"];
    let vague =
        all().into_iter().filter(|s| names.contains(&s.file_name())).map(|s| s.path.display().to_string());
    none(vague.collect(), "file names that say nothing about what is inside");
}

#[test]
fn the_product_does_not_unwrap() {
    let sources = all();
    let declared = |source: &Source, line: &str| {
        let name = line.rsplit_once("mod ")?.1.strip_suffix(';')?;
        Some(source.path.with_extension("").join(format!("{name}.rs")))
    };
    // Files that their parent declares under `#[cfg(test)]`.
    let tests: BTreeSet<_> = sources
        .iter()
        .flat_map(|source| {
            source
                .text
                .split("#[cfg(test)]\n")
                .skip(1)
                .filter_map(|rest| declared(source, rest.lines().next()?))
        })
        .collect();
    let mut offenders = Vec::new();
    for source in sources.iter().filter(|source| !tests.contains(&source.path)) {
        for (number, line) in source.product().lines().enumerate() {
            if line.contains(".unwrap()") && !line.trim_start().starts_with("//") {
                offenders.push(format!("{}:{}", source.path.display(), number + 1));
            }
        }
    }
    none(offenders, "`.unwrap()` outside tests: return an error, or `expect` with the invariant that holds");
}

/// Long files that may be long, with the reason.
const LONG_FILES: &[(&str, &str)] = &[];
const MOST_LINES: usize = 800;

#[test]
fn files_fit_a_reader() {
    let mut offenders = Vec::new();
    for source in all() {
        let path = source.path.to_string_lossy();
        let lines = source.product().lines().count();
        if lines > MOST_LINES && !LONG_FILES.iter().any(|(long, _)| *long == path) {
            offenders.push(format!("{path}: {lines} lines"));
        }
    }
    none(offenders, "files past 800 lines without a reason in LONG_FILES");
}

#[test]
fn exceptions_are_still_needed() {
    let paths: BTreeSet<String> = all().iter().map(|s| s.path.to_string_lossy().into_owned()).collect();
    let listed = UNSAFE_FILES.iter().copied().chain(LONG_FILES.iter().map(|(path, _)| *path));
    none(
        listed.filter(|path| !paths.contains(*path)).map(String::from).collect(),
        "exceptions for files that are gone",
    );
}

/// A block "```rust PATH" of a tutorial quotes that file: what it says must stand there, word for word.
#[test]
fn tutorials_quote_the_sources() {
    let mut pages = Vec::new();
    sources::files(&repository().join("docs/tutorials"), "md", &mut pages).expect("the tutorials");
    pages.sort();
    let mut offenders = Vec::new();
    let mut quotations = 0;
    for page in pages {
        let text = fs::read_to_string(&page).expect("a page");
        for block in text.split("\n```rust ").skip(1) {
            let (path, rest) = block.split_once('\n').expect("a path, then the quotation");
            let quotation = rest.split("\n```").next().expect("an end");
            quotations += 1;
            let source = fs::read_to_string(repository().join(path)).unwrap_or_default();
            if !source.contains(quotation) {
                let first = quotation.lines().next().unwrap_or("").trim();
                offenders
                    .push(format!("{}: {path} does not hold the quotation of `{first}`", page.display()));
            }
        }
    }
    none(offenders, "tutorials that quote what is not there");
    assert!(quotations > 0, "no quotation was found: the check has lost its object");
}

/// The names in the `…Op<"name", …>` of a dialect's definition.
fn op_names(file: &str) -> Vec<String> {
    let text = fs::read_to_string(repository().join("ir/dialects").join(file)).expect("a dialect");
    text.split("Op<\"").skip(1).filter_map(|rest| rest.split('"').next().map(String::from)).collect()
}

#[test]
fn every_op_has_a_golden() {
    let mut goldens = Vec::new();
    sources::files(&repository().join("testsuite/golden/ir"), "mlir", &mut goldens).expect("the goldens");
    let text: String = goldens.iter().map(|path| fs::read_to_string(path).expect("a golden")).collect();
    let mut missing = Vec::new();
    let mut count = 0;
    for (dialect, file) in [("nn", "Nn.td"), ("tile", "Tile.td")] {
        for name in op_names(file) {
            count += 1;
            let op = format!("{dialect}.{name}");
            let used =
                |at: usize| !text[at + op.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
            if !text.match_indices(&op).any(|(at, _)| used(at)) {
                missing.push(op);
            }
        }
    }
    assert!(count > 30, "only {count} ops were found: the check has lost its object");
    none(missing, "ops without a golden in testsuite/golden/ir");
}

/// A golden of `testsuite/golden`, or nothing where there is none.
fn golden(path: impl AsRef<Path>) -> String {
    fs::read_to_string(repository().join("testsuite/golden").join(path)).unwrap_or_default()
}

/// `asm/instructions/<mnemonic>.s` runs the instruction, shows what it computes, and each way it can trap is tried.
#[test]
fn every_instruction_has_a_golden() {
    let mut missing = Vec::new();
    for row in ROWS {
        let text = golden(format!("asm/instructions/{}.s", row.mnemonic));
        let issued = text.lines().any(|line| line.split_whitespace().next() == Some(row.mnemonic));
        if !issued {
            missing.push(format!("{}: it is issued nowhere", row.mnemonic));
        }
        if !text.contains("kiln sim") {
            missing.push(format!("{}: it is not run", row.mnemonic));
        }
        if !matches!(row.traps, "" | "none") && !text.contains("not kiln sim") {
            missing.push(format!("{}: it never traps ({})", row.mnemonic, row.traps));
        }
    }
    none(missing, "instructions without a golden in testsuite/golden/asm/instructions");
}

#[test]
fn every_onnx_op_has_a_golden() {
    let mut paths: Vec<PathBuf> = Vec::new();
    sources::files(&repository().join("testsuite/golden/frontend"), "onnxtxt", &mut paths)
        .expect("the goldens");
    let mut shown = BTreeSet::new();
    for path in paths {
        let text = fs::read_to_string(&path).expect("a golden");
        let models = onnx_text::parse(&text).unwrap_or_else(|fault| panic!("{}: {fault}", path.display()));
        let nodes = models.iter().flat_map(|model| &model.graph.node);
        shown.extend(nodes.map(|node| (node.domain.clone(), node.op_type.clone())));
    }
    let missing = TABLE.iter().filter(|row| !shown.contains(&(row.domain.to_string(), row.name.to_string())));
    none(
        missing.map(|row| format!("{} {}", row.domain, row.name)).collect(),
        "operators without a graph in testsuite/golden/frontend",
    );
}

#[test]
fn every_pass_has_a_golden() {
    let missing =
        registry().iter().filter(|pass| !golden(format!("passes/{}.mlir", pass.name)).contains(pass.name));
    none(
        missing.map(|pass| pass.name.into()).collect(),
        "passes without a golden in testsuite/golden/passes",
    );
}

/// Faults that the commands cannot bring about, with the reason; the tests of their crates do.
const UNSEEN_FAULTS: &[(&str, &str)] = &[
    ("kiln::sim::missing_input", "the commands draw what is not given"),
    ("kiln::sim::file", "a file that shrinks during a run"),
    ("kiln::sim::binding", "no program that is written holds such a pair of types"),
    ("kiln::sim::host_segment", "the commands bring a host executor"),
    ("engine {engine} does not execute this instruction", "a program with one is refused before it runs"),
];

/// All goldens, without the marks of comments and of the frames that messages are printed in.
fn goldens_in_one_line() -> String {
    let mut paths = Vec::new();
    for extension in ["s", "test"] {
        sources::files(&repository().join("testsuite/golden"), extension, &mut paths).expect("the goldens");
    }
    let text: String = paths.iter().map(|path| fs::read_to_string(path).expect("a golden")).collect();
    let lines = text.lines().map(|line| line.trim_start_matches([';', '#', ' ', '│', '×']));
    lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

/// Every error of a program file, of a run and of the sanitizer, and every trap, is the output of some golden.
#[test]
fn every_fault_has_a_golden() {
    let source = |path: &str| fs::read_to_string(repository().join(path)).expect("a source");
    let errors = source("runtime/src/error.rs");
    let (runs, traps) = errors.split_once("pub enum TrapKind").expect("the traps");
    let codes = |text: &str, before: &str, after: char| -> Vec<String> {
        let pieces = text.split(before).skip(1);
        pieces.filter_map(|piece| Some(piece.split(after).next()?.to_owned())).collect()
    };
    let mut wanted = codes(runs, "code(", ')');
    wanted.extend(codes(&source("backend/machine/src/program.rs"), "code(", ')'));
    wanted.extend(
        codes(&source("runtime/src/sanitize/finding.rs"), "=> \"kiln", '"')
            .iter()
            .map(|c| format!("kiln{c}")),
    );
    wanted.extend(codes(traps, "#[error(\"", '"'));
    assert!(wanted.len() > 50, "only {} faults were found: the check has lost its object", wanted.len());
    let told = goldens_in_one_line();
    // Of a message the longest piece between its values.
    let piece = |message: &str| {
        let pieces = message.split('}').filter_map(|piece| piece.split('{').next());
        pieces.max_by_key(|piece| piece.len()).unwrap_or_default().trim().to_owned()
    };
    let is_told = |fault: &String| told.contains(&piece(fault));
    let unseen = |fault: &String| UNSEEN_FAULTS.iter().any(|(known, _)| known == fault);
    none(
        wanted.iter().filter(|fault| !is_told(fault) && !unseen(fault)).cloned().collect(),
        "faults without a golden in testsuite/golden",
    );
    none(
        wanted.iter().filter(|fault| is_told(fault) && unseen(fault)).cloned().collect(),
        "faults that have a golden after all",
    );
}
