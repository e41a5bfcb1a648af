//! What the real Nix writes and takes. `tests/golden/nar/make.sh` made the files.

use super::tree::Tree;
use crate::nix::nar::check;
use std::path::PathBuf;

fn golden(name: &str) -> Vec<u8> {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/golden/nar", name].iter().collect();
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn executable(contents: &[u8]) -> Tree {
    Tree::Regular { executable: true, contents: contents.to_vec() }
}

fn symlink(target: &str) -> Tree {
    Tree::Symlink(target.into())
}

#[test]
fn written_as_nix_writes() {
    let sizes = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "4096"];
    let sizes = sizes.map(|size| (size.as_bytes(), Tree::file(&vec![b'x'; size.parse().unwrap()])));
    let long = "n".repeat(255);
    let names = [
        " ",
        "a b",
        "A",
        "a",
        "a~nix~case~hack~1",
        "...",
        ".hidden",
        "--",
        "\"",
        "\\",
        "\n",
        "\x01",
        "\x7f",
        "é",
        "日本",
        &long,
    ];
    let names = names.map(|name| (name.as_bytes(), Tree::file(name.as_bytes())));
    let nested = Tree::directory([
        (
            b"a",
            Tree::directory([
                (b"b", Tree::directory([(b"c", Tree::directory([(b"file", Tree::file(b"a"))]))])),
                (b"empty", Tree::directory([])),
            ]),
        ),
        (b"a.b", Tree::directory([(b"executable", executable(b"ab"))])),
        (b"a-b", Tree::directory([(b"empty", Tree::file(b""))])),
    ]);
    let links =
        Tree::directory([(b"up", symlink("..")), (b"blank", symlink(" ")), (b"long", symlink(&"t".repeat(4095)))]);
    let trees = [
        ("empty", Tree::directory([])),
        ("regular", Tree::file(b"regular\n")),
        ("executable", executable(b"#!/bin/sh\n")),
        ("symlink", symlink("/nix/store/target")),
        ("sizes", Tree::directory(sizes)),
        ("names", Tree::directory(names)),
        ("nested", nested),
        ("links", links),
        ("bytes", Tree::directory([(b"\xff\xfe", Tree::file(b"x"))])),
        ("deep", Tree::directory([]).below(63)),
    ];
    for (name, tree) in trees {
        let nar = golden(&format!("{name}.nar"));
        assert_eq!(tree.to_nar(), nar, "{name}");
        assert_eq!(Tree::from_nar(&nar, nar.len()).unwrap(), tree, "{name}");
    }
}

/// What each Nix says of each case: `same`, `other` or `refused`.
fn verdicts() -> Vec<(String, Vec<String>)> {
    let text = String::from_utf8(golden("verdicts.txt")).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("# case 2.8.0 2.26.3 2.34.8"));
    lines
        .map(|line| {
            let mut fields = line.split(' ').map(str::to_owned);
            (fields.next().unwrap(), fields.collect())
        })
        .collect()
}

#[test]
fn accepted_where_every_nix_gives_back_the_same_bytes() {
    let verdicts = verdicts();
    assert!(verdicts.len() > 60);
    for (case, verdicts) in verdicts {
        let accepted = check(&golden(&format!("cases/{case}.nar")));
        let by_all = verdicts.iter().all(|verdict| verdict == "same");
        assert_eq!(accepted.is_ok(), by_all, "{case}: {verdicts:?} by Nix, {accepted:?} by us");
    }
}

#[test]
fn refused_for_the_right_reason() {
    use crate::nix::nar::NarReason::*;
    let cases = [
        ("magic-other", 0, Expected("'nix-archive-1'")),
        ("magic-longer", 0, Expected("'nix-archive-1'")),
        ("type-missing", 40, Expected("'type'")),
        ("type-unknown", 56, Expected("'regular', 'directory' or 'symlink'")),
        ("contents-missing", 72, Expected("'executable' or 'contents'")),
        ("contents-twice", 104, Expected("')'")),
        ("executable-not-empty", 96, Expected("an empty string")),
        ("executable-twice", 104, Expected("'contents'")),
        ("target-missing", 72, Expected("'target'")),
        ("entry-name-missing", 112, Expected("'name'")),
        ("entry-node-missing", 144, Expected("'node'")),
        ("keyword-unknown", 80, Expected("'entry' or ')'")),
        ("keyword-huge", 40, Expected("'type'")),
        ("name-dot-dot", 128, Name),
        ("name-256", 128, Name),
        ("target-empty", 88, Target),
        ("target-4096", 88, Target),
        ("order-twice", 320, Order),
        ("order-reversed", 320, Order),
        ("depth-65", 24 + 64 * 136, Depth),
        ("padding-magic", 21, Padding),
        ("padding-contents", 97, Padding),
        ("contents-too-long", 88, TooLarge(112)),
        ("contents-too-short", 97, Padding),
        ("empty", 0, Truncated),
        ("cut-last-byte", 479, Truncated),
        ("trailing-zero", 480, Trailing),
    ];
    for (case, offset, reason) in cases {
        let error = check(&golden(&format!("cases/{case}.nar"))).unwrap_err();
        assert_eq!((error.offset, error.reason), (offset, reason), "{case}");
    }
}
