//! Tokens of a selector.

/// One token. Words keep their text; `in` and `notin` are words too where a value is expected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Token<'a> {
    End,
    Word(&'a str),
    Comma,
    Open,
    Close,
    Not,
    Equals,
    DoubleEquals,
    NotEquals,
    Greater,
    Less,
}

/// Splits a selector into tokens, with one token of lookahead.
#[derive(Clone, Debug)]
pub(super) struct Lexer<'a> {
    rest: &'a str,
    next: Token<'a>,
}

impl<'a> Token<'a> {
    /// The token's text, for errors.
    pub(super) fn text(self) -> &'a str {
        match self {
            Self::End => "",
            Self::Word(word) => word,
            Self::Comma => ",",
            Self::Open => "(",
            Self::Close => ")",
            Self::Not => "!",
            Self::Equals => "=",
            Self::DoubleEquals => "==",
            Self::NotEquals => "!=",
            Self::Greater => ">",
            Self::Less => "<",
        }
    }
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let mut lexer = Self {
            rest: text,
            next: Token::End,
        };
        lexer.next = lexer.scan();
        lexer
    }

    /// The next token, without consuming it.
    pub(super) fn peek(&self) -> Token<'a> {
        self.next
    }

    /// The next token; [`Token::End`] repeats.
    pub(super) fn take(&mut self) -> Token<'a> {
        let token = self.next;
        self.next = self.scan();
        token
    }

    fn scan(&mut self) -> Token<'a> {
        self.rest = self.rest.trim_start_matches(is_space);
        let end = self
            .rest
            .find(|c| is_space(c) || is_special(c))
            .unwrap_or(self.rest.len());
        if end > 0 {
            let (word, rest) = self.rest.split_at(end);
            self.rest = rest;
            return Token::Word(word);
        }
        for (text, token) in [
            ("==", Token::DoubleEquals),
            ("!=", Token::NotEquals),
            ("=", Token::Equals),
            ("!", Token::Not),
            (",", Token::Comma),
            ("(", Token::Open),
            (")", Token::Close),
            (">", Token::Greater),
            ("<", Token::Less),
        ] {
            if let Some(rest) = self.rest.strip_prefix(text) {
                self.rest = rest;
                return token;
            }
        }
        Token::End
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_special(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}
