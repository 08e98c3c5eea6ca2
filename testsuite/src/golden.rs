//! A golden is one file: the input, its `RUN:` line, and the blessed output in comments at the end.
//!
//! ```text
//! // RUN: kiln opt %s --canonicalize | expect %s
//! …input…
//! // EXPECT
//! // first line of the output
//! //
//! // third line
//! ```
//!
//! The comment mark is whatever stands before `EXPECT`. Checks that should allow some freedom use FileCheck
//! instead; a file uses the one or the other.

/// The input and blessed output of one golden.
#[derive(Debug, PartialEq, Eq)]
pub struct Golden<'a> {
    /// Everything up to and including the marker line.
    pub head: &'a str,
    /// What stands before each line of the output, without trailing space.
    pub comment: &'a str,
    /// The blessed output, its comment marks removed.
    pub output: String,
}

/// Splits a golden at its marker, or `None` when it has none.
pub fn split(text: &str) -> Option<Golden<'_>> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let end = at + line.len();
        if let Some(comment) = line.trim_end().strip_suffix("EXPECT")
            && !comment.trim().is_empty()
            && comment.trim().chars().all(|c| c.is_ascii_punctuation())
        {
            let comment = comment.trim();
            let mut output = String::new();
            for line in text[end..].lines() {
                let line = line.strip_prefix(comment).unwrap_or(line);
                output.push_str(line.strip_prefix(' ').unwrap_or(line));
                output.push('\n');
            }
            return Some(Golden { head: &text[..end], comment, output });
        }
        at = end;
    }
    None
}

/// The text of the golden with `output` as its blessed output.
pub fn bless(golden: &Golden<'_>, output: &str) -> String {
    let mut text = golden.head.to_string();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    for line in normalise(output).lines() {
        text.push_str(format!("{} {line}", golden.comment).trim_end());
        text.push('\n');
    }
    text
}

/// Output as it is compared: no trailing spaces, no empty lines at the end.
pub fn normalise(output: &str) -> String {
    let mut lines: Vec<&str> = output.lines().map(str::trim_end).collect();
    while lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_blessed_is_read_back() {
        let source = "; RUN: kiln asm %s | expect %s\nnop\n; EXPECT\n; old\n";
        let golden = split(source).expect("has a marker");
        assert_eq!((golden.comment, golden.output.as_str()), (";", "old\n"));
        let blessed = bless(&golden, "new\n\n  indented \n\n");
        assert_eq!(blessed, "; RUN: kiln asm %s | expect %s\nnop\n; EXPECT\n; new\n;\n;   indented\n");
        assert_eq!(split(&blessed).expect("has a marker").output, "new\n\n  indented\n");
    }

    #[test]
    fn a_word_in_a_sentence_is_no_marker() {
        assert_eq!(split("// what we EXPECT\n// RUN: x\n"), None);
    }
}
