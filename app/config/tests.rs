//! What a person with an editor may rely on.

use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::limits::{MAX_CONFIG_FILE_BYTES, MAX_CONFIG_PROBLEMS, MAX_STATIC_PEERS};

use super::value::Id;
use super::*;

fn read(text: impl AsRef<[u8]>) -> (Config, Vec<String>) {
    let (config, problems) = Config::read(text.as_ref(), Path::new("/boot"));
    (config, problems.iter().map(Problem::to_string).collect())
}

/// Checks that the file's problems are reported in exactly these words, and that `slab`, which is
/// right, still counts.
fn tells(text: &str, expected: &[&str]) {
    let (config, problems) = read(text);
    assert_eq!(problems, expected, "for\n{text}");
    assert_eq!(config.memory.slab.bytes(), 64_000_000, "the good key of\n{text}");
}

const GOOD: &str = "[memory]\nslab = \"64 MB\"\n";

#[test]
fn an_empty_file_gives_the_defaults() {
    assert_eq!(read(""), (Config::default(), Vec::new()));
    assert_eq!(read("\n# nothing\r\n[node]\n"), (Config::default(), Vec::new()));
}

#[test]
fn the_default_file_sets_nothing_and_shows_every_key_with_its_default() {
    let file = default_file();
    assert_eq!(read(&file), (Config::default(), Vec::new()));
    // Removing the # before a key must give what its comment promises. (The key's file is the other
    // way to give a key.)
    let either = |key: &Key| key.name() != "swarm.key_file";
    let is_key = |line: &str| {
        TABLE.iter().any(|key| either(key) && line.starts_with(&format!("#{} = ", key.key)))
    };
    let uncommented: Vec<&str> =
        file.lines().map(|line| if is_key(line) { &line[1..] } else { line }).collect();
    let (config, problems) = read(uncommented.join("\n"));
    assert_eq!(problems, Vec::<String>::new());
    let defaults = Config::default();
    for key in TABLE.iter().filter(|key| either(key)) {
        assert!(matches!(config.origin(key), Origin::Line(_)), "{} is missing", key.name());
        if !(key.show)(&defaults).is_empty() {
            assert_eq!((key.show)(&config), (key.show)(&defaults), "{}", key.name());
        }
    }
    assert!(
        file.lines().all(|line| line.chars().count() <= 80),
        "a line is too long for a narrow window"
    );
}

#[test]
fn every_example_is_taken_differs_from_the_default_and_comes_back_as_shown() {
    for key in &TABLE {
        let (config, problems) =
            read(format!("[{}]\n{} = {}\n", key.section, key.key, key.example));
        assert_eq!(problems, Vec::<String>::new(), "{}", key.name());
        assert_eq!(config.origin(key), Origin::Line(2));
        assert_ne!((key.show)(&config), (key.show)(&Config::default()), "{}", key.name());
        if !key.secret {
            let toml = key.toml(&config).unwrap();
            let (again, _) = read(format!("{}.{} = {toml}", key.section, key.key));
            assert_eq!((key.show)(&again), (key.show)(&config), "{}", key.name());
        }
        let namesakes =
            TABLE.iter().filter(|other| key.option.is_some() && other.option == key.option);
        assert!(namesakes.count() <= 1, "two keys have the option of {}", key.name());
    }
}

#[test]
fn any_text_comes_back_as_shown() {
    let key = TABLE.iter().find(|key| key.name() == "model.file").unwrap();
    for file in ["/Cafe\u{301}.gguf", "/say \"no\".gguf", "/models\\a'b.gguf", "/模型.gguf"] {
        let mut config = Config::default();
        config.model.file = Some(file.into());
        let toml = key.toml(&config).unwrap();
        let (again, problems) = read(format!("model.file = {toml}\n"));
        assert_eq!((problems, again.model.file), (Vec::new(), Some(file.into())), "{toml}");
    }
}

#[test]
fn values_become_what_they_mean() {
    let (config, problems) = read(
        "node.id = \"c0ffee\"\n[model]\nfile = \"gemma.gguf\"\ntokenizer = \"/t.json\"\n[memory]\nslab = 64\n\
         [network]\nannounce = 30\ntcp_port = \"0\"\npeers = [\n  \"10.0.0.2:7654\", # the attic\n]\n[answers]\ntemperature = 1\n",
    );
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(config.node.id, Some(Id(crate::id::NodeId(0xc0ffee))));
    assert_eq!(
        config.model.file.as_deref(),
        Some(Path::new("/boot/gemma.gguf")),
        "relative to the file"
    );
    assert_eq!(config.model.tokenizer.as_deref(), Some(Path::new("/t.json")));
    assert_eq!(config.memory.slab.bytes(), 64_000_000);
    assert_eq!(config.network.announce.get(), 30);
    assert_eq!(config.network.peers[0].addr().to_string(), "10.0.0.2:7654");
    assert_eq!(config.answers.temperature.get(), 1.0);
}

#[test]
fn a_bad_value_is_told_with_its_place_and_what_would_do() {
    tells(
        &format!(
            "[network]\nport =  0\ninterface = \"224.0.0.1\"\npeers = [\"10.0.0.2:7654\", \"attic\"]\n{GOOD}context = true"
        ),
        &[
            "2:9: port = 0: a port from 1 to 65535 is needed",
            "3:13: interface = \"224.0.0.1\": an address of this machine such as \"192.168.1.20\", or an interface's name such as \
             \"wlan0\" is needed",
            "4:27: peers = \"attic\": a list of at most 16 addresses such as [\"192.168.1.20:7654\", \"[fe80::1%wlan0]:7654\"] is needed",
            "7:11: context = true: a whole number from 2 to 8192 is needed",
        ],
    );
    let (_, problems) = read("[memory]\nslab = \"lots\"");
    assert_eq!(
        problems,
        ["2:8: slab = \"lots\": a size such as \"96 MB\", at most \"16 GB\" is needed"]
    );
    for slab in [
        "0",
        "-1",
        "17000",
        "\"96 kB\"",
        "\"96 MB MB\"",
        "\"18446744073709551615 GB\"",
        "9e9",
        "[96]",
        "\"\"",
    ] {
        assert_eq!(read(format!("[memory]\nslab = {slab}")).1.len(), 1, "{slab}");
    }
    for temperature in ["nan", "inf", "-0.1", "100.1", "\"hot\""] {
        assert_eq!(
            read(format!("[answers]\ntemperature = {temperature}")).1.len(),
            1,
            "{temperature}"
        );
    }
    let peers = vec!["\"10.0.0.2:7654\""; MAX_STATIC_PEERS + 1].join(",");
    assert_eq!(read(format!("[network]\npeers = [{peers}]")).1.len(), 1);
}

#[test]
fn unknown_names_are_told_with_the_nearest_known_one() {
    tells(
        &format!(
            "slab = 3\n[memroy]\nslab = 1\n[network]\nprot = 1\nslab = 4\n{GOOD}contxt = 1\nssid = \"x\"\n"
        ),
        &[
            "1:1: slab belongs in [memory]: put it below that line",
            "2:2: there is no section [memroy]: did you mean [memory]?",
            "5:1: prot is not known: did you mean port in [network]?",
            "6:1: slab belongs in [memory]: put it below that line",
            "9:1: contxt is not known: did you mean context in [memory]?",
            "10:1: ssid belongs in [wifi]: put it below that line",
        ],
    );
}

#[test]
fn what_is_no_toml_costs_its_own_line_only() {
    for (broken, told) in [
        (
            "port = lots",
            "2:8: this is neither a number nor text in quotation marks: write port = 7655",
        ),
        (
            "interface = 10.0.0.1",
            "2:13: this is neither a number nor text in quotation marks: write interface = \"wlan0\"",
        ),
        (
            "port = 07",
            "2:8: this is neither a number nor text in quotation marks: write port = 7655",
        ),
        ("port", "2:5: a setting is written key = value, a section [name]: this line is neither"),
        (
            "some words",
            "2:6: a setting is written key = value, a section [name]: this line is neither",
        ),
        (
            "port: 7",
            "2:5: a setting is written key = value, a section [name]: this line is neither",
        ),
        ("port =", "2:7: this is neither a number nor text in quotation marks: write port = 7655"),
        ("interface = \"10.0.0.1", "2:13: interface: a quotation mark or bracket is not closed"),
        ("interface = '10.0.0.1", "2:13: interface: a quotation mark or bracket is not closed"),
        ("peers = [\"10.0.0.2:7654\",", "2:9: peers: a quotation mark or bracket is not closed"),
        (
            "peers = [\n\"10.0.0.2:7654\",\n\n",
            "2:9: peers: a quotation mark or bracket is not closed",
        ),
        (
            "peers = [\n  10.0.0.2:7654,\n]",
            "3:7: this is neither a number nor text in quotation marks: write peers = [\"192.168.1.21:7654\", \"192.168.1.22:7654\"]",
        ),
        (
            "interface = \"\"\"10.0.0.1",
            "2:13: interface: a quotation mark or bracket is not closed",
        ),
    ] {
        tells(&format!("[network]\n{broken}\ntcp_port = 9\n{GOOD}"), &[told]);
        assert_eq!(
            read(format!("[network]\n{broken}\ntcp_port = 9\n{GOOD}")).0.network.tcp_port,
            9,
            "{broken}"
        );
        // At the end of a file, too.
        assert_eq!(read(format!("{GOOD}[network]\n{broken}")).1.len(), 1, "{broken}");
    }
    tells(
        "[memory]\nslab = 64\nslab = 65\n",
        &["3:1: slab is set already: the first counts; remove one"],
    );
    tells("[memory\nslab = 64\n", &["1:8: a section is written [name], such as [memory]"]);
    tells("[[memory]]\nslab = 64\n", &["1:1: a section is written [name], such as [memory]"]);
}

#[test]
fn a_section_in_two_parts_counts_and_is_told() {
    tells(
        "[memory]\ncontext = 99\n[node]\n[memory]\nslab = 64\n[memory]\nslab = 3\n",
        &[
            "4:2: [memory] has begun already: its settings count, but put them together",
            "6:2: [memory] has begun already: its settings count, but put them together",
            "7:1: slab is set already: the first counts; remove one",
        ],
    );
}

#[test]
fn settings_of_an_unreadable_section_are_not_taken_for_another_ones() {
    let (config, problems) = read("[network]\n[wfi\nport = 1\n[memory]\nslab = 64\n");
    assert_eq!(problems, ["2:5: a section is written [name], such as [wifi]"]);
    assert_eq!(config.network, Network::default());
    assert_eq!(config.memory.slab.bytes(), 64_000_000);
}

#[test]
fn files_of_every_editor_are_read() {
    tells("\u{feff}[memory]\r\nslab = \"64 MB\"\r\n", &[]);
    let (config, problems) = read(b"# K\xfcche\n[wifi]\nssid = \"K\xfcche\"\n[memory]\nslab = 64");
    let told = "this line is not UTF-8: save the file as UTF-8, and type the line again";
    assert_eq!(problems, [format!("1:4: {told}"), format!("3:10: {told}")]);
    assert_eq!((config.memory.slab.bytes(), config.wifi.ssid), (64_000_000, None));
    let utf16: Vec<u8> =
        [0xfeff_u16].into_iter().chain(GOOD.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    assert_eq!(
        Config::read(&utf16, Path::new("")).1,
        [Problem { line: 0, column: 0, fault: Fault::Utf16, hits: Hits::ALL }]
    );
}

#[test]
fn what_is_no_file_of_settings_is_told_in_bounded_words() {
    let (config, problems) = read(vec![b'#'; MAX_CONFIG_FILE_BYTES + 1]);
    assert_eq!((config, problems.len()), (Config::default(), 1));
    let (config, problems) = read("word\n".repeat(1_000));
    assert_eq!((config, problems.len()), (Config::default(), MAX_CONFIG_PROBLEMS + 1));
}

#[test]
fn secrets_are_never_shown() {
    let text = "[swarm]\nkey = \"sesame open\"\n[wifi]\nssid = \"x\"\npassword = \"sesame open\"\n";
    let (config, problems) = read(text);
    assert_eq!(problems, Vec::<String>::new());
    let shown: Vec<_> = TABLE.iter().map(|key| key.toml(&config)).collect();
    assert!(!format!("{config:?} {shown:?}").contains("sesame"));
    for broken in [
        "[wifi]\npassword = \"sesame\"",
        "[wifi]\npassword = sesame-open",
        "[wifi]\npassword = \"sesame",
        "[wifi]\npassword = [\"sesame\"]",
        "[wifi]\npasswrod = \"sesame open\"",
        "[wifi]\npassword: sesame",
        "password = \"sesame open\"",
    ] {
        let (_, problems) = read(broken);
        assert_eq!(problems.len(), 1, "{broken}");
        assert!(!problems[0].contains("sesame"), "{problems:?}");
    }
    let key = TABLE.iter().find(|key| key.option == Some("swarm-key")).unwrap();
    let fault = Config::default().set_option(key, &["sesame".repeat(99)]).unwrap_err();
    assert!(!fault.to_string().contains("sesame"));
}

#[test]
fn options_override_the_file() {
    let (mut config, _) = read("[memory]\nslab = 64\ncontext = 99\n");
    let slab = TABLE.iter().find(|key| key.option == Some("slab")).unwrap();
    config.set_option(slab, &["32".to_string()]).unwrap();
    assert_eq!((config.memory.slab.bytes(), config.origin(slab)), (32_000_000, Origin::Option));
    assert_eq!(config.memory.context.get(), 99);
    let fault = config.set_option(slab, &["lots".to_string()]).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "--slab lots: a size such as \"96 MB\", at most \"16 GB\" is needed"
    );
    assert_eq!(config.memory.slab.bytes(), 32_000_000);
    let stop = TABLE.iter().find(|key| key.option == Some("stop")).unwrap();
    let fault =
        config.set_option(stop, &["User:".to_string(), String::new()]).unwrap_err().to_string();
    assert!(
        fault.starts_with(
            "--stop \"\": the text is empty. Leave the option out, or give it a value: a text"
        ),
        "{fault}"
    );
    assert!(!fault.ends_with(','), "{fault}");
}

#[test]
fn wpa_supplicant_gets_what_was_meant_whatever_it_holds() {
    let (config, _) =
        read("[wifi]\nssid = \"Küche \\\"#1\\\"\"\npassword = 'pass\"#word'\ncountry = \"de\"");
    let text = config.wpa_supplicant(&[]).unwrap();
    let expected = "ctrl_interface=/var/run/wpa_supplicant\ncountry=DE\nnetwork={\n\tssid=4bc3bc63686520222331 22\n\tscan_ssid=1\n\
                    \tkey_mgmt=WPA-PSK\n\tpsk=e2e11d47f97e7c5ffae54b9bc19c7ffeffb4e1fc9de48eabcc6526481d75b6f3\n}\n";
    assert_eq!(text, expected.replace("31 22", "3122"));
    let (config, _) = read("[wifi]\nssid = \"IEEE\"\npassword = \"password\"");
    let published = "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e";
    assert!(
        config.wpa_supplicant(&[]).unwrap().contains(&format!("\tpsk={published}\n")),
        "IEEE 802.11, J.4.2"
    );
    let key = "0123456789abcdef".repeat(4);
    let (config, _) = read(format!("[wifi]\nssid = \"x\"\npassword = \"{key}\""));
    assert!(config.wpa_supplicant(&[]).unwrap().contains(&format!("\tpsk={key}\n")));
    let (config, _) = read("[wifi]\nssid = \"x\"\npassword = \"\"");
    assert!(config.wpa_supplicant(&[]).unwrap().contains("key_mgmt=NONE"));
    assert_eq!(read("[wifi]\npassword = \"12345678\"").0.wpa_supplicant(&[]), Err(RadioOff::Unset));
}

/// Pieces that are joined at random into files.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "[",
        "]",
        "[[",
        "\"",
        "'",
        "\"\"\"",
        "=",
        " = ",
        "\n",
        "\r\n",
        "\r",
        "#",
        ",",
        ".",
        "{",
        "}",
        "memory",
        "slab",
        "wifi",
        "peers",
        "64",
        "\"64 MB\"",
        "[memory]\n",
        "slab = 64\n",
        "peers = [",
        "\\",
        "\0",
        "ü",
        "\u{feff}",
        "port",
        "1e9",
        "true",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, rng_seed: RngSeed::Fixed(7), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (_, problems) = read(&bytes);
        prop_assert!(problems.len() <= 2 * MAX_CONFIG_PROBLEMS + 300);
    }

    #[test]
    fn no_text_panics_and_every_problem_names_a_line_of_it(text in pieces()) {
        let (_, problems) = Config::read(text.as_bytes(), Path::new(""));
        let lines: Vec<&str> = text.strip_prefix('\u{feff}').unwrap_or(&text).split('\n').collect();
        for problem in problems {
            prop_assert!(problem.line <= lines.len(), "{problem:?}");
            let chars = lines.get(problem.line.wrapping_sub(1)).map_or(0, |line| line.chars().count());
            prop_assert!(problem.column <= chars + 1, "{problem:?} in {text:?}");
        }
    }

    #[test]
    fn whatever_stands_above_a_section_it_counts(text in pieces()) {
        // A text with an unclosed bracket or quotation mark may lose what follows it; a line that
        // cannot belong to it must not be lost.
        let (config, _) = read(format!("{}\n[answers]\nmax_tokens = 77\n", text.replace(['"', '\'', '[', '{'], "")));
        prop_assert_eq!(config.answers.max_tokens.get(), 77);
    }
}
