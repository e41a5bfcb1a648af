//! Files that change under our hands, and readers that go away.

use super::trees::{Tree, noise};
use super::*;
use std::os::unix::fs::symlink;

type Damage = fn(&Path);

/// Each makes something else of the file `file` (300,000 bytes) or `small` (100 bytes) in a path.
const DAMAGES: [(&str, Damage); 9] = [
    ("shorter", |root| std::fs::write(root.join("file"), noise(299_999)).unwrap()),
    ("longer", |root| std::fs::write(root.join("file"), noise(300_001)).unwrap()),
    ("small shorter", |root| std::fs::write(root.join("small"), noise(99)).unwrap()),
    ("small longer", |root| std::fs::write(root.join("small"), noise(101)).unwrap()),
    ("gone", |root| std::fs::remove_file(root.join("small")).unwrap()),
    ("a link to the same bytes", |root| {
        std::fs::rename(root.join("small"), root.join("elsewhere")).unwrap();
        symlink("elsewhere", root.join("small")).unwrap();
    }),
    ("a directory", |root| {
        std::fs::remove_file(root.join("small")).unwrap();
        std::fs::create_dir(root.join("small")).unwrap();
    }),
    ("a pipe", |root| {
        std::fs::remove_file(root.join("small")).unwrap();
        ::nix::unistd::mkfifo(&root.join("small"), ::nix::sys::stat::Mode::S_IRWXU).unwrap();
    }),
    ("a directory that is a link", |root| {
        std::fs::rename(root.join("sub"), root.join("elsewhere")).unwrap();
        symlink("elsewhere", root.join("sub")).unwrap();
    }),
];

fn make(root: &Path) {
    std::fs::create_dir_all(root.join("sub")).unwrap();
    std::fs::write(root.join("file"), noise(300_000)).unwrap();
    std::fs::write(root.join("small"), noise(100)).unwrap();
    std::fs::write(root.join("sub/inside"), noise(100)).unwrap();
}

#[test]
fn changed_files_are_errors() {
    for (name, damage) in DAMAGES {
        for block in [65_536, 1_000_000, 50] {
            let tree = Tree::new();
            make(&tree.root());
            let layout = tree.layout().unwrap();
            assert!(tree.read(&layout, &(0..layout.nar_size()), block).is_ok());
            damage(&tree.root());
            let error = tree.read(&layout, &(0..layout.nar_size()), block).unwrap_err();
            let expected = matches!(error, StoreError::Changed { .. }) || name == "a pipe";
            assert!(expected, "{name}: {error}");
            assert!(layout.is_stale() || name == "a pipe", "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_while_it_is_read_ends_the_stream() {
    let host = Host::with_store();
    std::fs::write(host.path("big"), noise(10_000_000)).unwrap();
    let path = host.add(&host.path("big"));
    let store = host.open().await;
    let info = valid(&store, &path).await;
    let layout = store.layout(&info).await.unwrap();
    let mut stream = store.nar(&layout, 0..layout.nar_size()).await.unwrap();
    assert!(stream.frame().await.unwrap().is_ok());
    let file = std::fs::OpenOptions::new().write(true).open(host.real(&path)).unwrap();
    file.set_len(5_000_000).unwrap();
    let mut read = 0;
    let error = loop {
        match stream.frame().await.expect("an error before the end") {
            Ok(frame) => read += frame.into_data().unwrap().len(),
            Err(error) => break error,
        }
    };
    assert!(read < 5_100_000, "{read}");
    assert!(matches!(error, StoreError::Changed { .. }), "{error}");
    assert!(stream.frame().await.is_none(), "nothing follows an error");

    // The layout is not believed any more, and the damage is found by the next who asks.
    let error = store.layout(&info).await.unwrap_err();
    assert!(matches!(error.inner(), StoreError::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains("the database says 10000"), "{error}");
    // The others are served all the same.
    let other = host.add_text("other", "x");
    assert!(nar(&store, &other).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_stream_stops_reading_and_gives_back_its_memory() {
    let host = Host::with_store();
    std::fs::write(host.path("big"), noise(50_000_000)).unwrap();
    let path = host.add(&host.path("big"));
    let store = host.open().await;
    let layout = store.layout(&*valid(&store, &path).await).await.unwrap();
    let open_files = || {
        let files = std::fs::read_dir("/proc/self/fd").unwrap();
        files
            .filter(|file| {
                std::fs::read_link(file.as_ref().unwrap().path()).is_ok_and(|target| target == host.real(&path))
            })
            .count()
    };
    let mut streams = Vec::new();
    for _ in 0..200 {
        let mut stream = store.nar(&layout, 0..layout.nar_size()).await.unwrap();
        // Slow readers: each takes a little and then nothing more.
        for _ in 0..3 {
            assert!(stream.frame().await.unwrap().is_ok());
        }
        streams.push(stream);
    }
    let full = store.0.blocks.in_use();
    assert!(full <= 128, "{full}");
    assert_eq!(full, 128, "200 readers want more than there is");
    drop(streams);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while open_files() > 0 || store.0.blocks.in_use() > 0 {
        assert!(std::time::Instant::now() < deadline, "{} files, {} blocks", open_files(), store.0.blocks.in_use());
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_readers_without_a_budget_get_everything() {
    let host = Host::with_store();
    std::fs::write(host.path("big"), noise(3_000_000)).unwrap();
    let path = host.add(&host.path("big"));
    let expected = Arc::new(host.dump(&host.real(&path)));
    let store = host.open().await;
    let layout = store.layout(&*valid(&store, &path).await).await.unwrap();
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..300 {
        let (store, layout, expected) = (store.clone(), Arc::clone(&layout), Arc::clone(&expected));
        readers.spawn(async move {
            let stream = store.nar(&layout, 0..layout.nar_size()).await.unwrap();
            assert!(collect(stream).await.unwrap() == *expected);
        });
    }
    assert_eq!(readers.join_all().await.len(), 300);
}
