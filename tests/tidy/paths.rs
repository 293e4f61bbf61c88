//! The paths that Rust source names. Comments are skipped. A path inside a string counts as one;
//! nothing in the code base needs one there.

/// A path as written out: `use a::{b, c::d}` gives `a::b` and `a::c::d`. Lines count from 1.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Path<'a> {
    pub line: usize,
    /// Below `#[cfg(test)]`.
    pub in_test: bool,
    pub segments: Vec<&'a str>,
}

#[derive(Clone, Copy)]
struct Token<'a> {
    line: usize,
    in_test: bool,
    text: &'a str,
}

/// Every path in `source`, which must be formatted by rustfmt.
pub fn paths(source: &str) -> Vec<Path<'_>> {
    let tokens = tokens(source);
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(&Token { line, in_test, text }) = tokens.get(at) {
        let next = |ahead: usize| tokens.get(at + ahead).map_or("", |token| token.text);
        // Excludes the word in a string, and `use<'_>`.
        let begins = at == 0 || [";", "{", "}", ")", "]", "pub"].contains(&tokens[at - 1].text);
        if text == "use" && begins {
            at = use_tree(&tokens, at + 1, &[], &mut out);
        } else if text == "extern" && next(1) == "crate" {
            out.push(Path { line, in_test, segments: vec![next(2)] });
            at += 3;
        } else {
            let mut segments = vec![text];
            while next(2 * segments.len() - 1) == "::" && is_name(next(2 * segments.len())) {
                segments.push(next(2 * segments.len()));
            }
            let length = 2 * segments.len() - 1;
            if is_name(text) && next(1) == "::" {
                out.push(Path { line, in_test, segments });
            }
            at += length;
        }
    }
    out
}

/// Reads one branch of a `use` tree from `at`. Returns the index of the `,`, `}` or `;` after it.
fn use_tree<'a>(
    tokens: &[Token<'a>],
    mut at: usize,
    prefix: &[&'a str],
    out: &mut Vec<Path<'a>>,
) -> usize {
    let mut segments = prefix.to_vec();
    while let Some(token) = tokens.get(at) {
        match token.text {
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token.text != "}") {
                    at = use_tree(tokens, at, &segments, out);
                    at += usize::from(tokens.get(at).is_some_and(|token| token.text == ","));
                }
                return at + 1;
            }
            "," | "}" | ";" => {
                out.push(Path { line: token.line, in_test: token.in_test, segments });
                return at;
            }
            "::" => at += 1,
            "as" => at += 2,
            name => {
                segments.push(name);
                at += 1;
            }
        }
    }
    at
}

/// Names, numbers and punctuation (`::` is one token).
fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut out = Vec::new();
    // Indentation of the item below `#[cfg(test)]`.
    let mut test = None;
    for (line, text) in (1..).zip(source.lines()) {
        let indented = text.len() - text.trim_start().len();
        let is_mark = text.trim() == "#[cfg(test)]";
        if is_mark && test.is_none() {
            test = Some(indented);
        }
        // Outside a string, judging by the quotation marks.
        let comment = text
            .match_indices("//")
            .find(|(at, _)| text[..*at].matches('"').count().is_multiple_of(2));
        let code = text[..comment.map_or(text.len(), |(at, _)| at)].trim_end();
        let mut rest = code;
        while let Some(first) = rest.chars().next() {
            let length = match first {
                _ if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
                ':' if rest.starts_with("::") => 2,
                _ => first.len_utf8(),
            };
            if !first.is_whitespace() {
                out.push(Token { line, in_test: test.is_some(), text: &rest[..length] });
            }
            rest = &rest[length..];
        }
        if !is_mark && test == Some(indented) && code.ends_with([';', '}', ',']) {
            test = None;
        }
    }
    out
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn is_name(text: &str) -> bool {
    text.chars().next().is_some_and(|c| is_word(c) && !c.is_numeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(source: &str) -> Vec<String> {
        paths(source).iter().map(|path| path.segments.join("::")).collect()
    }

    #[test]
    fn a_use_tree_is_spread_into_whole_paths() {
        assert_eq!(
            spread("use std::{net::{TcpStream, UdpSocket as Udp},\n thread};"),
            ["std::net::TcpStream", "std::net::UdpSocket", "std::thread"]
        );
        assert_eq!(
            spread("pub use crate::cache::*; extern crate burn;"),
            ["crate::cache::*", "burn"]
        );
    }

    #[test]
    fn a_path_in_the_middle_of_an_expression_is_seen() {
        assert_eq!(
            spread("let t = std::time::Instant::now() + Vec::<u8>::new().len();"),
            ["std::time::Instant::now", "Vec"]
        );
        assert_eq!(spread("fn f() -> impl Fn() + use<'_> { x }"), Vec::<String>::new());
        assert_eq!(spread("f(\"how to use it\", a::b);"), ["a::b"]);
        assert_eq!(
            spread("a::b // c::d\n/// e::f\nlet url = \"http://x\"; g::h"),
            ["a::b", "g::h"]
        );
    }

    #[test]
    fn what_is_below_a_test_mark_is_told_apart_and_lines_are_counted() {
        let source = "a::a\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n    b::b;\n}\nc::c\n    #[cfg(test)]\n    d::d;\n    e::e\n";
        let found: Vec<(usize, bool, &str)> =
            paths(source).iter().map(|path| (path.line, path.in_test, path.segments[0])).collect();
        assert_eq!(
            found,
            [(1, false, "a"), (5, true, "b"), (7, false, "c"), (9, true, "d"), (10, false, "e")]
        );
    }
}
