//! Arguments that several commands share.

use crate::error::Error;
use kiln_machine::target::Target;

/// Loads a preset or file and applies `key=value` changes in order.
pub fn load_target(name: &str, set: &[(String, String)]) -> Result<Target, Error> {
    let mut target = Target::load(name)?;
    for (key, value) in set {
        target.set(key, value)?;
    }
    Ok(target)
}

/// `key=value`.
pub fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    if key.is_empty() {
        return Err("nothing before the '='".into());
    }
    Ok((key.into(), value.into()))
}
