//! Rust source as tokens with line numbers.
//!
//! The rules look at names, paths and string literals. A search in the raw text would also find
//! them in comments and inside strings, so each file is split into tokens once. This is not a
//! parser: macros are not expanded, and lifetimes and numbers are dropped.

/// A token and the number of its line, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) line: usize,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Name(String),
    /// The content of a string literal, escapes as written.
    Text(String),
    /// `::` is one token; every other sign is one character.
    Sign(&'static str),
}

impl Token {
    pub(super) fn name(&self) -> Option<&str> {
        match &self.kind {
            Kind::Name(name) => Some(name),
            Kind::Text(_) | Kind::Sign(_) => None,
        }
    }

    pub(super) fn is(&self, sign: &str) -> bool {
        matches!(&self.kind, Kind::Sign(own) if *own == sign)
    }

    pub(super) fn is_name(&self, name: &str) -> bool {
        self.name() == Some(name)
    }
}

/// The tokens of a file without its test-only items, which `#[cfg(test)]` marks.
pub(super) fn without_tests(text: &str) -> Vec<Token> {
    let all = tokens(text);
    let mut kept = Vec::with_capacity(all.len());
    let mut at = 0;
    while at < all.len() {
        if is_test_attribute(&all[at..]) {
            at = end_of_item(&all, at + TEST_ATTRIBUTE.len());
        } else {
            kept.push(all[at].clone());
            at += 1;
        }
    }
    kept
}

const TEST_ATTRIBUTE: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];

fn is_test_attribute(tokens: &[Token]) -> bool {
    tokens.len() >= TEST_ATTRIBUTE.len()
        && TEST_ATTRIBUTE
            .iter()
            .zip(tokens)
            .all(|(text, token)| token.is(text) || token.is_name(text))
}

/// The position after the item that starts at `start`: behind its `;` or its block in braces.
fn end_of_item(tokens: &[Token], start: usize) -> usize {
    let mut depth = 0_usize;
    // The braces of `use a::{b, c};` are not the end, its semicolon is.
    let is_use = tokens[start..]
        .iter()
        .take_while(|token| !token.is("{") && !token.is(";"))
        .any(|token| token.is_name("use"));
    for (at, token) in tokens.iter().enumerate().skip(start) {
        match &token.kind {
            Kind::Sign("{" | "(" | "[") => depth += 1,
            Kind::Sign("}" | ")" | "]") => {
                depth = depth.saturating_sub(1);
                if depth == 0 && token.is("}") && !is_use {
                    return at + 1;
                }
            }
            Kind::Sign(";") if depth == 0 => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}

/// Splits a file into tokens. Comments are dropped.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut lexer = Lexer { rest: text, line: 1, tokens: Vec::new() };
    while !lexer.rest.is_empty() {
        lexer.step();
    }
    lexer.tokens
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    fn step(&mut self) {
        let first = self.rest.chars().next().expect("the caller checked it");
        if first.is_whitespace() {
            self.skip(first.len_utf8());
        } else if first.is_alphabetic() || first == '_' {
            self.word(first);
        } else if let Some(at) = SIGNS.find(first) {
            self.sign(&SIGNS[at..=at]);
        } else if first == '"' {
            self.string(1, "\"", true);
        } else if first == '\'' {
            self.skip(end_of_quote(self.rest));
        } else if first.is_ascii_digit() {
            self.skip(word_length(self.rest));
        } else {
            self.skip(first.len_utf8());
        }
    }

    /// A name, or a string with a prefix.
    fn word(&mut self, first: char) {
        if first == 'r' || first == 'b' {
            if let Some(opening) = raw_opening(self.rest) {
                let closing = format!("\"{}", "#".repeat(opening.hashes));
                return self.string(opening.length, &closing, false);
            }
            if self.rest.starts_with("b\"") {
                return self.string(2, "\"", true);
            }
        }
        let length = word_length(self.rest);
        let name = self.rest[..length].to_owned();
        self.push(Kind::Name(name), length);
    }

    /// A sign, or a comment, which is dropped.
    fn sign(&mut self, sign: &'static str) {
        if self.rest.starts_with("//") {
            self.skip(self.rest.find('\n').unwrap_or(self.rest.len()));
        } else if self.rest.starts_with("/*") {
            self.skip(end_of_block_comment(self.rest));
        } else if self.rest.starts_with("::") {
            self.push(Kind::Sign("::"), 2);
        } else {
            self.push(Kind::Sign(sign), 1);
        }
    }

    fn push(&mut self, kind: Kind, length: usize) {
        let line = self.line;
        self.tokens.push(Token { line, kind });
        self.skip(length);
    }

    fn skip(&mut self, length: usize) {
        self.line += self.rest[..length].matches('\n').count();
        self.rest = &self.rest[length..];
    }

    fn string(&mut self, opening: usize, closing: &str, escapes: bool) {
        let content = &self.rest[opening..];
        let length = end_of_string(content, closing, escapes);
        let text = content[..length].to_owned();
        let all = (opening + length + closing.len()).min(self.rest.len());
        self.push(Kind::Text(text), all);
    }
}

/// Signs of one character. All are ASCII.
const SIGNS: &str = "{}()[];,:#!<>=&*$?.|+-/%^@~";

struct RawOpening {
    /// Length of `r#"` or `br#"` in bytes.
    length: usize,
    hashes: usize,
}

fn raw_opening(text: &str) -> Option<RawOpening> {
    let rest = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let quote = rest.find(|c| c != '#')?;
    rest[quote..]
        .starts_with('"')
        .then(|| RawOpening { length: text.len() - rest.len() + quote + 1, hashes: quote })
}

fn end_of_string(content: &str, closing: &str, escapes: bool) -> usize {
    let mut at = 0;
    while at < content.len() {
        let rest = &content[at..];
        if rest.starts_with(closing) {
            return at;
        }
        let mut chars = rest.chars();
        let first = chars.next().map_or(1, char::len_utf8);
        let escaped = chars.next().map_or(0, char::len_utf8);
        at += first + if escapes && rest.starts_with('\\') { escaped } else { 0 };
    }
    content.len()
}

/// Block comments nest in Rust.
fn end_of_block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// A character such as `'"'`, or the quote of a lifetime alone.
fn end_of_quote(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((escaped, c))) => {
            let from = escaped + c.len_utf8();
            text[from..].find('\'').map_or(text.len(), |at| from + at + 1)
        }
        (Some(_), Some((closing, '\''))) => closing + 1,
        _ => 1,
    }
}

fn word_length(text: &str) -> usize {
    text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())
}
