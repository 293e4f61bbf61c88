//! Rust source as the rules see it: identifiers and punctuation, without comments and literals.

/// One identifier, number or punctuation mark (`::` is one), and its line, counted from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token<'a> {
    pub line: usize,
    pub text: &'a str,
}

/// A path as written out: `use a::{b, c::d}` gives `a::b` and `a::c::d`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Path<'a> {
    pub line: usize,
    pub segments: Vec<&'a str>,
}

/// The tokens of `source`. Comments, strings, characters and lifetimes are left out.
pub fn tokens(source: &str) -> Vec<Token<'_>> {
    let (mut rest, mut line) = (source, 1);
    let mut out = Vec::new();
    while let Some(first) = rest.chars().next() {
        let length = skipped(rest).unwrap_or_else(|| {
            let length = match first {
                _ if is_word(first) => word(rest),
                ':' if rest.starts_with("::") => 2,
                _ => first.len_utf8(),
            };
            if !first.is_whitespace() {
                out.push(Token { line, text: &rest[..length] });
            }
            length
        });
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    out
}

/// Every path that `tokens` name, `use` trees spread out.
pub fn paths<'a>(tokens: &[Token<'a>]) -> Vec<Path<'a>> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let next = |ahead: usize| tokens.get(at + ahead).map_or("", |t| t.text);
        if tokens[at].text == "use" && next(1) != "<" {
            at = use_tree(tokens, at + 1, &[], &mut out);
        } else if next(0) == "extern" && next(1) == "crate" {
            out.push(Path { line: tokens[at].line, segments: vec![next(2)] });
            at += 3;
        } else if is_name(next(0)) && next(1) == "::" {
            let mut segments = vec![next(0)];
            while next(2 * segments.len() - 1) == "::" && is_name(next(2 * segments.len())) {
                segments.push(next(2 * segments.len()));
            }
            let line = tokens[at].line;
            at += 2 * segments.len() - 1;
            out.push(Path { line, segments });
        } else {
            at += 1;
        }
    }
    out
}

/// Reads one branch of a `use` tree from `at`; gives the place of the `,`, `}` or `;` behind it.
fn use_tree<'a>(tokens: &[Token<'a>], mut at: usize, prefix: &[&'a str], out: &mut Vec<Path<'a>>) -> usize {
    let mut segments = prefix.to_vec();
    while let Some(token) = tokens.get(at) {
        match token.text {
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|t| t.text != "}") {
                    at = use_tree(tokens, at, &segments, out);
                    at += usize::from(tokens.get(at).is_some_and(|t| t.text == ","));
                }
                return at + 1;
            }
            "," | "}" | ";" => {
                out.push(Path { line: token.line, segments });
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

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn is_name(text: &str) -> bool {
    text.chars().next().is_some_and(|c| is_word(c) && !c.is_numeric())
}

/// Bytes of the identifier or number that `rest` starts with.
fn word(rest: &str) -> usize {
    rest.find(|c| !is_word(c)).unwrap_or(rest.len())
}

/// Bytes of the comment, literal or lifetime that `rest` starts with.
fn skipped(rest: &str) -> Option<usize> {
    let line = || rest.find('\n').unwrap_or(rest.len());
    match rest.as_bytes()[0] {
        b'/' if rest.starts_with("//") => Some(line()),
        b'/' if rest.starts_with("/*") => Some(block_comment(rest)),
        b'"' => Some(quoted(rest, '"')),
        b'\'' => Some(quote(rest)),
        b'r' | b'b' | b'c' => {
            let prefix = word(rest);
            let hashes = rest[prefix..].bytes().take_while(|&b| b == b'#').count();
            let raw = rest[..prefix].ends_with('r');
            match (&rest[..prefix], rest.as_bytes().get(prefix + hashes)) {
                ("b", Some(b'\'')) if hashes == 0 => Some(1 + quoted(&rest[1..], '\'')),
                ("b" | "c", Some(b'"')) if hashes == 0 => Some(1 + quoted(&rest[1..], '"')),
                ("r" | "br" | "cr", Some(b'"')) if raw => {
                    let open = prefix + hashes + 1;
                    let close = format!("\"{}", "#".repeat(hashes));
                    Some(rest[open..].find(&close).map_or(rest.len(), |at| open + at + close.len()))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] if depth == 1 => return at + 2,
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    rest.len()
}

/// Bytes of the literal from its opening mark to its closing one; a backslash shields the byte behind it.
fn quoted(rest: &str, mark: char) -> usize {
    let mut shielded = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if shielded => shielded = false,
            '\\' => shielded = true,
            _ if c == mark => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Bytes of a character literal or of a lifetime.
fn quote(rest: &str) -> usize {
    let mut after = rest.chars().skip(1);
    match (after.next(), after.next()) {
        (Some('\\'), _) => quoted(rest, '\''),
        (Some(_), Some('\'')) => quoted(rest, '\''),
        _ => 1 + word(&rest[1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<&str> {
        tokens(source).iter().map(|t| t.text).collect()
    }

    fn spread(source: &str) -> Vec<String> {
        paths(&tokens(source)).iter().map(|p| p.segments.join("::")).collect()
    }

    #[test]
    fn comments_literals_and_lifetimes_are_no_code() {
        assert_eq!(texts("a // unsafe\n/* x /* y */ z */ b"), ["a", "b"]);
        assert_eq!(
            texts(r##"f("un\"safe", r#"a "quoted" b"#, b"x", 'u', '\'', b'\\') g"##),
            ["f", "(", ",", ",", ",", ",", ",", ")", "g"]
        );
        assert_eq!(texts("fn x<'a>(y: &'static str)"), ["fn", "x", "<", ">", "(", "y", ":", "&", "str", ")"]);
        assert_eq!(texts("let r#type = bytes;"), ["let", "r", "#", "type", "=", "bytes", ";"]);
    }

    #[test]
    fn lines_are_counted_through_comments_and_strings() {
        let lines: Vec<usize> = tokens("a\n/* \n */ b\n\"\n\" c").iter().map(|t| t.line).collect();
        assert_eq!(lines, [1, 3, 5]);
    }

    #[test]
    fn a_use_tree_is_spread_into_whole_paths() {
        assert_eq!(
            spread("use std::{net::{TcpStream, UdpSocket as Udp}, thread};"),
            ["std::net::TcpStream", "std::net::UdpSocket", "std::thread"]
        );
        assert_eq!(spread("pub use crate::cache::*; extern crate burn;"), ["crate::cache::*", "burn"]);
    }

    #[test]
    fn a_path_in_the_middle_of_an_expression_is_seen() {
        assert_eq!(spread("let t = std::time::Instant::now() + Vec::<u8>::new().len();"), ["std::time::Instant::now", "Vec"]);
        assert_eq!(spread("fn f() -> impl Fn() + use<'_> { x }"), Vec::<String>::new());
    }
}
