//! What macros and attributes mention: paths, `unsafe` code and texts, found in their tokens.

use proc_macro2::{Delimiter, Literal, TokenStream, TokenTree};

use super::scopes::{PathForm, PathText, plain};

/// What was found in a stream of tokens.
#[derive(Default)]
pub struct TokenScan {
    pub paths: Vec<PathText>,
    /// Lines with `unsafe` code.
    pub unsafe_lines: Vec<usize>,
    pub literals: Vec<Literal>,
}

impl TokenScan {
    pub fn of(stream: TokenStream) -> Self {
        let mut scan = Self::default();
        scan.read(stream);
        scan
    }

    fn read(&mut self, stream: TokenStream) {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            at = match token {
                TokenTree::Ident(_) => self.read_path(&tokens, at),
                TokenTree::Group(group) => {
                    self.read(group.stream());
                    at + 1
                }
                TokenTree::Literal(literal) => {
                    self.literals.push(literal.clone());
                    at + 1
                }
                TokenTree::Punct(_) => at + 1,
            };
        }
    }

    /// Reads the path that begins with the identifier at `at`; gives the position after it.
    fn read_path(&mut self, tokens: &[TokenTree], at: usize) -> usize {
        let TokenTree::Ident(first) = &tokens[at] else { return at + 1 };
        let line = first.span().start().line;
        if first == "unsafe" && is_unsafe_code(&tokens[at + 1..]) {
            self.unsafe_lines.push(line);
        }
        let is_variable = at > 0 && is_punct(tokens.get(at - 1), '$') && first != "crate";
        let leading_colon = at > 1 && is_double_colon(tokens, at - 2);
        let path = PathText { segments: vec![plain(first)], leading_colon, line, form: PathForm::Mention };
        let found = self.paths.len();
        let end = self.read_rest(tokens, at + 1, path);
        if is_variable {
            self.paths.truncate(found); // What the variable stands for is read where the macro is called.
        }
        end
    }

    /// Reads what follows a path's segments: more of them, a group or a glob of `use`.
    fn read_rest(&mut self, tokens: &[TokenTree], mut at: usize, mut path: PathText) -> usize {
        while is_double_colon(tokens, at) {
            match tokens.get(at + 2) {
                Some(TokenTree::Ident(next)) => {
                    path.segments.push(plain(next));
                    at += 3;
                }
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                    self.read_group(group.stream(), &path);
                    return at + 3;
                }
                Some(TokenTree::Punct(star)) if star.as_char() == '*' => {
                    self.paths.push(PathText { form: PathForm::Glob, ..path });
                    return at + 3;
                }
                _ => break,
            }
        }
        if path.segments.len() > 1 {
            self.paths.push(path);
        }
        at
    }

    fn read_group(&mut self, stream: TokenStream, prefix: &PathText) {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        for part in tokens.split(|token| is_punct(Some(token), ',')) {
            match part.first() {
                Some(TokenTree::Ident(name)) => {
                    let mut path = prefix.clone();
                    path.segments.push(plain(name));
                    path.line = name.span().start().line;
                    self.read_rest(part, 1, path);
                }
                Some(TokenTree::Punct(star)) if star.as_char() == '*' => {
                    self.paths.push(PathText { form: PathForm::Glob, ..prefix.clone() });
                }
                _ => {}
            }
        }
    }
}

/// Whether `unsafe` before these tokens begins code, and not the type of a function pointer.
fn is_unsafe_code(rest: &[TokenTree]) -> bool {
    let word = |at: usize| match rest.get(at) {
        Some(TokenTree::Ident(ident)) => ident.to_string(),
        _ => String::new(),
    };
    let is_block = |at: usize| match rest.get(at) {
        Some(TokenTree::Group(group)) => group.delimiter() == Delimiter::Brace,
        _ => false,
    };
    let is_function = |at: usize| word(at) == "fn" && !matches!(rest.get(at + 1), Some(TokenTree::Group(_)) | None);
    match word(0).as_str() {
        "impl" | "trait" => true,
        "fn" => is_function(0),
        "extern" => {
            let after = if matches!(rest.get(1), Some(TokenTree::Literal(_))) { 2 } else { 1 };
            is_block(after) || is_function(after)
        }
        _ => is_block(0),
    }
}

fn is_double_colon(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':')
}

fn is_punct(token: Option<&TokenTree>, expected: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == expected)
}
