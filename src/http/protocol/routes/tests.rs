//! Which texts are routes, and that everything else is none.

use super::*;
use crate::nix::hash::Hash;
use proptest::prelude::*;

const HASH: &str = "7cs5xzrnw5p6mdmr7ym2qhg320xn66fi";
const NAR: &str = "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";
const SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn hash() -> StoreHash {
    HASH.parse().unwrap()
}

fn nar(nar_hash: Option<&str>, compression: Compression) -> Option<Route> {
    let nar_hash = nar_hash.map(|text| NarHash::from_nix32(text).unwrap());
    Some(Route::Nar(NarName { hash: hash(), nar_hash, compression }))
}

#[test]
fn fixed_routes() {
    let routes = [
        ("/", Route::Index),
        ("/nix-cache-info", Route::CacheInfo),
        ("/health", Route::Health),
        ("/version", Route::Version),
        ("/metrics", Route::Metrics),
        ("/peers", Route::Peers),
        ("/peernix/v1/hello", Route::Hello),
        ("/peernix/v1/narinfo", Route::NarInfos),
        (
            "/peernix/v1/upstream/0mdqa9w1p6cmli6976v4wi0sw9r4p5pr/7h7qgvs4kgzsn8a6rb273saxyqh4jxlz.narinfo",
            Route::UpstreamNarInfo(
                "0mdqa9w1p6cmli6976v4wi0sw9r4p5pr".parse().unwrap(),
                "7h7qgvs4kgzsn8a6rb273saxyqh4jxlz".parse().unwrap(),
            ),
        ),
        ("/peernix/v1/holders", Route::Holders),
        ("/peernix/v1/claim", Route::Claim),
    ];
    for (path, route) in routes {
        assert_eq!(Route::parse(path), Some(route.clone()), "{path}");
        assert_eq!(Route::parse(&format!("/nix-cache{path}")), Some(route.clone()), "{path}");
        assert_eq!(Route::parse(&format!("{path}?x=y")), Some(route), "{path}");
    }
    assert_eq!(Route::parse("/nix-cache"), Some(Route::Index));
}

#[test]
fn the_index_of_one_and_of_all() {
    let known = Some(IndexState { epoch: 255, seq: 7 });
    for (path, whose, known) in [
        ("/peernix/v1/index", Whose::ItsOwn, None),
        ("/peernix/v1/index?since=00000000000000ff.7", Whose::ItsOwn, known),
        ("/peernix/v1/index?of=union", Whose::Everybodys, None),
        ("/peernix/v1/index?of=union&since=00000000000000ff.7", Whose::Everybodys, known),
    ] {
        let route = Route::PeerIndex(whose, known);
        assert_eq!(route.to_string(), path);
        assert_eq!(Route::parse(path), Some(route));
    }
    for path in ["?since=7", "?of=me", "?of=union&", "?since=00000000000000ff.7&of=union", "?x=y"] {
        assert_eq!(Route::parse(&format!("/peernix/v1/index{path}")), None, "{path}");
    }
}

#[test]
fn paths_by_hash() {
    assert_eq!(Route::parse(&format!("/{HASH}.narinfo")), Some(Route::NarInfo(hash())));
    assert_eq!(Route::parse(&format!("/{HASH}.ls")), Some(Route::Listing(hash())));
    assert_eq!(Route::parse(&format!("/nix-cache/{HASH}.narinfo")), Some(Route::NarInfo(hash())));
}

#[test]
fn every_form_of_a_nar_url() {
    assert_eq!(Route::parse(&format!("/nar/{HASH}-{NAR}.nar")), nar(Some(NAR), Compression::None));
    assert_eq!(Route::parse(&format!("/nar/{HASH}.nar")), nar(None, Compression::None));
    assert_eq!(Route::parse(&format!("/nar/{NAR}.nar?hash={HASH}")), nar(Some(NAR), Compression::None));
    assert_eq!(Route::parse(&format!("/nar/{NAR}.nar?x&hash={HASH}&y=z")), nar(Some(NAR), Compression::None));
    assert_eq!(Route::parse(&format!("/nar/{HASH}-{NAR}.nar?hash={HASH}")), nar(Some(NAR), Compression::None));
    for (suffix, compression) in
        [("xz", Compression::Xz), ("zst", Compression::Zstd), ("bz2", Compression::Bzip2), ("gz", Compression::Gzip)]
    {
        let path = format!("/nar/{HASH}-{NAR}.nar.{suffix}");
        assert_eq!(Route::parse(&path), nar(Some(NAR), compression));
        assert_eq!(Route::parse(&path).unwrap().to_string(), path);
    }
}

#[test]
fn what_predecessors_left_in_caches() {
    let path = "L25peC9zdG9yZS83Y3M1eHpybnc1cDZtZG1yN3ltMnFoZzMyMHhuNjZmaS1oZWxsby0yLjEyLjE=";
    for url in [
        format!("/v2/remote/192.0.2.7/12304/{HASH}/local/nar/{path}.nar"),
        format!("/v2/remote/192.0.2.7/12304/{HASH}/local/nar/{}.nar", path.replace('=', "%3D")),
        format!("/local/nar/{path}.nar"),
        format!("/nix-cache/{HASH}.nar"),
    ] {
        assert_eq!(Route::parse(&url), nar(None, Compression::None), "{url}");
    }
    assert_eq!(NarName::for_peerix(&format!("/nix/store/{HASH}-hello-2.12.1")), format!("local/nar/{path}.nar"));
    let narinfo = format!("/local/{HASH}.narinfo");
    assert_eq!(Route::parse(&narinfo), Some(Route::PeerixNarInfo(hash())));
    assert_eq!(Route::PeerixNarInfo(hash()).to_string(), narinfo);
    assert_eq!(Route::parse(&format!("/nix-cache/{HASH}-{NAR}.nar")), nar(Some(NAR), Compression::None));
    for url in [
        format!("/v2/remote/192.0.2.7/{HASH}/local/nar/{path}.nar"),
        format!("/v2/remote/a/b/c/{path}.nar"),
        "/local/nar/L2V0Yy9wYXNzd2Q=.nar".to_owned(),
        "/local/nar/....nar".to_owned(),
        format!("/local/{path}.nar"),
        format!("/{HASH}-{HASH}.nar"),
    ] {
        assert_eq!(Route::parse(&url), None, "{url}");
    }
}

#[test]
fn what_names_no_nar() {
    let other = HASH.replace('7', "8");
    for path in [
        "/nar/".to_owned(),
        "/nar/.nar".to_owned(),
        format!("/nar/{NAR}.nar"),
        format!("/nar/{NAR}.nar?hash="),
        format!("/nar/{NAR}.nar?hash={HASH}&hash={HASH}"),
        format!("/nar/{NAR}.nar?hash={HASH}x"),
        format!("/nar/{NAR}.nar.xz"),
        format!("/nar/{HASH}-{NAR}.nar?hash={other}"),
        format!("/nar/{HASH}-{HASH}.nar"),
        format!("/nar/{HASH}_{NAR}.nar"),
        format!("/nar/{HASH}-{NAR}.nar.br"),
        format!("/nar/{HASH}-{NAR}.nar."),
        format!("/nar/{HASH}-{NAR}.nar.xz.xz"),
        format!("/nar/{HASH}-{NAR}.narx"),
        format!("/nar/{HASH}-{NAR}"),
        format!("/nar/../{HASH}-{NAR}.nar"),
        format!("/nar/{HASH}-{NAR}.nar/"),
        format!("/nar//{HASH}-{NAR}.nar"),
        format!("/nar/{}-{NAR}.nar", HASH.to_uppercase()),
    ] {
        assert_eq!(Route::parse(&path), None, "{path}");
    }
}

#[test]
fn logs() {
    let drv = format!("{HASH}-hello-2.12.1.drv");
    assert_eq!(Route::parse(&format!("/log/{drv}")), Some(Route::Log(drv.parse().unwrap())));
    let odd = Route::Log(format!("{HASH}-a?b+c=d").parse().unwrap());
    for escaped in ["a%3Fb+c=d", "a%3fb%2Bc%3D%64", "a%3fb%2Bc%3Dd"] {
        let parsed = Route::parse(&format!("/log/{HASH}-{escaped}"));
        // %64 is a letter, which no client escapes.
        assert_eq!(parsed, (!escaped.ends_with("64")).then(|| odd.clone()), "{escaped}");
    }
    for path in ["/log/", "/log/x", "/log/..", "/log/%2e%2e", "/log/%", "/log/%2", "/log/%zz", "/log/%+1"] {
        assert_eq!(Route::parse(path), None, "{path}");
    }
    assert_eq!(Route::parse(&format!("/log/{drv}/x")), None);
    assert_eq!(Route::parse(&format!("/log/{HASH}-a%2Fb")), None);
    assert_eq!(Route::parse(&format!("/log/{HASH}-a%00")), None);
}

#[test]
fn realisations_of_both_protocols() {
    let output: DrvOutput = format!("sha256:{SHA256}!out").parse().unwrap();
    for path in [
        format!("/realisations/sha256:{SHA256}!out.doi"),
        format!("/realisations/sha256:{SHA256}%21out.doi"),
        format!("/realisations/sha256%3A{SHA256}%21out.doi"),
    ] {
        assert_eq!(Route::parse(&path), Some(Route::Realisation(output.clone())), "{path}");
    }
    for path in [
        format!("/realisations/sha256:{SHA256}!out"),
        format!("/realisations/sha256:{SHA256}!.doi"),
        format!("/realisations/sha256:{SHA256}!..doi"),
        format!("/realisations/sha256:{SHA256}!...doi"),
        format!("/realisations/sha256:{SHA256}!a/b.doi"),
        format!("/realisations/sha256:{SHA256}.doi"),
        format!("/realisations/sha256:{}!out.doi", SHA256.to_uppercase()),
        format!("/realisations/sha256:{NAR}!out.doi"),
        format!("/realisations/{SHA256}!out.doi"),
        format!("/realisations/sha256:{SHA256}!{}.doi", "x".repeat(212)),
    ] {
        assert_eq!(Route::parse(&path), None, "{path}");
    }
    let drv = format!("{HASH}-hello.drv");
    assert_eq!(
        Route::parse(&format!("/build-trace-v2/{drv}/out.doi")),
        BuildTraceKey::new(drv.parse().unwrap(), "out").ok().map(Route::BuildTrace)
    );
    for path in
        [format!("/build-trace-v2/{drv}"), format!("/build-trace-v2/{drv}/out"), "/build-trace-v2/x/out.doi".into()]
    {
        assert_eq!(Route::parse(&path), None, "{path}");
    }
}

#[test]
fn build_ids() {
    let id = "f0".repeat(20);
    let route = Some(Route::DebugInfo(BuildId(id.as_str().into())));
    assert_eq!(Route::parse(&format!("/debuginfo/{id}")), route);
    assert_eq!(Route::parse(&format!("/debuginfo/{id}.debug")), route);
    for bad in ["", "f0", "../..", &id.to_uppercase(), &id[1..], &format!("{id}.debug.debug"), &"a".repeat(130)] {
        assert_eq!(Route::parse(&format!("/debuginfo/{bad}")), None, "{bad}");
    }
}

#[test]
fn everything_else_is_nobodys() {
    let long = format!("/{HASH}.narinfo?{}", "x".repeat(TARGET_MAX));
    for path in [
        "",
        "*",
        "health",
        "//",
        "/health/",
        "/Health",
        "/nix-cachehealth",
        "/nix-cache//health",
        "/nix-cache/nix-cache/health",
        "/.narinfo",
        "/../health",
        "/%2e%2e/health",
        "/peernix/v1/hello/",
        "/peernix/v2/hello",
        &format!("/{HASH}"),
        &format!("/{HASH}.narinfo.narinfo"),
        &format!("/{HASH}x.narinfo"),
        &format!("/{}.narinfo", &HASH[1..]),
        &format!("/{}.narinfo", HASH.replace('7', "e")),
        &format!("/{}.narinfo", HASH.to_uppercase()),
        &format!("/%37{}.narinfo", &HASH[1..]),
        &format!("/{HASH}.NARINFO"),
        &long,
    ] {
        assert_eq!(Route::parse(path), None, "{path}");
    }
}

fn some_route() -> impl Strategy<Value = Route> {
    let hash = || any::<[u8; 20]>().prop_map(StoreHash::new);
    let nar_hash = || any::<[u8; 32]>().prop_map(NarHash::new);
    let name = || "[0-9a-zA-Z+_?=-][0-9a-zA-Z+._?=-]{0,60}";
    let path = move || (hash(), name()).prop_map(|(hash, name)| StorePath::new(hash, &name).unwrap());
    let compression = proptest::sample::select(vec![Compression::None, Compression::Xz, Compression::Zstd]);
    prop_oneof![
        hash().prop_map(Route::NarInfo),
        hash().prop_map(Route::Listing),
        (hash(), proptest::option::of(nar_hash()), compression)
            .prop_map(|(hash, nar_hash, compression)| Route::Nar(NarName { hash, nar_hash, compression })),
        path().prop_map(Route::Log),
        (nar_hash(), name()).prop_map(|(hash, output)| {
            let digest = Hash::from(hash).to_base16();
            Route::Realisation(format!("sha256:{digest}!{output}").parse().unwrap())
        }),
        (path(), name()).prop_map(|(drv, output)| Route::BuildTrace(BuildTraceKey::new(drv, &output).unwrap())),
        "([0-9a-f]{2}){4,64}".prop_map(|id| Route::DebugInfo(BuildId(id.into()))),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(route in some_route()) {
        let text = route.to_string();
        prop_assert_eq!(Route::parse(&text), Some(route.clone()), "{}", text);
        prop_assert_eq!(Route::parse(&format!("/nix-cache{text}")), Some(route));
    }

    #[test]
    fn never_panics(text in "(/nix-cache)?/(nar|log|realisations|build-trace-v2|debuginfo)?/?[0-9a-z%!:.é-]{0,120}(\\?hash=.{0,40})?") {
        let _: Option<Route> = Route::parse(&text);
    }

    #[test]
    fn never_panics_on_anything(text in "\\PC{0,200}") {
        let _: Option<Route> = Route::parse(&text);
    }
}
