//! What goes out: NARs, parts of them, and listings, from a store that Nix made.

use super::trees::{noise, odd_tree};
use super::*;
use crate::nix::listing;
use crate::nix::nar::Reader;
use hyper::body::Body;

#[tokio::test(flavor = "multi_thread")]
async fn nars_are_as_nix_dumps_them() {
    let host = Host::with_store();
    odd_tree(&host.path("odd"));
    let path = host.add(&host.path("odd"));
    let store = host.open().await;
    let expected = host.dump(&host.real(&path));
    assert!(nar(&store, &path).await.unwrap() == expected);

    let info = valid(&store, &path).await;
    let layout = store.layout(&info).await.unwrap();
    let size = layout.nar_size();
    assert_eq!(size, expected.len() as u64);
    let stream = store.nar(&layout, 100_000..100_010).await.unwrap();
    assert_eq!((stream.remaining(), stream.size_hint().exact()), (Some(10), Some(10)));
    assert!(collect(stream).await.unwrap() == expected[100_000..100_010]);
    let empty = store.nar(&layout, 7..7).await.unwrap();
    assert!(empty.is_end_stream());
    assert!(collect(empty).await.unwrap().is_empty());
    assert!(collect(store.nar(&layout, size..size).await.unwrap()).await.unwrap().is_empty());
    for (start, end) in [(0, size + 1), (size + 1, size + 1), (2, 1), (0, u64::MAX)] {
        let error = store.nar(&layout, start..end).await.unwrap_err();
        assert!(matches!(error, StoreError::Range { .. }), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn path_infos_are_those_of_nix() {
    let host = Host::with_store();
    let dependency = host.add_text("dependency", "x");
    let expression = format!(
        "builtins.toFile \"text\" (\"refers to ${{builtins.storePath {}}}\")",
        StoreDir::default().join(&dependency)
    );
    let text = host.nix("nix-instantiate", &["--eval", "--read-write-mode", "--expr", &expression]);
    let text = StoreDir::default().parse(text.trim_matches('"')).unwrap();
    let full = StoreDir::default().join(&text);
    host.sign(&text);

    let store = host.open().await;
    let info = valid(&store, &text).await;
    let json: serde_json::Value = serde_json::from_str(&host.nix("nix", &["path-info", "--json", &full])).unwrap();
    let expected = &json[0];
    assert_eq!(info.info.path, text);
    assert_eq!(info.info.nar_hash, expected["narHash"].as_str().unwrap().parse().unwrap());
    assert_eq!(info.info.nar_size, expected["narSize"].as_u64().unwrap());
    assert_eq!(info.info.references, [dependency]);
    assert_eq!(expected["references"][0].as_str().unwrap(), StoreDir::default().join(&info.info.references[0]));
    assert_eq!(info.registration_time, expected["registrationTime"].as_u64().unwrap());
    assert_eq!(info.info.ca.as_ref().unwrap().to_string(), expected["ca"].as_str().unwrap());
    assert_eq!(info.info.signatures[0].to_string(), expected["signatures"][0].as_str().unwrap());
    assert!(!info.ultimate && info.info.deriver.is_none());

    let mut other = *text.hash().as_bytes();
    other[0] ^= 1;
    // The first byte is the end of the text: this hash sorts right beside the one that is there.
    assert_eq!(store.path_info(crate::nix::StoreHash::new(other)).await.unwrap(), None);
    assert_eq!(store.path_info(crate::nix::StoreHash::new([0; 20])).await.unwrap(), None);
    assert_eq!(store.path_info(crate::nix::StoreHash::new([255; 20])).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_are_those_of_the_nar() {
    let host = Host::with_store();
    odd_tree(&host.path("odd"));
    std::fs::remove_dir_all(host.path("odd/names")).unwrap();
    std::fs::remove_file(host.path("odd/links/bytes")).unwrap();
    std::fs::create_dir(host.path("odd/names")).unwrap();
    std::fs::write(host.path("odd/names/\u{e4}\n\"\\"), "x").unwrap();
    std::fs::write(host.path("flat"), noise(100)).unwrap();
    std::os::unix::fs::symlink("a \"target\"", host.path("link")).unwrap();
    std::fs::create_dir(host.path("void")).unwrap();
    let store = host.open().await;
    for name in ["odd", "flat", "link", "void"] {
        let path = host.add(&host.path(name));
        let layout = store.layout(&*valid(&store, &path).await).await.unwrap();
        let nar = host.dump(&host.real(&path));
        let (mut reader, mut builder) = (Reader::new(nar.len() as u64), listing::Builder::default());
        reader.feed(&nar, &mut |event| builder.event(event)).unwrap();
        let expected = builder.finish().unwrap().render();
        // Twice: the second time the length is remembered.
        for _ in 0..2 {
            let stream = store.listing(&layout).await.unwrap();
            assert_eq!(stream.remaining(), Some(expected.len() as u64));
            assert_eq!(String::from_utf8(collect(stream).await.unwrap()).unwrap(), expected);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_json_cannot_carry_has_no_listing() {
    let host = Host::with_store();
    odd_tree(&host.path("odd"));
    let path = host.add(&host.path("odd"));
    let store = host.open().await;
    let layout = store.layout(&*valid(&store, &path).await).await.unwrap();
    let error = store.listing(&layout).await.unwrap_err();
    assert!(matches!(error, StoreError::NoListing(_)), "{error}");
}
