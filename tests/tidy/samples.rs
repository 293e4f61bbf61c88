//! Every rule can fail: each gets a small text that breaks it and one that keeps it.

use super::rules::{self, Complaints};

/// Asserts that there is one complaint and that it contains `words`.
fn only(complaints: Complaints, words: &str) {
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert!(complaints[0].contains(words), "{complaints:?} does not mention {words:?}");
}

fn none(complaints: Complaints) {
    assert!(complaints.is_empty(), "{complaints:?}");
}

#[test]
fn a_forbidden_edge_is_found_however_it_is_written() {
    let edges = |source| rules::edges("app/cache/slab.rs", source, &["index".to_owned()]);
    only(edges("use crate::catalog::Filter;"), "app/cache/slab.rs:1: `cache` names `catalog`");
    only(edges("use crate::{id::BlockKey,\n transfer::Want};"), "slab.rs:2");
    only(edges("fn f() { crate::planner::plan() }"), "`planner`");
    only(edges("use super::super::node::Node;"), "`node`");
    none(edges("use crate::kv::Plane; use super::index; // crate::node is told of it"));
    only(
        rules::edges("app/kv/page.rs", "use crate::cache::Slab;", &[]),
        "may depend only on [\"id\", \"limits\"]",
    );
    only(rules::edges("app/planner.rs", "use super::catalog::Peer;", &[]), "`catalog`");
    none(rules::edges("app/node/plan.rs", "use super::transfer::Part;", &["transfer".to_owned()]));
}

#[test]
fn a_room_that_nobody_described_is_found() {
    only(rules::edges("app/shed.rs", "", &[]), "the room `shed` is new");
    none(rules::edges("app/lib.rs", "pub mod cache;", &[]));
    none(rules::edges("app/main.rs", "use potluck::commands;", &[]));
}

#[test]
fn a_crate_or_a_clock_in_the_wrong_room_is_found() {
    only(
        rules::edges("app/node/mod.rs", "use std::{time::{Duration, Instant}};", &[]),
        "std::time::Instant",
    );
    only(
        rules::edges("app/node/mod.rs", "use core::net::SocketAddr; use std::net::UdpSocket;", &[]),
        "std::net",
    );
    only(rules::edges("app/catalog/mod.rs", "let t = std::thread::spawn(f);", &[]), "std::thread");
    only(
        rules::edges("app/drive/mod.rs", "burn::tensor::Tensor::zeros()", &[]),
        "`burn`, which belongs to [\"model\"]",
    );
    only(rules::edges("app/model/mod.rs", "extern crate smol;", &[]), "`smol`");
    only(
        rules::edges("app/commands/ask.rs", "use smol::Timer;", &[]),
        "`smol`, which belongs to [\"drive\", \"fronts\"]",
    );
    only(
        rules::edges("app/start/setup.rs", "use crate::drive::Driver;", &[]),
        "`start` names `drive`",
    );
    only(rules::edges("app/id.rs", "#[cfg(test)]\nmod tests;\nuse std::thread;\n", &[]), "id.rs:3");
    only(
        rules::edges("app/id.rs", "#[cfg(test)]\nmod tests {\n use smol::block_on;\n}", &[]),
        "`smol`",
    );
    none(rules::edges("app/id.rs", "#[cfg(test)]\nmod tests {\n use std::thread;\n}", &[]));
    none(rules::edges(
        "app/model/mod.rs",
        "use burn::tensor::Tensor; use core::time::Duration;",
        &[],
    ));
}

#[test]
fn an_unsafe_file_in_the_wrong_place_is_found() {
    only(
        rules::allowed_unsafe("app/cache/mod.rs", "fn f() {}\n#[allow(unsafe_code)]"),
        "app/cache/mod.rs:2",
    );
    only(
        rules::allowed_unsafe("app/cache/mod.rs", "#![expect(unsafe_code, reason = \"fast\")]"),
        "app/cache/mod.rs:1",
    );
    none(rules::allowed_unsafe("app/kernels/mod.rs", "#![allow(unsafe_code)]"));
    none(rules::allowed_unsafe("app/lib.rs", "#![deny(unsafe_code)]"));
}

#[test]
fn unfinished_work_is_found_in_comments_too() {
    let bad = format!("fine\n// good enough {}", concat!("for", " now"));
    only(rules::unfinished("Makefile", &bad), "Makefile:2");
    none(rules::unfinished("Makefile", "# forever"));
}

#[test]
fn a_file_without_a_header_or_too_long_or_with_a_sleeping_test_is_found() {
    only(rules::shape("app/x.rs", "use a;"), "opens without");
    only(rules::shape("app/x.rs", &format!("//! X.\n{}", "x\n".repeat(500))), "501 lines");
    only(rules::shape("app/x.rs", &format!("//! X.\n{}]", concat!("#[", "ignore"))), "never runs");
    none(rules::shape("app/x.rs", &format!("//! X.\n{}", "x\n".repeat(499))));
}

#[test]
fn a_limit_without_a_reason_is_found() {
    only(
        rules::limits("limits.rs", "/// Why.\npub const A: usize = 1;\n\npub const B: usize = 2;"),
        "limits.rs:4: B",
    );
    only(rules::limits("limits.rs", "pub(crate) const HOUSE: u8 = 1;"), "HOUSE");
    only(rules::limits("limits.rs", "const HIDDEN: u8 = 1;"), "HIDDEN");
    none(rules::limits(
        "limits.rs",
        "/// Why.\n#[allow(x)]\npub const A: usize = 1;\nconst _: () = assert!(A > 0);",
    ));
}

#[test]
fn links_are_read_without_their_anchors_and_without_the_web() {
    let text = "[a](docs/inside/kv.md#planes) ![b](../b.png \"B\") [c](https://docs.rs/x) [d](#here) [e](mailto:x@y)";
    assert_eq!(rules::relative_links(text), ["docs/inside/kv.md", "../b.png"]);
}

#[test]
fn machine_paths_and_unknown_hosts_are_found() {
    only(rules::places("a.md", &format!("see {}ann/potluck", concat!("/ho", "me/"))), "a.md:1");
    only(
        rules::places("a.md", concat!("get it from https:", "//mirror.example/x")),
        "mirror.example",
    );
    none(rules::places("a.md", "https://docs.rs/heapless. tcp://127.0.0.1:7654"));
}

#[test]
fn an_impure_dependency_is_found() {
    let manifest = |dependencies: &str| {
        rules::manifest(&format!(
            "[features]\nmodel = [\"dep:burn\"]\n[dependencies]\n{dependencies}\n[dev-dependencies]\nx = \"1\""
        ))
    };
    let burn = "burn = { version = \"1\", optional = true }\n";
    only(manifest(&format!("{burn}smol = \"2\"")), "smol would enter the pure core");
    only(
        manifest(&format!("{burn}clap = {{ version = \"4\", optional = true }}")),
        "no feature asks for clap",
    );
    only(manifest("serde = \"1\""), "no optional dependency found");
    none(manifest(&format!("{burn}serde = \"1\"")));
}
