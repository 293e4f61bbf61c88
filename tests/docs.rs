//! The figures and options in the documents match the code. Readers size slabs and
//! networks by them.

#[cfg(feature = "net")]
use potluck::config::{Config, TABLE};
use potluck::kv::{KvFormat, KvShape, Plane};
use potluck::limits::BLOCK_TOKENS;

const KV: &str = include_str!("../docs/inside/kv.md");
const CONSOLE: &str = include_str!("../docs/use/console.md");
const PRECISION: &str = include_str!("../docs/inside/precision.md");
#[cfg(feature = "net")]
const CONFIG: &str = include_str!("../docs/use/config.md");
/// Pages that show how to call commands.
#[cfg(feature = "net")]
const CALLS: [(&str, &str); 5] = [
    ("README.md", include_str!("../README.md")),
    ("docs/use/commands.md", include_str!("../docs/use/commands.md")),
    ("docs/use/demo.md", include_str!("../docs/use/demo.md")),
    ("docs/use/models.md", include_str!("../docs/use/models.md")),
    ("docs/use/http.md", include_str!("../docs/use/http.md")),
];

/// The published models: name and number of layers. They have one KV head of 256 values, a window
/// of 512, and every sixth layer is global.
const MODELS: [(&str, usize); 2] = [("Gemma-3 270M", 18), ("Gemma-3 1B", 26)];

fn shape(layers: usize, format: KvFormat) -> KvShape {
    let planes: Vec<Plane> =
        (0..layers).map(|i| if i % 6 == 5 { Plane::Global } else { Plane::Sliding }).collect();
    KvShape::new(&planes, 1, 256, 512, format).expect("a valid shape")
}

/// `1234567` as `1,234,567`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn row(cells: &[String]) -> String {
    format!("| {} |", cells.join(" | "))
}

#[test]
fn the_block_sizes_in_kv_md_are_those_of_the_code() {
    for format in [KvFormat::Int8, KvFormat::F32] {
        for (name, layers) in MODELS {
            let shape = shape(layers, format);
            let global = shape.layers().iter().filter(|&&plane| plane == Plane::Global).count();
            let bytes = |tokens| Plane::ALL.map(|plane| shape.plane_bytes(plane, tokens));
            let [of_global, of_sliding] = bytes(BLOCK_TOKENS);
            let figures = [bytes(1).iter().sum(), of_global, of_sliding, of_global + of_sliding];
            let head = [name.to_owned(), format!("{global} + {}", layers - global)];
            let expected = row(&[&head[..], &figures.map(grouped)[..]].concat());
            assert!(
                KV.contains(&expected),
                "docs/inside/kv.md lacks the row computed by the code:\n{expected}"
            );
        }
    }
}

#[test]
fn the_prefix_sizes_in_kv_md_are_those_of_the_code() {
    for prefix in [64, 400, 512, 1_024, 2_048] {
        let mut cells = vec![grouped(prefix)];
        for (_, layers) in MODELS {
            let shape = shape(layers, KvFormat::Int8);
            let block = |plane| shape.plane_bytes(plane, BLOCK_TOKENS);
            let blocks = prefix / BLOCK_TOKENS;
            let out_of_window = shape.first_sliding(prefix) / BLOCK_TOKENS;
            let needed =
                blocks * block(Plane::Global) + (blocks - out_of_window) * block(Plane::Sliding);
            cells.push(grouped(needed));
            cells.push(grouped(blocks * (block(Plane::Global) + block(Plane::Sliding))));
        }
        let expected = row(&cells);
        assert!(
            KV.contains(&expected),
            "docs/inside/kv.md lacks the row computed by the code:\n{expected}"
        );
    }
}

#[test]
fn the_memory_a_token_in_precision_md_is_that_of_the_code() {
    for (name, layers) in MODELS {
        let of = |format| {
            Plane::ALL
                .iter()
                .map(|&plane| shape(layers, format).plane_bytes(plane, 1))
                .sum::<usize>()
        };
        let (int8, float) = (of(KvFormat::Int8), of(KvFormat::F32));
        let times = format!("{:.2}", float as f64 / int8 as f64);
        let expected = row(&[name.to_owned(), grouped(int8), grouped(float), times]);
        assert!(
            PRECISION.contains(&expected),
            "docs/inside/precision.md lacks the row computed by the code:\n{expected}"
        );
    }
}

/// The sources of the commands.
#[cfg(feature = "net")]
fn command_line() -> Vec<String> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("app/commands");
    let mut folders = vec![folder];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder)
            .expect("the room of the commands")
            .flatten()
            .map(|entry| entry.path())
        {
            if path.is_dir() {
                folders.push(path);
            } else {
                sources.push(std::fs::read_to_string(path).expect("a source file"));
            }
        }
    }
    sources
}

/// The command line options as a user types them, each with its default if that is a number.
#[cfg(feature = "net")]
fn options() -> Vec<(String, Option<f64>)> {
    let sources = command_line();
    let attributes = sources.iter().flat_map(|source| source.split("#[arg(").skip(1));
    let declared = attributes.filter_map(|rest| {
        let (attribute, field) = rest.split_once(")]")?;
        let given = attribute.split_once("long = \"").and_then(|(_, name)| name.split('"').next());
        let name =
            given.unwrap_or_else(|| field.trim_start().split(':').next().unwrap_or_default());
        let default = attribute
            .split_once("default_value_t = ")
            .and_then(|(_, after)| after.split([',', ')']).next());
        Some((
            format!("--{}", name.replace('_', "-")),
            default.and_then(|default| default.parse().ok()),
        ))
    });
    let defaults = Config::default();
    let of_table = TABLE.iter().filter_map(|key| {
        let default =
            (key.show)(&defaults).first().and_then(|text| text.split(' ').next()?.parse().ok());
        Some((format!("--{}", key.option?), default))
    });
    declared
        .chain(of_table)
        .chain(["--config", "--defaults", "--version"].map(|name| (name.to_string(), None)))
        .collect()
}

#[cfg(feature = "net")]
#[test]
fn every_option_in_the_pages_of_commands_exists_and_has_the_default_shown() {
    let options = options();
    CALLS.iter().for_each(|(page, text)| options_of_a_page(&options, page, text));
}

#[cfg(feature = "net")]
fn options_of_a_page(options: &[(String, Option<f64>)], page: &str, text: &str) {
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c == '`' || c == '(').collect();
    for (at, option) in
        words.iter().enumerate().filter(|(_, word)| word.starts_with("--") && **word != "--help")
    {
        let declared: Vec<Option<f64>> = options
            .iter()
            .filter(|(name, _)| name == option)
            .map(|(_, default)| *default)
            .collect();
        assert!(!declared.is_empty(), "{page} names {option}, but no command has it");
        let shown = words.get(at + 1).and_then(|word| word.parse::<f64>().ok());
        assert!(
            shown.is_none() || declared.contains(&shown),
            "{page} shows {option} {shown:?}, not {declared:?}"
        );
    }
}

/// Options that need no setting on a board: options of single commands, and the files that a board
/// is started with.
#[cfg(feature = "net")]
const NO_SETTINGS: [&str; 5] = ["--json", "--store", "--config", "--defaults", "--pace"];

/// A board has no command line: a message that names an option would send its owner
/// looking for one.
#[cfg(feature = "net")]
#[test]
fn every_option_that_a_message_of_a_node_names_is_a_setting_on_a_board() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("app");
    let mut folders: Vec<_> =
        ["answers", "cache", "catalog", "console", "drive", "fronts", "node", "start"]
            .iter()
            .map(|room| root.join(room))
            .collect();
    let mut named = 0;
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).expect("a room").flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let source = std::fs::read_to_string(&path).expect("a source file");
            let code = source.split("#[cfg(test)]").next().unwrap_or_default();
            for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
                for (at, _) in line.match_indices("--") {
                    let name = line[at + 2..]
                        .split(|c: char| !c.is_ascii_lowercase() && c != '-')
                        .next()
                        .unwrap_or_default();
                    let option = format!("--{name}");
                    if !name.starts_with(|c: char| c.is_ascii_lowercase())
                        || NO_SETTINGS.contains(&option.as_str())
                    {
                        continue;
                    }
                    named += 1;
                    let on_a_board = potluck::config::Place::Board.words(&option);
                    assert!(
                        !on_a_board.contains("--"),
                        "{}: {option} is not a setting: {line}",
                        path.display()
                    );
                }
            }
        }
    }
    assert!(named > 10, "only {named} options found: the check looks in the wrong place");
}

#[cfg(feature = "net")]
#[test]
fn config_md_is_what_the_table_of_keys_gives() {
    let given = potluck::config::reference();
    assert!(
        CONFIG == given,
        "docs/use/config.md is outdated: run `potluck config reference > docs/use/config.md`"
    );
}

#[test]
fn console_md_is_what_the_table_of_commands_gives() {
    let given = potluck::console::reference();
    assert!(
        CONSOLE == given,
        "docs/use/console.md is outdated: run `potluck console reference > docs/use/console.md`"
    );
}

/// Readers find every page in the list, and can read the whole README in ten minutes.
#[test]
fn every_page_of_the_documents_is_in_the_list_and_the_readme_is_short() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let index = std::fs::read_to_string(root.join("docs/README.md")).unwrap();
    let mut pages = 0;
    for folder in ["use", "inside"] {
        for entry in std::fs::read_dir(root.join("docs").join(folder)).unwrap().flatten() {
            let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if name.ends_with(".md") {
                pages += 1;
                assert!(
                    index.contains(&format!("]({name})")),
                    "docs/README.md has no row for {name}"
                );
            }
        }
    }
    assert!(pages > 20, "only {pages} pages: the check looks in the wrong place");
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let lines = readme.lines().count();
    assert!(lines <= 80, "README.md has {lines} lines: move something to a page of docs/use");
    assert!(
        ["make demo", "make test"]
            .iter()
            .all(|command| readme.lines().any(|line| line.starts_with(command)))
    );
}
