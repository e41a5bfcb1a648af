#!/bin/bash
# The crate `liblzma`, when it brings its own liblzma, compiles it without the checksums by carry-less multiplication that every distribution's
# has on x86-64. Nothing of Peernix runs here.
#
# With: liblzma 0.4.9 and what it brings (XZ Utils 5.8), from crates.io, with the feature `static`; Debian 12's liblzma5 beside it. Needs
# Rust, a C compiler, binutils and xz on x86-64. Valid input: a file of 64 MiB, compressed by `xz -1`, whose check is CRC64 as by default.
#
# Seen on 2026-12-01:
#   - the program has no `pclmulqdq` in it: CRC64 goes by tables, as the crate's config.h does not say HAVE_USABLE_CLMUL;
#   - with CFLAGS=-DHAVE_USABLE_CLMUL=1 and the others below it has, and decodes the same bytes by a tenth faster (104 and 116 MB/s of
#     decoded programs and libraries on the machine where it was seen; printed here, and not judged);
#   - Debian's liblzma has it.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() {
  echo "CHANGED: $*" >&2
  exit 1
}
[ "$(uname -m)" = x86_64 ] || { echo 'this is about x86-64' >&2; exit 77; }

mkdir -p "$work/src"
cat >"$work/Cargo.toml" <<'END'
[package]
name = "decode"
version = "0.0.0"
edition = "2021"

[dependencies]
liblzma = { version = "=0.4.9", default-features = false, features = ["static"] }
END
cat >"$work/src/main.rs" <<'END'
use std::io::Read;

fn main() {
    let file = std::fs::read(std::env::args().nth(1).unwrap()).unwrap();
    let begun = std::time::Instant::now();
    let (mut decoder, mut block, mut sum, mut bytes) = (liblzma::read::XzDecoder::new(&file[..]), vec![0; 1 << 17], 0u64, 0);
    loop {
        let read = decoder.read(&mut block).unwrap();
        if read == 0 {
            break;
        }
        bytes += read;
        sum = block[..read].iter().fold(sum, |sum, byte| sum.rotate_left(5) ^ u64::from(*byte));
    }
    eprintln!("{:.0} MB/s", bytes as f64 / 1e6 / begun.elapsed().as_secs_f64());
    println!("{bytes} {sum:x}");
}
END
head -c 67108864 < <(cat /usr/lib/x86_64-linux-gnu/*.so* 2>/dev/null) >"$work/input"
xz -1 --keep "$work/input"

# build FLAGS FOLDER
build() { (cd "$work" && CFLAGS=$1 cargo build --quiet --release --target-dir "$work/$2"); }
by_multiplication() { objdump -d "$1" | grep -c pclmul || true; }
build '' as-it-is
build '-DHAVE_USABLE_CLMUL=1 -DHAVE_IMMINTRIN_H=1 -DTUKLIB_FAST_UNALIGNED_ACCESS=1 -DHAVE_FUNC_ATTRIBUTE_CONSTRUCTOR=1' told
echo 'as it is:'
one=$("$work/as-it-is/release/decode" "$work/input.xz")
echo 'told what the processor can do:'
other=$("$work/told/release/decode" "$work/input.xz")
[ "$one" = "$other" ] || fail "they decode different bytes: $one and $other"
[ "$(by_multiplication "$work/as-it-is/release/decode")" = 0 ] || fail 'the crate multiplies by itself'
[ "$(by_multiplication "$work/told/release/decode")" != 0 ] || fail 'the crate cannot be told'
[ "$(by_multiplication "$(ldconfig -p | sed -n 's/.*liblzma.so.5.*=> //p' | head -n1)")" != 0 ] || fail "Debian's has none either"
echo "as seen"
