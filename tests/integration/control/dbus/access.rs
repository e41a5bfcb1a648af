//! Who may do what: as somebody without rights, without polkit and with one that stands in for it.

use super::super::bus::{Answer, Polkit};
use super::{SHOWN, World};
use crate::support::{is_root, until};
use peernix::control::Control as _;
use peernix::control::Method;
use peernix::control::dbus::METHODS;
use std::time::{Duration, Instant};

/// The arguments of `busctl` for a method, made from the file that describes it: a call that would work, were it allowed.
fn call(method: &Method) -> Vec<String> {
    let (path, name) = SHOWN.iter().find(|(_, name)| name.ends_with(&format!(".{}", method.interface))).unwrap();
    let file = std::fs::read_to_string(format!("{}/dbus/{name}.xml", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let begin = file.find(&format!("<method name=\"{}\">", method.name)).unwrap();
    let body = &file[begin..begin + file[begin..].find("</method>").unwrap()];
    let part = |line: &str, key: &str| {
        let begin = line.find(&format!("{key}=\""))? + key.len() + 2;
        line[begin..].split('"').next().map(str::to_owned)
    };
    let types: Vec<String> =
        body.lines().filter(|line| line.contains("direction=\"in\"")).map(|line| part(line, "type").unwrap()).collect();
    let mut arguments: Vec<String> =
        ["call", "org.peernix.Peernix1", path, name, method.name].map(str::to_owned).into();
    if !types.is_empty() {
        arguments.push(types.concat());
        for kind in types {
            let value = match kind.as_str() {
                "s" if method.name == "SetLogLevel" => "debug",
                "s" => "x",
                "b" => "true",
                "as" | "a{sv}" | "t" | "u" => "0",
                other => panic!("{other} of {method:?}"),
            };
            arguments.push(value.to_owned());
        }
    }
    arguments
}

fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

#[tokio::test]
async fn without_polkit_everybody_may_ask_and_only_root_may_change() {
    if !is_root() {
        return;
    }
    let Some(world) = World::start().await else { return };
    let client = world.client().await;
    client.prefetch(vec![]).await.unwrap();
    world.stub.done();
    for (path, _) in SHOWN {
        let said = world.bus.ask(&["introspect", "org.peernix.Peernix1", path]).await;
        assert!(said.ok, "{said:?}");
    }
    let objects =
        ["call", "org.peernix.Peernix1", SHOWN[0].0, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects"];
    assert!(world.bus.ask(&objects).await.ok);
    let own =
        ["call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "RequestName", "su", "org.peernix.Peernix1", "0"];
    let said = world.bus.ask(&own).await;
    assert!(!said.ok && said.err.contains("Access denied"), "{said:?}");
    for method in METHODS {
        let said = world.bus.ask(&words(&call(method))).await;
        if method.changes() {
            assert!(!said.ok && said.err.contains("Access denied"), "{method:?}: {said:?}");
        } else {
            assert!(said.ok || !said.err.contains("denied"), "{method:?}: {said:?}");
        }
    }
    let level = ["set-property", "org.peernix.Peernix1", SHOWN[4].0, SHOWN[4].1, "LogLevel", "s", "debug"];
    let said = world.bus.ask(&level).await;
    assert!(!said.ok && said.err.contains("Access denied"), "{said:?}");
    assert!(world.stub.done().is_empty(), "nothing was done");
    let root = tokio::process::Command::new("busctl")
        .arg(format!("--address={}", world.bus.address()))
        .args(level)
        .output()
        .await
        .unwrap();
    assert!(root.status.success(), "{root:?}");
    assert_eq!(world.stub.done(), ["log debug"]);
}

#[tokio::test]
async fn polkit_decides_about_every_method_by_its_action() {
    if !is_root() {
        return;
    }
    let Some(world) = World::start().await else { return };
    world.client().await.prefetch(vec![]).await.unwrap();
    world.stub.done();
    let (polkit, _connection) = Polkit::on(&world.bus, Answer::No).await;
    for method in METHODS.iter().filter(|method| method.changes()) {
        let said = world.bus.ask(&words(&call(method))).await;
        assert!(!said.ok && said.err.contains("Access denied"), "{method:?}: {said:?}");
        let questions = polkit.questions();
        let [(kind, name, action, interactive)] = &questions[..] else { panic!("{method:?}: {questions:?}") };
        assert_eq!((kind.as_str(), name.starts_with(':')), ("system-bus-name", true));
        assert!(interactive, "busctl allows it");
        assert!(method.actions().any(|allowed| allowed.id() == action), "{method:?}: {action}");
    }
    assert!(world.stub.done().is_empty(), "nothing was done");

    polkit.set(Answer::Challenge);
    let undrain = METHODS.iter().find(|method| method.name == "Undrain").unwrap();
    let mut alone = vec!["--allow-interactive-authorization=no".to_owned()];
    alone.extend(call(undrain));
    let said = world.bus.ask(&words(&alone)).await;
    assert!(!said.ok && said.err.contains("Authentication is required"), "{said:?}");
    assert!(matches!(&polkit.questions()[..], [(.., false)]));

    polkit.set(Answer::Yes);
    assert!(world.bus.ask(&words(&call(undrain))).await.ok);
    assert_eq!(world.stub.done(), ["undrain"]);
    polkit.questions();
    world.client().await.undrain().await.unwrap();
    assert!(polkit.questions().is_empty(), "root needs no polkit");
}

#[tokio::test]
async fn a_human_who_thinks_holds_up_nobody_and_a_caller_who_leaves_is_forgotten() {
    if !is_root() {
        return;
    }
    let Some(world) = World::start().await else { return };
    let (polkit, _connection) = Polkit::on(&world.bus, Answer::Never).await;
    let undrain = METHODS.iter().find(|method| method.name == "Undrain").unwrap();
    let mut waiting = world.bus.nobody(&words(&call(undrain))).spawn().unwrap();
    polkit.asked().await;
    // A setter is another way to polkit, and one that the object server waits for.
    let level = ["set-property", "org.peernix.Peernix1", SHOWN[4].0, SHOWN[4].1, "LogLevel", "s", "debug"];
    let mut setting = world.bus.nobody(&level).spawn().unwrap();
    polkit.asked().await;
    let client = world.client().await;
    let begin = Instant::now();
    client.status().await.unwrap();
    client.prefetch(vec!["p".into()]).await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    setting.kill().unwrap();
    setting.wait().unwrap();
    waiting.kill().unwrap();
    waiting.wait().unwrap();
    until("both questions are taken back", async || polkit.taken_back.lock().len() == 2).await;
    assert_eq!(world.stub.done(), ["prefetch [\"p\"]"]);
}
