//! Models made here, imported and evaluated: one case or more for each operator, and one for each error.

#[path = "import/build.rs"]
mod build;
#[path = "import/case.rs"]
mod case;
#[path = "import/contrib.rs"]
mod contrib;
#[path = "import/errors.rs"]
mod errors;
#[path = "import/graphs.rs"]
mod graphs;
#[path = "import/operators.rs"]
mod operators;
#[path = "import/spatial.rs"]
mod spatial;
#[path = "import/sundry.rs"]
mod sundry;
