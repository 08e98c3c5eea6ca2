//! Reading operands from one line of assembly, with the column kept for errors.

use std::collections::BTreeMap;

use super::field::Field;

/// What is wrong in a line, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {message}")]
pub struct SyntaxError {
    /// First column of the offending text, from 1.
    pub column: usize,
    /// What was expected or is not possible.
    pub message: String,
}

fn with_article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'e', 'i', 'o', 'A', 'E', 'I', 'O']) { "an" } else { "a" };
    format!("{article} {kind}")
}

/// A position in a line.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    line: &'a str,
    at: usize,
    labels: Option<&'a BTreeMap<String, u32>>,
}

impl<'a> Cursor<'a> {
    /// At the start of a line, with the labels of its stream (if they are known).
    pub fn new(line: &'a str, labels: Option<&'a BTreeMap<String, u32>>) -> Self {
        Cursor { line, at: 0, labels }
    }

    fn rest(&self) -> &'a str {
        &self.line[self.at..]
    }

    /// Skips blanks.
    pub fn skip_blanks(&mut self) {
        self.at = self.line.len() - self.rest().trim_start().len();
    }

    /// Whether only blanks are left.
    pub fn at_end(&mut self) -> bool {
        self.skip_blanks();
        self.rest().is_empty()
    }

    /// An error here.
    pub fn error(&self, message: impl Into<String>) -> SyntaxError {
        SyntaxError { column: self.line[..self.at].chars().count() + 1, message: message.into() }
    }

    /// An error here saying what should stand here.
    pub fn expected(&self, what: &str) -> SyntaxError {
        let found: String = self
            .rest()
            .trim_start()
            .chars()
            .take_while(|c| !c.is_whitespace() && *c != ',')
            .take(40)
            .collect();
        match found.is_empty() {
            true => self.error(format!("expected {what}, found the end of the operand")),
            false => self.error(format!("expected {what}, found `{found}`")),
        }
    }

    /// Whether this text comes next, after blanks.
    pub fn ahead(&mut self, text: &str) -> bool {
        self.skip_blanks();
        self.rest().starts_with(text)
    }

    /// Consumes this text if it comes next, after blanks.
    pub fn eat(&mut self, text: &str) -> bool {
        let found = self.ahead(text);
        if found {
            self.at += text.len();
        }
        found
    }

    /// Consumes this text or fails.
    pub fn expect(&mut self, text: &str) -> Result<(), SyntaxError> {
        if self.eat(text) { Ok(()) } else { Err(self.expected(&format!("`{text}`"))) }
    }

    /// Consumes the longest run of characters that satisfy `ok`.
    pub fn take(&mut self, ok: impl Fn(char) -> bool) -> &'a str {
        self.skip_blanks();
        let rest = self.rest();
        let end = rest.find(|c| !ok(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// A word of letters, digits, `_` and `.`; empty if none.
    pub fn word(&mut self) -> &'a str {
        self.take(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.')
    }

    /// A decimal or `0x` integer within bounds.
    pub fn integer(&mut self, low: i128, high: i128) -> Result<i128, SyntaxError> {
        self.skip_blanks();
        let start = self.clone();
        let negative = self.eat("-");
        let hex = self.rest().starts_with("0x");
        let digits = if hex {
            self.at += 2;
            self.take(|c| c.is_ascii_hexdigit() || c == '_')
        } else {
            self.take(|c| c.is_ascii_digit() || c == '_')
        };
        let digits = digits.replace('_', "");
        let Ok(magnitude) = i128::from_str_radix(&digits, if hex { 16 } else { 10 }) else {
            return Err(start.expected("an integer"));
        };
        let value = if negative { -magnitude } else { magnitude };
        if value < low || value > high {
            return Err(start.error(format!("{value} is not in {low}..={high}")));
        }
        Ok(value)
    }

    /// `prefix` followed by an index below `limit`.
    pub fn numbered(&mut self, prefix: &str, kind: &str, limit: u32) -> Result<u32, SyntaxError> {
        self.skip_blanks();
        let start = self.clone();
        let word = self.take(|c| c.is_ascii_alphanumeric() || c == '_');
        let index = word.strip_prefix(prefix).and_then(|digits| digits.parse::<u32>().ok());
        match index {
            Some(i) if i < limit => Ok(i),
            Some(_) => Err(start.error(format!("{kind} `{word}`: the last one is {prefix}{}", limit - 1))),
            None => Err(start.expected(&format!("{} such as `{prefix}1`", with_article(kind)))),
        }
    }

    /// A name out of a closed list.
    pub fn choice<T>(&mut self, kind: &str, by_name: impl Fn(&str) -> Option<T>) -> Result<T, SyntaxError> {
        self.skip_blanks();
        let start = self.clone();
        let name = self.take(|c| c.is_ascii_alphanumeric() || c == '_');
        by_name(name).ok_or_else(|| start.expected(&with_article(kind)))
    }

    /// A label of this stream, as its word index.
    pub fn label(&mut self) -> Result<u32, SyntaxError> {
        self.skip_blanks();
        let start = self.clone();
        let name = self.take(|c| c.is_ascii_alphanumeric() || c == '_');
        let Some(labels) = self.labels else {
            return Err(start.expected("a word index such as `@12`"));
        };
        labels.get(name).copied().ok_or_else(|| start.error(format!("no label `{name}` in this stream")))
    }

    fn number_text(&mut self) -> &'a str {
        self.take(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_'))
    }

    /// A float, or its bits as `0x…`.
    pub fn float_bits(&mut self) -> Result<u32, SyntaxError> {
        let start = self.clone();
        let text = self.number_text();
        if let Some(hex) = text.strip_prefix("0x") {
            return u32::from_str_radix(hex, 16).map_err(|_| start.expected("32 bits in hexadecimal"));
        }
        let body = text.strip_suffix('f').filter(|t| !t.ends_with("in")).unwrap_or(text);
        body.parse::<f32>().map(f32::to_bits).map_err(|_| start.expected("a float"))
    }

    /// 32 raw bits: an integer, a float with the suffix `f`, `inf`, or `0x` bits.
    pub fn immediate32(&mut self) -> Result<u32, SyntaxError> {
        let start = self.clone();
        let text = self.number_text();
        let is_float = !text.starts_with("0x") && (text.ends_with('f') || text.contains("nan"));
        *self = start;
        if is_float {
            return self.float_bits();
        }
        self.integer(i32::MIN.into(), u32::MAX.into()).map(|v| v as u32)
    }

    /// A name: a word, or a quoted string with the escapes `\"`, `\\` and `\u{hex}`.
    pub fn name(&mut self) -> Result<String, SyntaxError> {
        self.skip_blanks();
        let start = self.clone();
        if !self.eat("\"") {
            let word = self.take(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '/' | '-'));
            return if word.is_empty() { Err(start.expected("a name")) } else { Ok(word.to_owned()) };
        }
        let mut name = String::new();
        let mut chars = self.rest().char_indices();
        while let Some((i, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += i + 1;
                    return Ok(name);
                }
                '\\' => match chars.next() {
                    Some((_, c @ ('"' | '\\'))) => name.push(c),
                    Some((_, 'u')) => {
                        let digits: String = chars
                            .by_ref()
                            .map(|(_, c)| c)
                            .skip_while(|c| *c == '{')
                            .take_while(|c| *c != '}')
                            .collect();
                        let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                        name.push(code.ok_or_else(|| {
                            start.error("a character escape such as `\\u{a}` is malformed")
                        })?);
                    }
                    _ => {
                        return Err(start.error("an escape in this name is none of `\\\"`, `\\\\`, `\\u{…}`"));
                    }
                },
                c => name.push(c),
            }
        }
        Err(start.error("this name has no closing quote"))
    }

    /// What is left of the line.
    pub fn remaining(&self) -> &'a str {
        self.rest().trim()
    }

    /// The same place, with these labels known.
    pub fn with_labels<'b>(self, labels: &'b BTreeMap<String, u32>) -> Cursor<'b>
    where
        'a: 'b,
    {
        Cursor { line: self.line, at: self.at, labels: Some(labels) }
    }

    /// The next operand of an instruction: by position, or `name=value`.
    pub fn operand<T: Field>(&mut self, name: &'static str, first: &mut bool) -> Result<T, SyntaxError> {
        if T::NAMED {
            let before = self.clone();
            let separated = *first || self.eat(",");
            if separated && self.eat(name) && self.eat("=") {
                *first = false;
                return T::parse(self);
            }
            *self = before;
            return T::absent().ok_or_else(|| self.expected(&format!("`{name}=` ({})", T::KIND)));
        }
        if !std::mem::replace(first, false) {
            self.expect(",")
                .map_err(|e| SyntaxError { message: format!("{} (operand `{name}`)", e.message), ..e })?;
        }
        T::parse(self).map_err(|e| SyntaxError { message: format!("operand `{name}`: {}", e.message), ..e })
    }
}
