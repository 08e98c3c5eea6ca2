//! A line diff, small because goldens are small: longest common subsequence by dynamic programming.

/// The lines that differ, as `-expected` / `+actual` with common lines between them.
/// Runs of more than `context` common lines are elided.
pub fn lines(expected: &str, actual: &str, context: usize) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), actual.lines().collect());
    // common[i][j]: length of the longest common subsequence of a[i..] and b[j..].
    let mut common = vec![vec![0u32; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] =
                if a[i] == b[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let mut script = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            script.push((' ', a[i]));
            i += 1;
            j += 1;
        } else if j == b.len() || (i < a.len() && common[i + 1][j] >= common[i][j + 1]) {
            script.push(('-', a[i]));
            i += 1;
        } else {
            script.push(('+', b[j]));
            j += 1;
        }
    }
    let near = |at: usize| {
        let from = at.saturating_sub(context);
        script[from..script.len().min(at + context + 1)].iter().any(|(mark, _)| *mark != ' ')
    };
    let mut out = String::new();
    let mut elided = false;
    for (at, (mark, text)) in script.iter().enumerate() {
        if near(at) {
            out.push(*mark);
            out.push_str(text);
            out.push('\n');
            elided = false;
        } else if !elided {
            out.push_str(" …\n");
            elided = true;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn a_changed_line_is_removed_and_added() {
        assert_eq!(lines("a\nb\nc\n", "a\nx\nc\n", 1), " a\n-b\n+x\n c\n");
    }

    #[test]
    fn far_common_lines_are_elided() {
        assert_eq!(lines("a\nb\nc\nd\n", "a\nb\nc\ne\n", 1), " …\n c\n-d\n+e\n");
    }
}
