//! The page `docs/rules.md`, generated from the rule table.

use std::fmt::Write;

use super::TABLES;

const INTRODUCTION: &str = "\
# The rules of e-graph A

Generated from the rule table (`passes/src/algebra/rules`); `KILN_BLESS=1 cargo test -p kiln-passes page` writes
it anew.

A rule is an equation with a name: the left side is matched, the right side is added to the same class, and
extraction chooses. `?x` is any value, `@e` names the matched term so that the right side can repeat its
attributes (contracted axes, dtype). Commutative heads match in both orders.

Grades: **e0** bit-exact; **e1** an identity over the reals, nothing stored in a narrower type, differences
within *bound* units in the last place of the result's largest element; **e2** an intermediate is rounded to
a narrower type at another place; **e3** a narrower type is used. `--grade` sets the highest one allowed
(default e1). On values narrower than f32 an e1 row counts as e2, because it moves a rounding.

Every row is tested on random instances: both sides through the reference evaluator, integers and e0 rows bit
for bit. To add a rule, add its row in `passes/src/algebra/rules/`; `kiln rules` lists the table.
";

/// The whole page.
fn page() -> String {
    let mut text = INTRODUCTION.to_string();
    for (title, rows) in TABLES {
        let _ = write!(
            text,
            "\n## {title}\n\n| rule | left | right | when | grade | bound | |\n|---|---|---|---|---|---|---|\n"
        );
        for row in rows {
            let right = match row.right {
                super::Right::Term(term) => format!("`{term}`"),
                super::Right::Build(what, _) if what.starts_with(['(', '?']) => format!("`{what}`"),
                super::Right::Build(what, _) => what.to_string(),
            };
            let _ = writeln!(
                text,
                "| `{}` | `{}` | {right} | {} | {} | {} | {} |",
                row.name, row.left, row.when.text, row.grade, row.bound, row.doc
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_fresh() -> std::io::Result<()> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/rules.md");
        if std::env::var_os("KILN_BLESS").is_some() {
            std::fs::write(path, page())?;
        }
        let is_fresh = std::fs::read_to_string(path)? == page();
        assert!(is_fresh, "docs/rules.md is old: run `KILN_BLESS=1 cargo test -p kiln-passes page`");
        Ok(())
    }
}
