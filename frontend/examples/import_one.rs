//! Imports one model and prints its `nn`: `import_one MODEL [dim=n]…`.

use std::path::Path;

use kiln_frontend::{ImportOptions, import};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("usage: import_one MODEL [dim=n]…")?;
    let mut options = ImportOptions::default();
    for binding in args {
        let (name, n) = binding.split_once('=').ok_or("a binding is dim=n")?;
        options.dims.insert(name.to_string(), n.parse()?);
    }
    let imported = import(Path::new(&path), &options)?;
    println!("{}", imported.module.print_elided(16));
    Ok(())
}
