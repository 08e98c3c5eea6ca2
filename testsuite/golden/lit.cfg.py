"""How lit runs the goldens; started by `cargo test -p kiln-testsuite`, which sets the variables below."""
import os

import lit.formats

config.name = "kiln"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir", ".s", ".onnxtxt", ".test"]
config.test_source_root = os.path.dirname(__file__)
config.test_exec_root = os.environ["KILN_TEST_OUT"]
# kiln, expect, import-text, FileCheck and not are found on this path.
config.environment["PATH"] = os.environ["KILN_TEST_BIN"] + os.pathsep + os.environ["PATH"]
for name in ("KILN_BLESS", "HOME", "TMPDIR"):
    if name in os.environ:
        config.environment[name] = os.environ[name]
# Messages must not depend on the terminal.
config.environment["NO_COLOR"] = "1"
config.environment["COLUMNS"] = "100"
config.environment["LC_ALL"] = "C.UTF-8"
config.substitutions.append(("%models", os.path.join(config.test_source_root, "..", "models")))
# Small models right and wrong (testsuite/src/faulty.rs). Go there by `cd`, so that messages hold no absolute path.
config.substitutions.append(("%faulty", os.environ["KILN_TEST_FAULTY"]))
