//! docs/ir.md holds the tables of ops; they are made from `dialects/*.td` and must be fresh.
//! `KILN_BLESS=1 cargo test -p kiln-ir` rewrites them.

use std::fmt::Write;
use std::path::{Path, PathBuf};

/// One op of a `.td` file.
struct Row {
    name: String,
    summary: String,
    description: String,
    syntax: String,
}

/// The text of `let <field> = …;` in `body`: a string or a block of text.
fn field(body: &str, field: &str) -> String {
    let key = format!("let {field} = ");
    let Some(start) = body.find(&key) else { return String::new() };
    let text = &body[start + key.len()..];
    let (open, close) = if text.starts_with("[{") { ("[{", "}]") } else { ("\"", "\";") };
    let from = open.len();
    let to = text[from..].find(close).map_or(text.len(), |i| from + i);
    text[from..to].split_whitespace().collect::<Vec<_>>().join(" ")
}

fn rows(td: &str, prefix: &str, dialect: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for part in td.split(&format!("\ndef {prefix}_")).skip(1) {
        // `FooOp : Class<"foo", …> { … }`: other definitions are not ops.
        let Some((header, body)) = part.split_once('{') else { continue };
        let Some(mnemonic) = header.split('"').nth(1).filter(|_| header.contains("Op : ")) else { continue };
        let syntax = field(body, "assemblyFormat").replace('`', "").replace(" attr-dict", "");
        // The types at the end are alike everywhere.
        let types =
            [" : type(", " : functional-type(", " : qualified("].iter().filter_map(|t| syntax.find(t)).min();
        let syntax = syntax[..types.unwrap_or(syntax.len())].replace('|', "\\|");
        rows.push(Row {
            name: format!("{dialect}.{mnemonic}"),
            summary: field(body, "summary"),
            description: field(body, "description").replace('|', "\\|"),
            syntax: if syntax.is_empty() { "$iv = $trip $body".into() } else { syntax },
        });
    }
    rows
}

fn table(file: &str, prefix: &str, dialect: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("dialects").join(file);
    let td = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut text = String::from("| op | syntax | meaning |\n|---|---|---|\n");
    for row in rows(&td, prefix, dialect) {
        let full = if row.description.is_empty() {
            row.summary
        } else {
            format!("{}. {}", row.summary, row.description)
        };
        writeln!(text, "| `{}` | `{}` | {full} |", row.name, row.syntax).expect("strings take text");
    }
    text
}

/// `page` with the text between `<!-- name -->` and `<!-- end -->` replaced.
fn with_section(page: &str, name: &str, text: &str) -> String {
    let open = format!("<!-- {name} -->\n");
    let start = page.find(&open).unwrap_or_else(|| panic!("docs/ir.md lacks {open}")) + open.len();
    let end = start + page[start..].find("<!-- end -->").expect("a section ends");
    format!("{}{text}{}", &page[..start], &page[end..])
}

#[test]
fn the_tables_of_ops_are_fresh() {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "docs", "ir.md"].iter().collect();
    let page = std::fs::read_to_string(&path).expect("docs/ir.md");
    let mut fresh = with_section(&page, "ops of nn", &table("Nn.td", "Nn", "nn"));
    fresh = with_section(&fresh, "ops of tile", &table("Tile.td", "Tile", "tile"));
    if std::env::var_os("KILN_BLESS").is_some() {
        std::fs::write(&path, &fresh).expect("docs/ir.md can be written");
    }
    assert!(
        page == fresh || std::env::var_os("KILN_BLESS").is_some(),
        "docs/ir.md is stale: run `KILN_BLESS=1 cargo test -p kiln-ir` and look at the difference"
    );
    assert!(fresh.contains("| `nn.map` |") && fresh.contains("| `tile.for` |"));
}
