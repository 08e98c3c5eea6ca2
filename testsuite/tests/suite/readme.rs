//! What README shows of the tool is what the tool prints.

use kiln_testsuite::repository;
use std::process::Command;

/// The time a compilation took is all that may differ.
fn without_times(text: &str) -> Vec<String> {
    let masked = |line: &str| match (line.find("Compiled in "), line.find(" s: ")) {
        (Some(from), Some(to)) if from < to => format!("{}{}", &line[..from], &line[to..]),
        _ => line.trim_end().to_owned(),
    };
    text.lines().map(masked).collect()
}

#[test]
fn commands_in_the_readme_print_what_it_says() {
    let readme = std::fs::read_to_string(repository().join("README.md")).expect("it is there");
    let blocks = readme.split("```text\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut compared = 0;
    for block in blocks {
        let Some((command, shown)) = block.strip_prefix("$ kiln ").and_then(|b| b.split_once('\n')) else {
            continue;
        };
        let output = Command::new(env!("CARGO_BIN_EXE_kiln-under-test"))
            .args(command.split_whitespace())
            .current_dir(repository())
            .output()
            .expect("start kiln");
        let said =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(without_times(&said), without_times(shown), "kiln {command}");
        compared += 1;
    }
    assert!(compared > 0, "README shows no run of kiln");
}
