//! The names, imports and paths in the tokens of one file.

use std::collections::BTreeSet;

use super::tokens::Token;

/// One name that a `use` item brings into scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Import {
    pub(super) line: usize,
    pub(super) segments: Vec<String>,
    /// The name in this file: the last segment or the name after `as`. Empty for a glob.
    pub(super) name: String,
    pub(super) glob: bool,
    /// `pub use`, also with a restricted visibility.
    pub(super) public: bool,
}

/// A path of two or more segments outside `use` items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) line: usize,
    pub(super) segments: Vec<String>,
}

#[derive(Default)]
pub(super) struct Code {
    pub(super) imports: Vec<Import>,
    pub(super) paths: Vec<Path>,
    /// Names of the items that the file defines, at any depth.
    pub(super) defined: BTreeSet<String>,
    /// Every name outside `use` items.
    pub(super) mentioned: BTreeSet<String>,
}

const ITEM_KEYWORDS: &[&str] =
    &["const", "enum", "fn", "macro_rules", "mod", "static", "struct", "trait", "type", "union"];

/// Names of the modules that are declared with `mod name;`.
pub(super) fn child_modules(tokens: &[Token]) -> Vec<String> {
    let declares = |three: &&[Token]| three[0].is_name("mod") && three[2].is(";");
    let declared = tokens.windows(3).filter(declares);
    declared.filter_map(|three| three[1].name().map(str::to_owned)).collect()
}

/// Reads a file from its first to its last token.
pub(super) fn read(tokens: &[Token]) -> Code {
    let mut code = Code::default();
    let mut inline = InlineModules::default();
    let mut at = 0;
    while at < tokens.len() {
        inline.pass(tokens, at);
        if tokens[at].is_name("use") && starts_item(tokens, at) {
            let public = is_public(tokens, at);
            let mut tree = UseTree { tokens, at: at + 1, public, imports: Vec::new() };
            tree.read(&[]);
            at = tree.at;
            let imports = tree.imports.into_iter().filter_map(|import| {
                let segments = inline.relative_to_file(import.segments)?;
                Some(Import { segments, ..import })
            });
            code.imports.extend(imports);
        } else {
            at = code.read_one(tokens, at, &inline);
        }
    }
    code
}

/// `impl Trait + use<'a>` is a bound, not an import.
fn starts_item(tokens: &[Token], at: usize) -> bool {
    tokens.get(at + 1).is_some_and(|next| !next.is("<"))
}

/// True for `pub use` and `pub(…) use`.
fn is_public(tokens: &[Token], at: usize) -> bool {
    let before = &tokens[..at];
    match before.last() {
        Some(last) if last.is_name("pub") => true,
        Some(last) if last.is(")") => {
            let opening = before.iter().rposition(|token| token.is("("));
            opening.is_some_and(|at| at > 0 && before[at - 1].is_name("pub"))
        }
        _ => false,
    }
}

impl Code {
    /// Reads a name or a whole path and returns the position behind it.
    fn read_one(&mut self, tokens: &[Token], at: usize, inline: &InlineModules) -> usize {
        let Some(name) = tokens[at].name() else {
            return at + 1;
        };
        let keyword = tokens[..at].iter().rev().find(|token| !token.is("!"));
        if keyword.is_some_and(|token| ITEM_KEYWORDS.iter().any(|word| token.is_name(word))) {
            self.defined.insert(name.to_owned());
        } else {
            self.mentioned.insert(name.to_owned());
        }
        let mut segments = vec![name.to_owned()];
        let mut end = at + 1;
        while tokens.get(end).is_some_and(|token| token.is("::"))
            && let Some(next) = tokens.get(end + 1).and_then(Token::name)
        {
            segments.push(next.to_owned());
            end += 2;
        }
        if segments.len() > 1
            && segments[0] != "Self"
            && let Some(segments) = inline.relative_to_file(segments)
        {
            let line = tokens[at].line;
            self.paths.push(Path { line, segments });
        }
        end
    }
}

/// The inline modules (`mod name { … }`) around the current token.
#[derive(Default)]
struct InlineModules {
    depth: usize,
    /// The brace depth at which each open module started.
    opened: Vec<usize>,
}

impl InlineModules {
    fn pass(&mut self, tokens: &[Token], at: usize) {
        if tokens[at].is("{") {
            if at >= 2 && tokens[at - 2].is_name("mod") {
                self.opened.push(self.depth);
            }
            self.depth += 1;
        } else if tokens[at].is("}") {
            self.depth = self.depth.saturating_sub(1);
            if self.opened.last() == Some(&self.depth) {
                self.opened.pop();
            }
        }
    }

    /// Rewrites a path so that it starts at the file's own module. None if it stays inline.
    fn relative_to_file(&self, mut segments: Vec<String>) -> Option<Vec<String>> {
        let supers = segments.iter().take_while(|name| *name == "super").count();
        match (supers, self.opened.len()) {
            (_, 0) => Some(segments),
            (0, _) => (segments[0] != "self").then_some(segments),
            (supers, inline) if supers < inline => None,
            (supers, inline) => {
                segments.drain(..inline);
                if supers == inline {
                    segments.insert(0, "self".to_owned());
                }
                Some(segments)
            }
        }
    }
}

struct UseTree<'a> {
    tokens: &'a [Token],
    at: usize,
    public: bool,
    imports: Vec<Import>,
}

impl UseTree<'_> {
    /// Reads one tree behind `prefix` up to the `,`, `}` or `;` that ends it.
    fn read(&mut self, prefix: &[String]) {
        let mut segments = prefix.to_vec();
        let line = self.tokens.get(self.at).map_or(0, |token| token.line);
        let mut renamed = None;
        while let Some(token) = self.tokens.get(self.at) {
            if token.is(",") || token.is("}") || token.is(";") {
                break;
            }
            self.at += 1;
            if token.is("{") {
                self.read_group(&segments);
                return self.skip_semicolon(prefix);
            }
            if token.is("*") {
                self.push(line, segments, String::new());
                return self.skip_semicolon(prefix);
            }
            match token.name() {
                Some("as") => {
                    renamed = self.tokens.get(self.at).and_then(Token::name);
                    // `as _` imports a trait without a name.
                    self.at += 1;
                }
                Some("self") if !segments.is_empty() => {}
                Some(name) => segments.push(name.to_owned()),
                None => {}
            }
        }
        if let Some(last) = segments.last().cloned() {
            let name = renamed.map_or(last, str::to_owned);
            self.push(line, segments, name);
        }
        self.skip_semicolon(prefix);
    }

    fn read_group(&mut self, prefix: &[String]) {
        while let Some(token) = self.tokens.get(self.at) {
            if token.is("}") {
                self.at += 1;
                return;
            }
            if token.is(",") {
                self.at += 1;
            } else {
                self.read(prefix);
            }
        }
    }

    fn skip_semicolon(&mut self, prefix: &[String]) {
        let ends = self.tokens.get(self.at).is_some_and(|token| token.is(";"));
        if ends && prefix.is_empty() {
            self.at += 1;
        }
    }

    fn push(&mut self, line: usize, segments: Vec<String>, name: String) {
        self.imports.push(Import {
            line,
            glob: name.is_empty(),
            segments,
            name,
            public: self.public,
        });
    }
}
