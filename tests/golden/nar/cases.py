"""Writes NARs that are right, or wrong in one place each: DIR/NAME.nar."""

import sys


def string(data, zero=b"\0"):
    data = data.encode() if isinstance(data, str) else data
    return len(data).to_bytes(8, "little") + data + zero * (-len(data) % 8)


def strings(*parts):
    return b"".join(part if isinstance(part, Raw) else string(part) for part in parts)


class Raw(bytes):
    """Bytes that are framed already."""


def nar(node, magic="nix-archive-1"):
    return string(magic) + node


def regular(contents="x", *flags):
    return Raw(strings("(", "type", "regular", *flags, "contents", contents, ")"))


def symlink(target):
    return Raw(strings("(", "type", "symlink", "target", target, ")"))


def entry(name, node):
    return Raw(strings("entry", "(", "name", name, "node", node, ")"))


def directory(*entries):
    return Raw(strings("(", "type", "directory", *entries, ")"))


def nested(levels, innermost):
    node = innermost
    for _ in range(levels):
        node = directory(entry("d", node))
    return node


file = regular()
whole = nar(directory(entry("a", file), entry("b", symlink("a"))))
zeros = string("x")[:-7]
cases = {
    # Right.
    "ok": whole,
    "ok-executable": nar(regular("x", "executable", "")),
    "ok-empty-file": nar(regular("")),
    "ok-case-hack": nar(directory(entry("A~nix~case~hack~1", file), entry("a", file))),
    "ok-case-only": nar(directory(entry("A", file), entry("a", file))),
    "ok-not-utf8": nar(directory(entry(b"\xff", file))),
    "ok-name-255": nar(directory(entry("n" * 255, file))),
    "ok-target-4095": nar(symlink("t" * 4095)),
    "ok-depth-64": nar(nested(63, file)),
    "ok-depth-64-directory": nar(nested(63, directory())),
    "ok-prefix-order": nar(directory(entry("a", file), entry("a ", file), entry("aa", file))),
    "ok-same-name-elsewhere": nar(directory(entry("a", directory(entry("b", file))), entry("b", file))),
    # Limits.
    "name-256": nar(directory(entry("n" * 256, file))),
    "target-4096": nar(symlink("t" * 4096)),
    "depth-65": nar(nested(64, file)),
    "depth-65-directory": nar(nested(64, directory())),
    # Names and targets.
    "name-empty": nar(directory(entry("", file))),
    "name-dot": nar(directory(entry(".", file))),
    "name-dot-dot": nar(directory(entry("..", file))),
    "name-slash": nar(directory(entry("a/b", file))),
    "name-slash-first": nar(directory(entry("/etc", file))),
    "name-nul": nar(directory(entry("a\0b", file))),
    "target-empty": nar(symlink("")),
    "target-nul": nar(symlink("a\0b")),
    # Order.
    "order-reversed": nar(directory(entry("b", file), entry("a", file))),
    "order-twice": nar(directory(entry("a", file), entry("a", file))),
    "order-link-then-below": nar(directory(entry("a", symlink("/tmp")), entry("a", directory(entry("x", file))))),
    "order-after-directory": nar(directory(entry("b", directory(entry("c", file))), entry("a", file))),
    # Padding.
    "padding-keyword": nar(Raw(string("(", b"\1") + strings("type", "regular", "contents", "x", ")"))),
    "padding-name": nar(directory(Raw(strings("entry", "(", "name") + string("a", b"\1") + strings("node", file, ")")))),
    "padding-contents": nar(Raw(strings("(", "type", "regular", "contents") + string("x", b"\1") + string(")"))),
    "padding-last-byte": nar(Raw(strings("(", "type", "regular", "contents") + zeros + b"\0" * 6 + b"\1" + string(")"))),
    "padding-magic": string("nix-archive-1", b"\1") + file,
    # Tokens.
    "magic-other": nar(file, "nix-archive-2"),
    "magic-longer": nar(file, "nix-archive-11"),
    "magic-missing": bytes(file),
    "type-missing": nar(Raw(strings("(", ")"))),
    "type-twice": nar(Raw(strings("(", "type", "regular", "type", "regular", "contents", "x", ")"))),
    "type-unknown": nar(Raw(strings("(", "type", "fifo", ")"))),
    "contents-missing": nar(Raw(strings("(", "type", "regular", ")"))),
    "contents-twice": nar(Raw(strings("(", "type", "regular", "contents", "x", "contents", "y", ")"))),
    "executable-not-empty": nar(regular("x", "executable", "yes")),
    "executable-twice": nar(regular("x", "executable", "", "executable", "")),
    "executable-after": nar(Raw(strings("(", "type", "regular", "contents", "x", "executable", "", ")"))),
    "executable-directory": nar(Raw(strings("(", "type", "directory", "executable", "", ")"))),
    "target-missing": nar(Raw(strings("(", "type", "symlink", ")"))),
    "target-twice": nar(Raw(strings("(", "type", "symlink", "target", "a", "target", "b", ")"))),
    "entry-name-missing": nar(directory(Raw(strings("entry", "(", "node", file, ")")))),
    "entry-node-missing": nar(directory(Raw(strings("entry", "(", "name", "a", ")")))),
    "entry-node-first": nar(directory(Raw(strings("entry", "(", "node", file, "name", "a", ")")))),
    "entry-two-nodes": nar(directory(Raw(strings("entry", "(", "name", "a", "node", file, "node", file, ")")))),
    "entry-empty": nar(directory(Raw(strings("entry", "(", ")")))),
    "entry-in-file": nar(Raw(strings("(", "type", "regular", "contents", "x", entry("a", file), ")"))),
    "keyword-unknown": nar(directory(Raw(strings("extra", "x")))),
    "keyword-upper": nar(Raw(strings("(", "TYPE", "regular", "contents", "x", ")"))),
    "keyword-long": nar(Raw(strings("(", "type" + "e" * 40, "regular", "contents", "x", ")"))),
    "keyword-huge": nar(Raw(string("(") + (2**62).to_bytes(8, "little"))),
    # Lengths and ends.
    "contents-too-long": nar(Raw(strings("(", "type", "regular", "contents") + (1000).to_bytes(8, "little") + string(")"))),
    "contents-too-short": nar(Raw(strings("(", "type", "regular", "contents") + b"\1" + b"\0" * 7 + b"x" * 16 + string(")"))),
    "empty": b"",
    "cut-last-byte": whole[:-1],
    "cut-last-string": whole[:-16],
    "cut-in-contents": nar(regular("x" * 100))[:-40],
    "trailing-zero": whole + b"\0",
    "trailing-nar": whole + whole,
}
for name, data in cases.items():
    with open(f"{sys.argv[1]}/{name}.nar", "wb") as out:
        out.write(data)
