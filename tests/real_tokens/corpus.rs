//! Texts that are hard for tokenizers, the same in every run.

use std::fs;
use std::path::{Path, PathBuf};

use potluck::id::TokenId;
use potluck::mmlu;
use potluck::tokenizer::Tokenizer;
use xxhash_rust::xxh3::xxh3_64;

/// A pseudo-random number generator.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = xxh3_64(&self.0.to_le_bytes());
        (self.0 >> 16) as usize % below
    }

    fn of<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.roll(from.len())]
    }
}

/// Fragments, written by people and programs, that are hard to split: each on its own and
/// inside other text.
const PARTS: &[&str] = &[
    "",
    " ",
    "\t",
    "\n",
    "\r\n",
    "\r",
    "\u{a0}",
    "\u{3000}",
    "\u{200b}",
    "\u{feff}",
    "\u{0}",
    "\u{1b}[0m",
    "\u{7f}",
    "\u{85}",
    "\u{2028}",
    "👩‍👩‍👧‍👦",
    "🏳️‍🌈",
    "👍🏽",
    "🇩🇪🇫🇷",
    "1️⃣",
    "❤️",
    "e\u{301}\u{323}",
    "Z\u{351}\u{36b}\u{343}\u{36a}a\u{338}lgo",
    "ﷺ",
    "\u{fdfa}\u{fdfd}",
    "שלום עולם",
    "مرحبا بالعالم",
    "\u{202e}evil\u{202c}",
    "\u{2066}rtl\u{2069}",
    "हिन्दी",
    "தமிழ்",
    "ไทย",
    "ខ្មែរ",
    "한국어",
    "각",
    "\u{1112}\u{1161}\u{11ab}",
    "日本語の文",
    "漢字",
    "𠮷野家",
    "Ελληνικά",
    "Привет",
    "Größe",
    "naïve",
    "İstanbul",
    "ǅ",
    "ﬁ",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
    "½",
    "①",
    "²³",
    "٣٤",
    "𐍈",
    "\u{10ffff}",
    "\u{e000}",
    "\u{fffd}",
    "<0x0A>",
    "<0xFF>",
    "<0x",
    "<unused",
    "unused0>",
    "<h1>",
    "</h1>",
    "<table><tr><td>",
    "<b",
    "<<i>>",
    "[multi",
    "▁",
    "▁▁",
    " ▁ ",
    "Ġ",
    "Ċ",
    "##ing",
    "</s>",
    "<s>",
    "don't",
    "I'm",
    "3.14159",
    "1,000,000",
    "0x7fff",
    "10^-5",
    "a.b.c",
    "https://example.org/a?b=c&d=%20#e",
    "user@example.org",
    "C:\\Users\\x",
    "~/.config",
    "fn main() {\n    println!(\"{x:?}\");\n}",
    "def f(x):\n\treturn x\n",
    "{\"a\": [1, 2, null]}",
    "SELECT * FROM t;",
    "\\frac{a}{b}",
    "$x_i^2$",
    "/* c */",
    "<!-- -->",
    "#!/bin/sh",
    "aaaaaaaa",
    "========",
    "--------",
    "........",
    "________",
    "abababab",
    "!!!???",
    "—–…",
    "“quoted”",
    "‘single’",
    "«x»",
    "\u{ad}soft",
    "the",
    "The",
    " the",
    "of course",
    "Answer:",
];

/// Spaces, markers, scripts and all other parts: each once, in adjacent pairs and in
/// separated pairs.
pub fn odd() -> Vec<String> {
    let mut texts: Vec<String> = PARTS.iter().map(|part| (*part).to_owned()).collect();
    for blank in [" ", "\n", "\t", "\r\n", "▁", "\u{a0}", "\u{3000}"] {
        for length in 1..=33 {
            let run = blank.repeat(length);
            texts.extend([
                run.clone(),
                format!("a{run}b"),
                format!("{run}the"),
                format!("the{run}"),
                format!("x{run}{run}\n{run} y"),
            ]);
        }
    }
    for length in 2..=70 {
        texts.extend(
            ["a", "=", "-", "é", "漢", "🙂", "ab", "the", "0", "<", "ha"]
                .map(|unit| unit.repeat(length)),
        );
    }
    texts.extend((0..=u8::MAX).map(|byte| format!("a{}b {0}", char::from(byte))));
    texts.extend((0..=u8::MAX).map(|byte| format!("<0x{byte:02X}> <0x{byte:02x}>")));
    texts.extend([
        "<bos><start_of_turn>user\nWhat is it?<end_of_turn>\n<start_of_turn>model\n".to_owned(),
        "<eos><pad><unk><mask>[multimodal]<unused0><unused6241><start_of_image><end_of_image><image_soft_token>".to_owned(),
        "<start_function_call>call:f{x:<escape>1<escape>}<end_function_call>".to_owned(),
        "a".repeat(4_000),
        "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft".repeat(20),
        "pneumonoultramicroscopicsilicovolcanoconiosis".repeat(30),
    ]);
    let mut dice = Dice(1);
    for _ in 0..600 {
        let count = 2 + dice.roll(5);
        texts.push((0..count).map(|_| dice.of(PARTS)).collect());
    }
    texts
}

/// MMLU prompts with the questions in the repository.
pub fn questions() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mmlu");
    let mut texts = Vec::new();
    for path in files(&folder)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "csv"))
    {
        let questions = mmlu::parse_csv(&fs::read_to_string(path).unwrap()).unwrap();
        texts.extend(
            questions
                .chunks(4)
                .filter_map(|some| Some(mmlu::prompt("a subject", &some[1..], some.first()?))),
        );
    }
    assert!(texts.len() > 20, "tests/data/mmlu has questions");
    texts
}

/// `count` texts of pieces, letters, code points and bytes, in random order.
pub fn random(tokenizer: &Tokenizer, count: usize) -> Vec<String> {
    let mut dice = Dice(7);
    let piece = |dice: &mut Dice| {
        let id = TokenId(dice.roll(tokenizer.vocab_size()) as u32);
        String::from_utf8_lossy(&tokenizer.spell(&[id])).into_owned()
    };
    let character = |dice: &mut Dice| {
        let ends = [0x80, 0x800, 0x3000, 0xa000, 0x1_0000, 0x2_0000, 0x11_0000];
        let end = ends[dice.roll(ends.len())];
        char::from_u32(dice.roll(end) as u32).unwrap_or('\u{d7ff}')
    };
    let mut texts = Vec::new();
    for turn in 0..count {
        let length = 1 + dice.roll(40);
        let text: String =
            match turn % 6 {
                0 => (0..length).map(|_| piece(&mut dice)).collect(),
                1 => (0..length).map(|_| character(&mut dice)).collect(),
                2 => (0..length)
                    .map(|_| format!("{}{}", piece(&mut dice).trim(), " ".repeat(dice.roll(4))))
                    .collect(),
                3 => String::from_utf8_lossy(
                    &(0..length).map(|_| dice.roll(256) as u8).collect::<Vec<u8>>(),
                )
                .into_owned(),
                4 => (0..length)
                    .map(|_| char::from(b"abcdeABC 01<>_-=.\n\t "[dice.roll(20)]))
                    .collect(),
                _ => (0..length)
                    .map(|_| {
                        if dice.roll(2) == 0 { piece(&mut dice) } else { dice.of(PARTS).to_owned() }
                    })
                    .collect(),
            };
        texts.push(text);
    }
    texts
}

/// All of the above, every piece alone and between others, every Unicode character, many more
/// random texts, and the text files of the repository and of other folders, cut to lengths that a
/// prompt may have.
pub fn long(tokenizer: &Tokenizer, folders: impl Iterator<Item = PathBuf>) -> Vec<String> {
    let mut texts = odd();
    texts.extend(questions());
    texts.extend(random(tokenizer, 60_000));
    let piece =
        |id: usize| String::from_utf8_lossy(&tokenizer.spell(&[TokenId(id as u32)])).into_owned();
    let pieces: Vec<String> = (0..tokenizer.vocab_size()).map(piece).collect();
    texts.extend(pieces.chunks(40).map(|some| some.join("\n")));
    texts.extend(pieces.chunks(40).map(|some| some.concat()));
    texts.extend(pieces.chunks(40).map(|some| some.join(" x")));
    let characters: Vec<char> = (0..=u32::from(char::MAX)).filter_map(char::from_u32).collect();
    texts.extend(characters.chunks(64).map(|some| some.iter().collect()));
    texts.extend(
        characters[..0x3_0000]
            .chunks(16)
            .map(|some| some.iter().flat_map(|c| ['a', *c, ' ']).collect()),
    );
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own = [
        "app",
        "docs",
        "tests",
        "tools",
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "Makefile",
    ]
    .map(|name| root.join(name));
    for path in own.into_iter().chain(folders).flat_map(|path| files(&path)) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        texts.extend(
            lines.chunks(60).map(|some| some.concat()).filter(|part| part.len() <= 100_000),
        );
        texts.extend(
            lines
                .chunks(60)
                .map(|some| some.concat().replace('\n', "\r\n"))
                .filter(|part| part.len() <= 100_000),
        );
    }
    texts
}

/// All files below a folder, sorted; a file stands for itself. Skips leftovers of other builds.
fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_path_buf()];
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut inside: Vec<PathBuf> = entries.filter(|path| !path.ends_with("target")).collect();
    inside.sort();
    inside.iter().flat_map(|path| files(path)).collect()
}
