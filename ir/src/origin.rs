//! Origins: which ONNX nodes an op comes from.
//!
//! An origin is a set of `"<node name>|<op type>"` strings in order of first appearance. In MLIR it
//! is a location (`NameLoc`, or a `FusedLoc` of several), so every pass of MLIR's own keeps it.

use std::fmt;
use std::sync::Arc;

/// The ONNX nodes an op was made from, in order, without repeats. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(Arc<[Arc<str>]>);

impl Origin {
    /// The origin of one ONNX node.
    pub fn node(name: &str, op_type: &str) -> Self {
        Self::from_names([format!("{name}|{op_type}")])
    }

    /// An origin of names already in the form `"<node name>|<op type>"`; repeats are dropped.
    pub fn from_names<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Self {
        let mut seen = indexmap::IndexSet::<Arc<str>>::new();
        for name in names {
            seen.insert(Arc::from(name.as_ref()));
        }
        Origin(seen.into_iter().collect())
    }

    /// The union of several origins, in order of first appearance.
    pub fn fuse<'a>(origins: impl IntoIterator<Item = &'a Origin>) -> Self {
        let mut seen = indexmap::IndexSet::<Arc<str>>::new();
        for origin in origins {
            seen.extend(origin.0.iter().cloned());
        }
        Origin(seen.into_iter().collect())
    }

    /// True for an op that comes from no node.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The full names, `"<node name>|<op type>"`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|n| &**n)
    }

    /// Node names and op types.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.names().map(|n| n.rsplit_once('|').unwrap_or((n, "")))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, op_type)) in self.nodes().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            if op_type.is_empty() { f.write_str(name)? } else { write!(f, "{name} ({op_type})")? }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fusing_keeps_order_and_drops_repeats() {
        let a = Origin::node("/l0/MatMul", "MatMul");
        let b = Origin::node("/l0/Add", "Add");
        let both = Origin::fuse([&b, &a, &b]);
        assert_eq!(both.names().collect::<Vec<_>>(), ["/l0/Add|Add", "/l0/MatMul|MatMul"]);
        assert_eq!(both.to_string(), "/l0/Add (Add), /l0/MatMul (MatMul)");
    }
}
