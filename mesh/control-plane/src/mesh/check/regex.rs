//! Checks regular expressions. Envoy rejects a route configuration with one that RE2 does not
//! compile, so only those are taken that both RE2 and the `regex` crates read alike.
//! <https://github.com/google/re2/wiki/Syntax>

use regex_syntax::ast::{
    Ast, ClassSet, ClassSetItem, ClassUnicodeKind, Flag, FlagsItemKind, LiteralKind,
    RepetitionKind, RepetitionRange, parse::Parser,
};

/// As in App Mesh's schema.
const BYTES_MAX: usize = 255;

/// RE2 repeats an expression 1,000 times at most, nested repetitions multiplied.
const REPEATED_MAX: u64 = 1_000;

/// Size of a compiled expression at most, in instructions as [`size`] estimates them: RE2 has room
/// for some 100,000.
const SIZE_MAX: u64 = 20_000;

pub(super) fn fault(field: &str, text: &str) -> Option<String> {
    if text.is_empty() || text.len() > BYTES_MAX {
        return Some(format!("{field}: 1 to {BYTES_MAX} bytes are needed"));
    }
    let ast = match Parser::new().parse(text) {
        Ok(ast) => ast,
        Err(error) => {
            return Some(format!("{field}: {text:?}: {}", error.kind()));
        }
    };
    let unserved = unserved(&ast, 1)
        .or_else(|| (size(&ast) > SIZE_MAX).then_some("an expression that becomes this large"));
    unserved.map(|what| format!("{field}: {text:?}: Envoy's RE2 does not know {what}"))
}

/// What RE2 does not compile. `repeated` is the product of the repetitions around `ast`.
fn unserved(ast: &Ast, repeated: u64) -> Option<&'static str> {
    match ast {
        Ast::Empty(_) | Ast::Dot(_) | Ast::ClassPerl(_) => None,
        Ast::Literal(literal) => unserved_literal(&literal.kind, literal.c),
        Ast::Flags(flags) => unserved_flags(&flags.flags.items),
        Ast::Assertion(assertion) => {
            use regex_syntax::ast::AssertionKind::{
                EndLine, EndText, NotWordBoundary, StartLine, StartText, WordBoundary,
            };
            let is_known = matches!(
                assertion.kind,
                EndLine | EndText | NotWordBoundary | StartLine | StartText | WordBoundary
            );
            (!is_known).then_some("this boundary of words")
        }
        Ast::ClassUnicode(class) => unserved_class(&class.kind),
        Ast::ClassBracketed(class) => unserved_set(&class.kind),
        Ast::Repetition(repetition) => {
            let times = match &repetition.op.kind {
                RepetitionKind::Range(
                    RepetitionRange::Exactly(most) | RepetitionRange::Bounded(_, most),
                ) => u64::from(*most),
                RepetitionKind::Range(RepetitionRange::AtLeast(least)) => u64::from(*least),
                _ => 1,
            };
            let repeated = repeated.saturating_mul(times.max(1));
            if repeated > REPEATED_MAX {
                return Some("so many repetitions");
            }
            match &*repetition.ast {
                Ast::Repetition(_) | Ast::Assertion(_) | Ast::Empty(_) | Ast::Flags(_) => {
                    Some("a repetition of nothing, or of a repetition without parentheses")
                }
                repeated_ast => unserved(repeated_ast, repeated),
            }
        }
        Ast::Group(group) => {
            let flags = group.flags().and_then(|flags| unserved_flags(&flags.items));
            flags.or_else(|| unserved(&group.ast, repeated))
        }
        Ast::Alternation(all) => all.asts.iter().find_map(|ast| unserved(ast, repeated)),
        Ast::Concat(all) => all.asts.iter().find_map(|ast| unserved(ast, repeated)),
    }
}

fn unserved_literal(kind: &LiteralKind, c: char) -> Option<&'static str> {
    use regex_syntax::ast::HexLiteralKind::{UnicodeLong, UnicodeShort};
    match kind {
        LiteralKind::HexFixed(UnicodeShort | UnicodeLong)
        | LiteralKind::HexBrace(UnicodeShort | UnicodeLong) => Some(r"\u and \U"),
        LiteralKind::Meta | LiteralKind::Superfluous if c == '_' || !c.is_ascii() => {
            Some("this escape")
        }
        _ => None,
    }
}

fn unserved_flags(items: &[regex_syntax::ast::FlagsItem]) -> Option<&'static str> {
    let is_known = |kind: &FlagsItemKind| match kind {
        FlagsItemKind::Negation => true,
        FlagsItemKind::Flag(flag) => matches!(
            flag,
            Flag::CaseInsensitive | Flag::MultiLine | Flag::DotMatchesNewLine | Flag::SwapGreed
        ),
    };
    let all = items.iter().all(|item| is_known(&item.kind));
    (!all).then_some("this flag")
}

/// Categories by one letter only: names of scripts differ.
fn unserved_class(kind: &ClassUnicodeKind) -> Option<&'static str> {
    let is_known = match kind {
        ClassUnicodeKind::OneLetter(letter) => "LMNPSZ".contains(*letter),
        _ => false,
    };
    (!is_known).then_some("this class of characters")
}

fn unserved_set(set: &ClassSet) -> Option<&'static str> {
    match set {
        ClassSet::BinaryOp(_) => Some("operations on classes"),
        ClassSet::Item(item) => unserved_item(item),
    }
}

fn unserved_item(item: &ClassSetItem) -> Option<&'static str> {
    match item {
        ClassSetItem::Empty(_) | ClassSetItem::Ascii(_) | ClassSetItem::Perl(_) => None,
        ClassSetItem::Literal(literal) => unserved_literal(&literal.kind, literal.c),
        ClassSetItem::Range(range) => unserved_literal(&range.start.kind, range.start.c)
            .or_else(|| unserved_literal(&range.end.kind, range.end.c)),
        ClassSetItem::Unicode(class) => unserved_class(&class.kind),
        ClassSetItem::Bracketed(_) => Some("a class within a class"),
        ClassSetItem::Union(union) => union.items.iter().find_map(unserved_item),
    }
}

/// Instructions of RE2, roughly and rather too many.
fn size(ast: &Ast) -> u64 {
    match ast {
        Ast::Empty(_) | Ast::Flags(_) | Ast::Assertion(_) | Ast::ClassPerl(_) => 2,
        Ast::Literal(_) => 4,
        Ast::Dot(_) => 20,
        Ast::ClassUnicode(_) => 2_000,
        Ast::ClassBracketed(class) => {
            let unicode = class.span.end.offset - class.span.start.offset;
            // A class of 200 bytes may have 20 ranges beyond ASCII, and `\pL` in it.
            20 * unicode as u64 + if has_category(&class.kind) { 2_000 } else { 0 }
        }
        Ast::Repetition(repetition) => {
            let times = match &repetition.op.kind {
                RepetitionKind::Range(
                    RepetitionRange::Exactly(most) | RepetitionRange::Bounded(_, most),
                ) => u64::from(*most),
                RepetitionKind::Range(RepetitionRange::AtLeast(least)) => u64::from(*least) + 1,
                _ => 1,
            };
            size(&repetition.ast).saturating_mul(times) + 2
        }
        Ast::Group(group) => size(&group.ast) + 2,
        Ast::Alternation(all) => all.asts.iter().map(size).sum(),
        Ast::Concat(all) => all.asts.iter().map(size).sum(),
    }
}

fn has_category(set: &ClassSet) -> bool {
    match set {
        ClassSet::BinaryOp(_) => true,
        ClassSet::Item(ClassSetItem::Union(union)) => {
            let mut items = union.items.iter();
            items.any(|item| matches!(item, ClassSetItem::Unicode(_)))
        }
        ClassSet::Item(item) => matches!(item, ClassSetItem::Unicode(_)),
    }
}

#[cfg(test)]
mod tests {
    use super::fault;

    #[test]
    fn taken_are_those_that_both_engines_know() {
        for good in [
            ".*green.*",
            r"^/v[0-9]+/(users|groups)/\d{1,10}$",
            r"(?i)chrome|(?s:a.b)",
            r"(?P<name>a)\.b\-c[[:alpha:]_.-]*?",
            r"\pL+[\pN-]",
            r"[^/]{2,}\x41\x{42}\t",
            "a|",
        ] {
            assert_eq!(fault("f", good), None, "{good}");
        }
        for bad in [
            "",
            "(",
            "a**",
            "*a",
            "^*",
            r"(?=a)",
            r"a\1",
            r"(?x)a b",
            r"[a&&b]",
            r"[a[b]]",
            r"\u0041",
            r"\p{Greek}",
            r"\b{start}a",
            "a{1001}",
            "(a{100}){11}",
            r"(\pL){900}",
            r"(?u)a",
            r"(?R)a",
            r"\_",
            "a{2}{3}",
        ] {
            assert!(fault("f", bad).is_some(), "{bad}");
        }
        assert!(fault("f", &"a".repeat(256)).is_some());
    }
}
