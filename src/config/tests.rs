//! Tests of reading the configuration, its documentation and nix.conf.

use super::*;
use crate::peers::NodeKey;
use log::LevelFilter;
use std::time::Duration;

const OTHER_KEY: &str = "test-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";

fn read(text: &str) -> Result<Config, Vec<Problem>> {
    match Config::from_text(text, Some(Path::new("c.toml"))) {
        Ok(config) => Ok(config),
        Err(ConfigError::Invalid(problems)) => Err(problems),
        Err(other) => panic!("{other}"),
    }
}

/// The example with its settings in force.
fn example_in_force() -> String {
    let setting = |line: &str| line.starts_with('#') && !line.starts_with("# ");
    EXAMPLE.lines().map(|line| if setting(line) { &line[1..] } else { line }).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_defaults_are_sound() {
    let config = Config::default();
    assert_eq!(config.check(), []);
    assert_eq!(config.gateway.listen.0, [GATEWAY_LISTEN.parse().unwrap()]);
    assert_eq!(config.gateway.upstreams.len(), 1);
    assert_eq!(config.share.listen.0, [SHARE_LISTEN.parse().unwrap()]);
    assert_eq!(config.share.public_keys, [CACHE_NIXOS_ORG_KEY.parse().unwrap()]);
    let empty = read("").unwrap();
    assert_eq!(Config { origin: None, ..empty }, config);
}

#[test]
fn the_example_documents_every_key_and_its_default() {
    let config = read(&example_in_force()).unwrap();
    let stated = config.trust.public_keys.clone().unwrap();
    assert_eq!(stated, Config::default().share.public_keys, "what Nix has built in");
    let trust = Trust { public_keys: None };
    assert_eq!(config.gateway.proxy, Some(Proxy(String::new())), "without it, what the environment says");
    let gateway = Gateway { proxy: None, ..config.gateway.clone() };
    assert_eq!(config.share.profile, Some(Profile::Open), "without it, as the other keys say, which is the same");
    let share = Share { profile: None, ..config.share.clone() };
    assert_eq!(Config { origin: None, trust, gateway, share, ..config }, Config::default());

    assert_eq!(keys::names::<Config>(), SECTIONS);
    let table: toml::Table = example_in_force().parse().unwrap();
    let documented: Vec<(&str, Vec<&str>)> = table
        .iter()
        .map(|(section, keys)| (section.as_str(), keys.as_table().unwrap().keys().map(String::as_str).collect()))
        .collect();
    let mut known: Vec<(&str, Vec<&str>)> =
        SECTIONS.map(|section| (section, keys_of(section).unwrap().to_vec())).to_vec();
    for (_, keys) in &mut known {
        keys.sort_unstable();
    }
    known.sort_unstable();
    assert_eq!(documented, known);
}

#[test]
fn all_kinds_of_values_are_read() {
    let node = NodeKey::from_seed([1; 32]).id();
    let config = read(&format!(
        "[gateway]\nlisten = [\"127.0.0.1:1\", \"[::1]:1\"]\nupstreams = []\n\
         [share]\nlisten = \"\"\nplain_listen = \"0.0.0.0:5000\"\npolicy = \"signed+own\"\nupload_limit = \"1.5MB\"\n\
         public_keys = []\n\
         [trust]\npublic_keys = [\"{OTHER_KEY}\"]\n[fleet]\nmode = \"static\"\n\
         nodes = [\"{node}\"]\n\
         [keys]\nsigning = \"credential\"\nname = \"tower-7\"\ngrace = \"0s\"\n\
         [limits]\nidle_timeout = \"2min\"\nmemory = 33554432\n[log]\nlevel = \"DEBUG\"\n"
    ))
    .unwrap();
    assert_eq!(config.gateway.listen.0.len(), 2);
    assert!(config.share.listen.is_empty());
    assert_eq!(config.fleet.nodes, [node]);
    assert_eq!((config.share.policy, config.share.upload_limit), (Policy::SignedAndOwn, 1_500_000));
    assert_eq!(config.trusted_keys().keys, [OTHER_KEY.parse().unwrap()]);
    assert_eq!((config.limits.idle_timeout, config.limits.memory), (Duration::from_secs(120), 32 * 1024 * 1024));
    let keys = Keys { signing: Signing::Credential, name: "tower-7".into(), grace: Duration::ZERO };
    assert_eq!(config.keys, keys);
    assert_eq!(config.log.level, LevelFilter::Debug);
}

#[test]
fn upstreams_are_urls_or_tables() {
    let config = read(&format!(
        "[gateway]\nupstreams = [\n  \"https://cache.nixos.org\",\n  {{ url = \"https://cache.example.org/x\", \
         credential = {{ netrc = \"login\", certificate = \"client.pem\" }}, public_keys = [\"{OTHER_KEY}\"], \
         allow = [\"linux-*\"], deny = [\"*-secret*\"], tier = 2 }},\n]\n"
    ))
    .unwrap();
    let [plain, table] = &config.gateway.upstreams[..] else { panic!("{config:?}") };
    assert_eq!(*plain, Upstream::from("https://cache.nixos.org".parse::<UpstreamUrl>().unwrap()));
    assert_eq!((table.to_string().as_str(), table.tier, plain.tier), ("https://cache.example.org/x", 2, 1));
    let names: Vec<_> = table.credential.as_ref().unwrap().names().collect();
    assert_eq!(names, [("netrc", "login"), ("certificate", "client.pem")]);
    assert_eq!(table.public_keys.as_deref().unwrap(), [OTHER_KEY.parse().unwrap()]);
    assert_eq!(
        (table.allow.as_deref(), &table.deny[..]),
        (Some(&["linux-*".to_owned()][..]), &["*-secret*".to_owned()][..])
    );
    // The other form of TOML for the same.
    let config = read("[[gateway.upstreams]]\nurl = \"https://a.example.org\"\ntier = 3\n").unwrap();
    assert_eq!(config.gateway.upstreams[0].tier, 3);
}

#[test]
fn what_is_wrong_with_an_upstream_is_said_where_it_stands() {
    let good = "\"https://cache.nixos.org\"";
    for (upstream, what, remedy) in [
        ("{ tier = 2 }", "an upstream has no url", "upstreams = ["),
        ("{ url = \"https://a\", teir = 2 }", "unknown field `teir`", "upstreams = ["),
        ("{ url = \"https://a\", tier = 300 }", "expected a whole number", ""),
        ("{ url = \"https://a\", public_keys = [\"x\"] }", "malformed public key", ""),
        ("{ url = \"https://a\", public_keys = [] }", "https://a/ has public_keys = []", "leave public_keys out"),
        ("{ url = \"https://a\", allow = [] }", "allow = []", "leave allow out"),
        ("{ url = \"https://a\", deny = [\"a/b\"] }", "deny of https://a/: 'a/b' can never match", "without the hash"),
        ("{ url = \"https://a\", credential = \"x\" }", "expected a table such as { netrc", ""),
        ("{ url = \"https://a\", credential = {} }", "names none", "LoadCredential=NAME:FILE"),
        ("{ url = \"https://a\", credential = { netrc = \"x\", bearer = \"y\" } }", "both netrc and bearer", ""),
        ("{ url = \"https://a\", credential = { bearer = \"/run/x\" } }", "is not the name of a", "LoadCredential"),
        ("{ url = \"http://a\", credential = { certificate = \"x\" } }", "without TLS", "https://"),
        (good, "https://cache.nixos.org/ is listed twice", "leave one of them out"),
    ] {
        let text = format!("[gateway]\nupstreams = [\n  {good},\n  {upstream},\n]\n");
        let problems = read(&text).unwrap_err();
        let [problem] = &problems[..] else { panic!("{upstream}: {problems:?}") };
        assert!(problem.what.contains(what) && problem.remedy.contains(remedy), "{upstream}: {problem}");
        assert_eq!((problem.section.as_str(), problem.key.as_str()), ("gateway", "upstreams"), "{problem}");
        assert!(matches!(problem.line, Some(2 | 4)), "{problem}");
    }
}

#[test]
fn no_secret_that_was_written_into_the_file_is_repeated() {
    for upstream in [
        "\"https://user:hunter2@cache.example.org\"",
        "{ url = \"https://user:hunter2@cache.example.org\", tier = 2 }",
        "\"https://user:hunter2/@cache.example.org\"",
        "{ url = \"https://a\", credential = { bearer = \"hunter2 is a token\" } }",
        "{ url = \"https://a\", credential = \"hunter2\" }",
        "{ url = \"https://a\", credential = [\"hunter2\"] }",
        "{ url = \"https://a\", credential = { token = \"hunter2\" } }",
    ] {
        let problems = read(&format!("[gateway]\nupstreams = [\n  {upstream},\n]\n")).unwrap_err();
        let [problem] = &problems[..] else { panic!("{upstream}: {problems:?}") };
        assert!(!problem.to_string().contains("hunter2"), "{problem}");
    }
    let url = read("[gateway]\nupstreams = [\n  \"https://user:hunter2@cache.example.org\",\n]\n").unwrap_err();
    let said = url[0].to_string();
    for part in
        ["c.toml:3: [gateway] upstreams = \"https://…@cache.example.org\"", "user or password", "credential = { netrc"]
    {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn every_problem_is_found_and_placed() {
    let problems = read(
        "[gateway]\nlisten = \"localhost\"\nbudget_ms = \"fast\"\nprioritty = 3\n\
         [shares]\nx = 1\n\
         [share]\nplain_listen = [\"[::]:5000\",\n  \"no\"]\npublic_keys = [\"x\"]\npolicy = \"all\"\nupload_limit = -1\n\
         [limits]\nheader_timeout = \"soon\"\nmemory = \"1MiB\"\n[store]\ndir = \"nix\"\nroot = \"a\"\n[log]\nlevel = 7\n",
    )
    .unwrap_err();
    let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let expected = [
        "c.toml:2: [gateway] listen = \"localhost\": 'localhost' is not a numeric address with a port, such as \
         127.0.0.1:7649 or [::]:7650; write for example: listen = \"127.0.0.1:7649\"",
        "c.toml:3: [gateway] budget_ms = \"fast\": invalid type: string \"fast\", expected a whole number; write for example: \
         budget_ms = 300",
        "c.toml:4: [gateway] prioritty = 3: there is no such key; did you mean priority? the keys of [gateway] are listen, \
         priority, upstreams, budget_ms, read_ahead, verify, download_limit, download_limit_per_peer, proxy",
        "c.toml:5: there is no section or key 'shares'; did you mean share? the sections are gateway, share, store, trust, \
         keys, discovery, fleet, swarm, nats, replicate, cache, limits, log",
    ];
    assert_eq!(shown[..4], expected);
    let lines: Vec<(usize, &str)> =
        problems.iter().map(|problem| (problem.line.unwrap(), problem.key.as_str())).collect();
    let rest = [
        (8, "plain_listen"),
        (10, "public_keys"),
        (11, "policy"),
        (12, "upload_limit"),
        (14, "header_timeout"),
        (15, "memory"),
        (17, "dir"),
        (18, "root"),
        (20, "level"),
    ];
    assert_eq!(lines[4..], rest, "{shown:#?}");
    assert!(shown.iter().all(|problem| problem.contains("; ")), "each has a remedy: {shown:#?}");
}

#[test]
fn what_contradicts_itself_is_refused() {
    for (text, key) in [
        ("[gateway]\nlisten = \"\"", "listen"),
        ("[gateway]\nlisten = \"0.0.0.0:7649\"", "listen"),
        ("[gateway]\nlisten = \"[::]:7649\"", "listen"),
        ("[gateway]\nbudget_ms = 0", "budget_ms"),
        ("[share]\npublic_keys = []", "public_keys"),
        ("[share]\npolicy = \"signed+own\"", "policy"),
        ("[share]\ndeny = [\"\"]", "deny"),
        ("[share]\ndeny = [\"/nix/store/*\"]", "deny"),
        ("[share]\nupload_limit = \"1B\"", "upload_limit"),
        ("[gateway]\ndownload_limit = \"1B\"", "download_limit"),
        ("[gateway]\ndownload_limit_per_peer = \"1kB\"", "download_limit_per_peer"),
        ("[share]\nmax_connections = 0", "max_connections"),
        ("[share]\nupload_limit_per_peer = \"1kB\"", "upload_limit_per_peer"),
        ("[share]\nbattery_min = 101", "battery_min"),
        ("[share]\nupload_schedule = [{ from = \"8:00\", until = \"18:00\", limit = 0 }]", "upload_schedule"),
        ("[share]\nupload_schedule = [{ from = \"08:00\", until = \"08:00\", limit = 0 }]", "upload_schedule"),
        ("[share]\nupload_schedule = [{ from = \"08:00\", until = \"24:00\", limit = 0 }]", "upload_schedule"),
        ("[share]\nupload_schedule = [{ from = \"08:00\", until = \"18:00\" }]", "upload_schedule"),
        ("[share]\nplain_listen = \"127.0.0.1:7649\"", "plain_listen"),
        ("[store]\nstate_dir = \"/nix/../x\"", "state_dir"),
        ("[keys]\nname = \"a b\"", "name"),
        ("[keys]\nname = \"a:b\"", "name"),
        ("[keys]\ngrace = \"3years\"", "grace"),
        ("[keys]\nsigning = \"file\"", "signing"),
        ("[discovery]\ninterfaces = [\"a very long name\"]", "interfaces"),
        ("[fleet]\nmode = \"static\"", "nodes"),
        (&format!("[fleet]\nnodes = [\"{}\"]", NodeKey::from_seed([1; 32]).id()), "mode"),
        ("[fleet]\nmode = \"static\"\nnodes = [\"ab\"]", "nodes"),
        (&format!("[fleet]\nmode = \"fleet\"\nnodes = [\"{}\"]", NodeKey::from_seed([1; 32]).id()), "mode"),
        (&format!("[fleet]\npublic_key = \"{}\"", NodeKey::from_seed([1; 32]).id()), "mode"),
        ("[fleet]\nmode = \"fleet\"\npublic_key = \"ab\"", "public_key"),
        ("[discovery]\npeers = [\"host\"]", "peers"),
        ("[limits]\nper_address = 0", "per_address"),
        ("[limits]\nidle_timeout = \"30days\"", "idle_timeout"),
    ] {
        let problems = read(text).unwrap_err();
        let [problem] = problems.as_slice() else { panic!("{text}: {problems:?}") };
        assert_eq!(problem.key, key, "{text}: {problem}");
        assert!(!problem.remedy.is_empty(), "{problem}");
    }
}

#[test]
fn a_profile_says_it_in_one_word() {
    let profile = |word: &str, more: &str| read(&format!("[share]\nprofile = \"{word}\"\n{more}"));
    assert_eq!(profile("open", "").unwrap().fleet.mode, FleetMode::Open);
    let node = NodeKey::from_seed([1; 32]).id();
    let team = profile("team", &format!("[fleet]\nnodes = [\"{node}\"]\n")).unwrap();
    assert_eq!((team.fleet.mode, team.share.policy), (FleetMode::Static, Policy::Signed));
    let fleet = profile("fleet", &format!("[fleet]\npublic_key = \"{node}\"\n")).unwrap();
    assert_eq!((fleet.fleet.mode, fleet.share.policy), (FleetMode::Fleet, Policy::SignedAndOwn));
    assert_eq!(profile("fleet", "policy = \"signed\"\n").unwrap().share.policy, Policy::Signed);
    let only = profile("receive-only", "").unwrap().share;
    assert!(only.listen.is_empty() && only.plain_listen.is_empty() && !only.index && !only.relay);
    assert_eq!(only.policy, Policy::Off);
    // What says the same twice is no contradiction.
    assert!(profile("receive-only", "policy = \"off\"\nlisten = \"\"\n").is_ok());
    for (word, more, key) in [
        ("open", "[fleet]\nmode = \"fleet\"\n", "mode"),
        ("team", &format!("[fleet]\nmode = \"open\"\nnodes = [\"{node}\"]\n"), "mode"),
        ("fleet", "[fleet]\nmode = \"open\"\n", "mode"),
        ("receive-only", "policy = \"signed\"\n", "policy"),
        ("receive-only", "index = true\n", "index"),
        ("receive-only", "plain_listen = \"[::]:5000\"\n", "plain_listen"),
        ("receive-only", "listen = \"[::]:7650\"\n", "listen"),
    ] {
        let problems = profile(word, more).unwrap_err();
        let [problem] = &problems[..] else { panic!("{word} {more}: {problems:?}") };
        let said = problem.to_string();
        assert!(problem.key == key && said.contains(&format!("profile = \"{word}\" in line 2")), "{said}");
        assert!(problem.line.is_some_and(|line| line > 2), "{said}");
    }
}

#[test]
fn misplaced_and_broken_texts() {
    let outside = read("listen = \"127.0.0.1:1\"").unwrap_err();
    assert!(outside[0].to_string().contains("outside its section; move it below a line [gateway]"), "{}", outside[0]);
    let not_a_section = read("gateway = 3").unwrap_err();
    assert_eq!((not_a_section[0].line, not_a_section[0].key.as_str()), (Some(1), "gateway"));
    let broken = read("[gateway\nlisten = 1\n").unwrap_err();
    assert_eq!(broken[0].line, Some(1), "{}", broken[0]);
    assert!(broken[0].what.starts_with("not TOML"), "{}", broken[0]);
    let twice = read("[log]\nlevel = \"info\"\nlevel = \"warn\"\n").unwrap_err();
    assert_eq!(twice[0].line, Some(3), "{}", twice[0]);
    let unreadable = Config::load(Some(Path::new("/nonexistent/c.toml"))).unwrap_err();
    assert!(unreadable.to_string().starts_with("/nonexistent/c.toml: cannot be read: "), "{unreadable}");
}

#[test]
fn the_keys_of_nix_are_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let places = nix_conf::Places { dir: dir.path().to_owned(), ..nix_conf::Places::default() };
    let trusted = || NixConf::read_at(&places).trusted_keys();
    let names = |text: &str| {
        fs::write(dir.path().join("nix.conf"), text).unwrap();
        let trusted = trusted();
        (trusted.keys.iter().map(|key| key.name().to_owned()).collect::<Vec<_>>(), trusted.notices.len())
    };
    let second = OTHER_KEY.replace("test-1", "second-1");
    fs::write(dir.path().join("more.conf"), format!("extra-trusted-public-keys = {second}\n")).unwrap();

    assert_eq!(names("sandbox = true\n"), (vec!["cache.nixos.org-1".into()], 0));
    assert_eq!(names(&format!("trusted-public-keys = {OTHER_KEY} # x-1:y\n")), (vec!["test-1".into()], 0));
    assert_eq!(
        names(&format!("extra-trusted-public-keys = {OTHER_KEY}\n  include more.conf\n!include none.conf\n")),
        (vec!["cache.nixos.org-1".into(), "test-1".into(), "second-1".into()], 0)
    );
    // A later plain setting replaces what was added before.
    assert_eq!(names(&format!("include more.conf\ntrusted-public-keys = {OTHER_KEY}\n")), (vec!["test-1".into()], 0));
    assert_eq!(
        names(&format!("trusted-public-keys = {OTHER_KEY} bad:key\ninclude none.conf\n")),
        (vec!["test-1".into()], 2)
    );
    // A file that includes itself ends.
    let (keys, notices) = names("include nix.conf\n");
    assert_eq!((keys.len(), notices), (1, 1));
    fs::remove_file(dir.path().join("nix.conf")).unwrap();
    let trusted = trusted();
    assert_eq!((trusted.keys.len(), trusted.origin.as_str()), (1, "the default of Nix (nix.conf names none)"));
}
