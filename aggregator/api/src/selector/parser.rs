//! Parses tokens into requirements, by the grammar of Kubernetes.

use super::lexer::{Lexer, Token};
use super::syntax::{SyntaxError, key_fault, value_fault};
use super::{Condition, Requirement};

const BINARY_OPERATORS: &str = "in, notin, =, ==, !=, gt, lt";

pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, SyntaxError> {
    let mut lexer = Lexer::new(text);
    let mut requirements = Vec::new();
    if lexer.peek() == Token::End {
        return Ok(requirements);
    }
    if !starts_requirement(lexer.peek()) {
        return Err(misplaced(lexer.peek(), "!, identifier, or 'end of string'"));
    }
    loop {
        requirements.push(parse_requirement(&mut lexer)?);
        match lexer.take() {
            Token::End => return Ok(requirements),
            Token::Comma if starts_requirement(lexer.peek()) => {}
            Token::Comma => return Err(misplaced(lexer.peek(), "identifier after ','")),
            other => return Err(misplaced(other, "',' or 'end of string'")),
        }
    }
}

fn starts_requirement(token: Token<'_>) -> bool {
    matches!(token, Token::Word(_) | Token::Not)
}

fn parse_requirement(lexer: &mut Lexer<'_>) -> Result<Requirement, SyntaxError> {
    let negated = lexer.peek() == Token::Not;
    if negated {
        lexer.take();
    }
    let key = match lexer.take() {
        Token::Word(key) => key,
        other => return Err(unexpected(other, "identifier")),
    };
    if let Some(rule) = key_fault(key) {
        return Err(SyntaxError::Key {
            key: key.to_owned(),
            rule,
        });
    }
    let condition = if negated {
        Condition::DoesNotExist
    } else if matches!(lexer.peek(), Token::End | Token::Comma) {
        Condition::Exists
    } else {
        parse_condition(lexer, key)?
    };
    Ok(Requirement {
        key: key.to_owned(),
        condition,
    })
}

fn parse_condition(lexer: &mut Lexer<'_>, key: &str) -> Result<Condition, SyntaxError> {
    match lexer.take() {
        Token::Equals | Token::DoubleEquals => Ok(Condition::Equals(parse_value(lexer, key)?)),
        Token::NotEquals => Ok(Condition::NotEquals(parse_value(lexer, key)?)),
        Token::Greater => Ok(Condition::GreaterThan(parse_number(lexer, key)?)),
        Token::Less => Ok(Condition::LessThan(parse_number(lexer, key)?)),
        Token::Word("in") => Ok(Condition::In(parse_values(lexer, key)?)),
        Token::Word("notin") => Ok(Condition::NotIn(parse_values(lexer, key)?)),
        other => Err(unexpected(other, BINARY_OPERATORS)),
    }
}

/// The value after `=` or `!=`; it may be empty.
fn parse_value(lexer: &mut Lexer<'_>, key: &str) -> Result<String, SyntaxError> {
    let value = match lexer.peek() {
        Token::End | Token::Comma => "",
        Token::Word(value) => {
            lexer.take();
            value
        }
        other => return Err(unexpected(other, "identifier")),
    };
    checked_value(key, 0, value)
}

fn parse_number(lexer: &mut Lexer<'_>, key: &str) -> Result<i64, SyntaxError> {
    let value = parse_value(lexer, key)?;
    value.parse().map_err(|_| SyntaxError::NotANumber(value))
}

/// `(a,b)`. Nothing between commas means the empty value.
fn parse_values(lexer: &mut Lexer<'_>, key: &str) -> Result<Vec<String>, SyntaxError> {
    match lexer.take() {
        Token::Open => {}
        other => return Err(unexpected(other, "'('")),
    }
    if lexer.peek() == Token::Close {
        return Err(SyntaxError::NoValues);
    }
    let mut values = Vec::new();
    loop {
        let value = match lexer.peek() {
            Token::Word(value) => {
                lexer.take();
                value
            }
            Token::Comma | Token::Close => "",
            other => return Err(unexpected(other, "',', ')' or identifier")),
        };
        values.push(checked_value(key, values.len(), value)?);
        match lexer.take() {
            Token::Comma => {}
            Token::Close => break,
            other => return Err(unexpected(other, "',' or ')'")),
        }
    }
    values.sort_unstable();
    values.dedup();
    Ok(values)
}

fn checked_value(key: &str, index: usize, value: &str) -> Result<String, SyntaxError> {
    match value_fault(value) {
        None => Ok(value.to_owned()),
        Some(rule) => Err(SyntaxError::Value {
            key: key.to_owned(),
            index,
            value: value.to_owned(),
            rule,
        }),
    }
}

fn misplaced(found: Token<'_>, expected: &'static str) -> SyntaxError {
    SyntaxError::List {
        found: found.text().to_owned(),
        expected,
    }
}

fn unexpected(found: Token<'_>, expected: &'static str) -> SyntaxError {
    SyntaxError::Token {
        found: found.text().to_owned(),
        expected,
    }
}
