//! Models made here, imported and evaluated: one case or more for each operator, and one for each error.

#[path = "import/build.rs"]
mod build;
#[path = "import/errors.rs"]
mod errors;
#[path = "import/graphs.rs"]
mod graphs;
#[path = "import/operators.rs"]
mod operators;
