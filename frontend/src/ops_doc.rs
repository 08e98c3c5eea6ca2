//! The page `docs/ops.md`, generated from the operator table.

use std::fmt::Write;

use crate::ops::{NEWEST, OLDEST, TABLE, dtypes_text};

/// The whole page.
pub fn page() -> String {
    let mut text = format!(
        "# ONNX operators\n\n\
         Generated from the operator table (`frontend/src/ops.rs`); `KILN_BLESS=1 cargo test -p kiln-frontend` \
         writes it anew.\n\
         ONNX opsets {OLDEST} to {NEWEST}. int64 and uint64 live on the device as 32-bit integers where ranges \
         show that they fit.\n\
         Besides these, model-local functions and an `If` whose condition is known are inlined.\n\n\
         | operator | domain | opset | types | notes |\n|---|---|---|---|---|\n"
    );
    for row in TABLE {
        let domain = if row.domain.is_empty() { "ai.onnx" } else { row.domain };
        let until = if row.until == NEWEST { String::new() } else { row.until.to_string() };
        let _ = writeln!(
            text,
            "| {} | {domain} | {}–{until} | {} | {} |",
            row.name,
            row.since,
            dtypes_text(row.dtypes),
            row.notes
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_fresh() -> std::io::Result<()> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/ops.md");
        if std::env::var_os("KILN_BLESS").is_some() {
            std::fs::write(path, page())?;
        }
        assert_eq!(std::fs::read_to_string(path)?, page(), "run `KILN_BLESS=1 cargo test -p kiln-frontend`");
        Ok(())
    }
}
