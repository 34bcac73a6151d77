//! The words of a label selector's text.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Identifier,
    Comma,
    OpenParenthesis,
    CloseParenthesis,
    Equals,
    DoubleEquals,
    NotEquals,
    GreaterThan,
    LessThan,
    DoesNotExist,
    In,
    NotIn,
    Error,
    End,
}

/// What `in` and `notin` mean: operators, or values like others.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Context {
    KeyAndOperator,
    Values,
}

pub(super) struct Lexer<'a> {
    rest: &'a str,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    /// The next word, left in place.
    pub(super) fn peek(&self, context: Context) -> (Token, &'a str) {
        let (token, word, _) = scan(self.rest);
        (in_context(token, context), word)
    }

    /// The next word, taken.
    pub(super) fn next(&mut self, context: Context) -> (Token, &'a str) {
        let (token, word, rest) = scan(self.rest);
        self.rest = rest;
        (in_context(token, context), word)
    }
}

fn in_context(token: Token, context: Context) -> Token {
    match token {
        Token::In | Token::NotIn if context == Context::Values => Token::Identifier,
        other => other,
    }
}

fn is_special(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// Token, its text and what follows.
fn scan(text: &str) -> (Token, &str, &str) {
    let text = text.trim_start_matches(is_space);
    let Some(first) = text.chars().next() else {
        return (Token::End, "", "");
    };
    if is_special(first) {
        let symbols = [
            ("==", Token::DoubleEquals),
            ("!=", Token::NotEquals),
            ("=", Token::Equals),
            ("!", Token::DoesNotExist),
            ("(", Token::OpenParenthesis),
            (")", Token::CloseParenthesis),
            (",", Token::Comma),
            (">", Token::GreaterThan),
            ("<", Token::LessThan),
        ];
        for (symbol, token) in symbols {
            if let Some(rest) = text.strip_prefix(symbol) {
                return (token, &text[..symbol.len()], rest);
            }
        }
        return (Token::Error, text, "");
    }
    let end = text.find(|c| is_special(c) || is_space(c)).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let token = match word {
        "in" => Token::In,
        "notin" => Token::NotIn,
        _ => Token::Identifier,
    };
    (token, word, rest)
}
