//! Whoever reads the output may stop (`kiln ops | head`): that is no fault of ours, and nothing is said about it.

use std::{
    io::Read,
    process::{Command, Stdio},
};

#[test]
fn a_closed_pipe_ends_the_output_quietly() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kiln-under-test"))
        .args(["run", "--timing-only", "--target", "edge"])
        .arg(kiln_testsuite::model("matmul_kn"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start kiln");
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
    assert_eq!((child.wait().expect("it ends").code(), said.as_str()), (Some(1), ""));
}
