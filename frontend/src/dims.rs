//! Names of dimensions, and the sizes bound to them.
//!
//! Everything after the importer is static, so each dimension of each input gets its number here: from
//! `--dim name=n`, from the shapes of given inputs, or from arithmetic over those (`past_seq + 1`).

use std::fmt;

use indexmap::IndexMap;

/// What a model says about one dimension of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DimSpec {
    /// A fixed size.
    Fixed(i64),
    /// An expression over dim names; most often one name.
    Expr(DimExpr),
    /// Nothing: the dimension goes by `<input>.<axis>`.
    Unnamed,
}

impl DimSpec {
    /// Reads a `dim_param`; a string of digits is a number, and what is no arithmetic is a name.
    pub fn parse(text: &str) -> DimSpec {
        let text = text.trim();
        if text.is_empty() {
            return DimSpec::Unnamed;
        }
        match Parser::parse(text) {
            Some(DimExpr::Int(n)) => DimSpec::Fixed(n),
            Some(expr) => DimSpec::Expr(expr),
            None => DimSpec::Expr(DimExpr::Name(text.to_string())),
        }
    }
}

/// Integer arithmetic over dim names, as PyTorch's exporters write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DimExpr {
    Int(i64),
    Name(String),
    Binary(DimOp, Box<DimExpr>, Box<DimExpr>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DimOp {
    Add,
    Sub,
    Mul,
    FloorDiv,
    Mod,
    Max,
    Min,
}

impl DimExpr {
    /// The value under `bound`, or the first name that has none; `None` in the error is a division by zero
    /// or an overflow.
    pub fn eval(&self, bound: &IndexMap<String, i64>) -> Result<i64, Option<String>> {
        match self {
            DimExpr::Int(n) => Ok(*n),
            DimExpr::Name(name) => bound.get(name).copied().ok_or_else(|| Some(name.clone())),
            DimExpr::Binary(op, a, b) => {
                let (a, b) = (a.eval(bound)?, b.eval(bound)?);
                match op {
                    DimOp::Add => a.checked_add(b),
                    DimOp::Sub => a.checked_sub(b),
                    DimOp::Mul => a.checked_mul(b),
                    DimOp::FloorDiv => (b > 0).then(|| a.div_euclid(b)),
                    DimOp::Mod => (b > 0).then(|| a.rem_euclid(b)),
                    DimOp::Max => Some(a.max(b)),
                    DimOp::Min => Some(a.min(b)),
                }
                .ok_or(None)
            }
        }
    }

    /// The name, when the expression is just one.
    pub fn as_name(&self) -> Option<&str> {
        match self {
            DimExpr::Name(name) => Some(name),
            _ => None,
        }
    }

    /// All names in it, in order of appearance.
    pub fn names(&self) -> Vec<&str> {
        match self {
            DimExpr::Int(_) => Vec::new(),
            DimExpr::Name(name) => vec![name],
            DimExpr::Binary(_, a, b) => a.names().into_iter().chain(b.names()).collect(),
        }
    }
}

impl fmt::Display for DimExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DimExpr::Int(n) => write!(f, "{n}"),
            DimExpr::Name(name) => f.write_str(name),
            DimExpr::Binary(op, a, b) => match op {
                DimOp::Add => write!(f, "({a} + {b})"),
                DimOp::Sub => write!(f, "({a} - {b})"),
                DimOp::Mul => write!(f, "({a}*{b})"),
                DimOp::FloorDiv => write!(f, "({a}//{b})"),
                DimOp::Mod => write!(f, "({a} % {b})"),
                DimOp::Max => write!(f, "Max({a}, {b})"),
                DimOp::Min => write!(f, "Min({a}, {b})"),
            },
        }
    }
}

/// Recursive descent over `sum := product (('+'|'-') product)*`, with Python's precedences.
struct Parser<'a> {
    rest: &'a str,
    /// Nesting left; deeper text is a name, not arithmetic.
    depth: usize,
}

impl<'a> Parser<'a> {
    fn parse(text: &'a str) -> Option<DimExpr> {
        let mut parser = Parser { rest: text, depth: 64 };
        let expr = parser.sum()?;
        parser.rest.trim_start().is_empty().then_some(expr)
    }

    fn eat(&mut self, token: &str) -> bool {
        let rest = self.rest.trim_start();
        match rest.strip_prefix(token) {
            Some(after) => {
                self.rest = after;
                true
            }
            None => false,
        }
    }

    fn sum(&mut self) -> Option<DimExpr> {
        let mut left = self.product()?;
        loop {
            let op = if self.eat("+") {
                DimOp::Add
            } else if self.eat("-") {
                DimOp::Sub
            } else {
                return Some(left);
            };
            left = DimExpr::Binary(op, Box::new(left), Box::new(self.product()?));
        }
    }

    fn product(&mut self) -> Option<DimExpr> {
        let mut left = self.atom()?;
        loop {
            let op = if self.eat("*") {
                DimOp::Mul
            } else if self.eat("//") || self.eat("/") {
                DimOp::FloorDiv
            } else if self.eat("%") {
                DimOp::Mod
            } else {
                return Some(left);
            };
            left = DimExpr::Binary(op, Box::new(left), Box::new(self.atom()?));
        }
    }

    fn atom(&mut self) -> Option<DimExpr> {
        self.depth = self.depth.checked_sub(1)?;
        let atom = self.nested_atom();
        self.depth += 1;
        atom
    }

    fn nested_atom(&mut self) -> Option<DimExpr> {
        if self.eat("(") {
            let inner = self.sum()?;
            return self.eat(")").then_some(inner);
        }
        if self.eat("-") {
            let inner = self.atom()?;
            return Some(DimExpr::Binary(DimOp::Sub, Box::new(DimExpr::Int(0)), Box::new(inner)));
        }
        let rest = self.rest.trim_start();
        let end = rest.find(|c: char| !(c.is_alphanumeric() || "_.".contains(c))).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        self.rest = after;
        let first = word.chars().next()?;
        if first.is_ascii_digit() {
            return word.parse().ok().map(DimExpr::Int);
        }
        let op = match word {
            "Max" | "max" => DimOp::Max,
            "Min" | "min" => DimOp::Min,
            "Mod" => DimOp::Mod,
            "floor" | "FloorDiv" => DimOp::FloorDiv,
            _ => return Some(DimExpr::Name(word.to_string())),
        };
        if !self.eat("(") {
            return Some(DimExpr::Name(word.to_string()));
        }
        let mut left = self.sum()?;
        while self.eat(",") {
            left = DimExpr::Binary(op, Box::new(left), Box::new(self.sum()?));
        }
        self.eat(")").then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, bound: &[(&str, i64)]) -> Result<i64, Option<String>> {
        let bound = bound.iter().map(|(n, v)| (n.to_string(), *v)).collect();
        match DimSpec::parse(text) {
            DimSpec::Fixed(n) => Ok(n),
            DimSpec::Expr(e) => e.eval(&bound),
            DimSpec::Unnamed => Err(Some(String::new())),
        }
    }

    #[test]
    fn arithmetic_of_exporters() {
        let bound = [("past_seq", 7), ("s0", 9)];
        assert_eq!(value("past_seq + 1", &bound), Ok(8));
        assert_eq!(value("2*past_seq - s0//2", &bound), Ok(10));
        assert_eq!(value("Max(1, s0 - 20)", &bound), Ok(1));
        assert_eq!(value("(s0 + 1) % 4", &bound), Ok(2));
        assert_eq!(value("-s0 + 10", &bound), Ok(1));
    }

    #[test]
    fn numeric_strings_are_numbers_and_odd_text_is_a_name() {
        assert_eq!(DimSpec::parse("16"), DimSpec::Fixed(16));
        assert_eq!(DimSpec::parse("a b?"), DimSpec::Expr(DimExpr::Name("a b?".into())));
        assert_eq!(DimSpec::parse(""), DimSpec::Unnamed);
    }

    #[test]
    fn the_missing_name_is_told() {
        assert_eq!(value("past_seq + other", &[("past_seq", 1)]), Err(Some("other".into())));
        assert_eq!(value("past_seq // 0", &[("past_seq", 1)]), Err(None));
    }
}
