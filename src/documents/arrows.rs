//! Which file of `src/` uses which: read from the code, so that the order of the house can be asserted.
//!
//! An arrow runs from a file to the file that defines the name it takes, through re-exports. That a parent declares its children,
//! or hands their names on, is no arrow; that a child takes a name which its parent defines is one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A module as the path of its names: `["fetch", "transfer", "driver"]`.
pub(super) type Module = Vec<String>;

/// The code of one file.
struct Source {
    code: String,
    /// The modules that it declares.
    children: BTreeSet<String>,
}

/// All files, and what they use.
pub(super) struct House(BTreeMap<Module, Source>);

impl House {
    /// Reads `src/`, without tests.
    pub(super) fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut sources = BTreeMap::new();
        for path in files(&root) {
            let inside = path.strip_prefix(&root).unwrap().with_extension("");
            let mut module: Module = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            if module.last().is_some_and(|last| last == "mod" || (module.len() == 1 && last == "lib")) {
                module.pop();
            }
            let is_test = |part: &String| {
                part.contains("test") || ["scripted", "documents", "simulation", "bin"].contains(&part.as_str())
            };
            if module.iter().any(is_test) {
                continue;
            }
            let code = code(&std::fs::read_to_string(&path).unwrap());
            let children = code.lines().filter_map(declared).map(str::to_owned).collect();
            sources.insert(module, Source { code, children });
        }
        Self(sources)
    }

    /// What each file uses, but itself.
    pub(super) fn arrows(&self) -> BTreeMap<&Module, BTreeSet<Module>> {
        let used = |module: &Module| {
            let paths = self.paths(module).into_iter().filter(|(_, is_handed_on)| !is_handed_on);
            paths.filter_map(|(path, _)| self.definition(&path, 0)).filter(|other| other != module).collect()
        };
        self.0.keys().map(|module| (module, used(module))).collect()
    }

    /// The first circle of files, if there is one.
    pub(super) fn circle(&self) -> Option<Vec<Module>> {
        let arrows = self.arrows();
        let mut done = BTreeSet::new();
        arrows.keys().find_map(|start| walk(start, &arrows, &mut Vec::new(), &mut done))
    }

    /// Every path that a file names, from the root, and whether it only hands it on.
    fn paths(&self, module: &Module) -> Vec<(Module, bool)> {
        let Source { code, children } = &self.0[module];
        let mut paths = Vec::new();
        for statement in code.split(';') {
            let line = statement.trim_start();
            // What stands before the `use` on the same statement is code that ended with a brace.
            let at = line.rfind("\nuse ").map(|at| at + 1).or_else(|| line.starts_with("use ").then_some(0));
            let handed_on = ["pub use ", "pub(crate) use ", "pub(super) use "].iter().find_map(|start| {
                line.rfind(start)
                    .filter(|at| *at == 0 || line[..*at].ends_with(['\n', '}', ' ']))
                    .map(|at| (at + start.len(), true))
            });
            if let Some((begin, is_handed_on)) = handed_on.or(at.map(|at| (at + "use ".len(), false))) {
                for path in tree(&line[begin..]) {
                    paths.extend(self.absolute(module, &path).map(|path| (path, is_handed_on)));
                }
                continue;
            }
            for word in statement.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')) {
                let path: Module = word.split("::").map(str::to_owned).collect();
                let is_child = path.len() > 1 && children.contains(&path[0]);
                if path.len() > 1 && (is_child || path[0] == "crate" || path[0] == "super") {
                    paths.extend(self.absolute(module, &path).map(|path| (path, false)));
                }
            }
        }
        paths
    }

    /// A path from the root; `None` for one of another crate.
    fn absolute(&self, module: &Module, path: &[String]) -> Option<Module> {
        let mut base = module.clone();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => (base, rest) = (Module::new(), &path[1..]),
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|part| part == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
            }
            child if self.0[module].children.contains(child) => {}
            _ => return None,
        }
        base.extend_from_slice(rest);
        Some(base)
    }

    /// The file that defines what a path names.
    fn definition(&self, path: &[String], depth: usize) -> Option<Module> {
        assert!(depth < 16, "re-exports in a circle at {path:?}");
        let length = (0..=path.len()).rev().find(|length| self.0.contains_key(&path[..*length]))?;
        let module: Module = path[..length].to_vec();
        let Some(name) = path.get(length) else { return Some(module) };
        let handed_on =
            self.paths(&module).into_iter().find(|(other, is_handed_on)| *is_handed_on && other.last() == Some(name));
        match handed_on {
            Some((other, _)) => self.definition(&other, depth + 1),
            None => Some(module),
        }
    }
}

fn walk(
    at: &Module,
    arrows: &BTreeMap<&Module, BTreeSet<Module>>,
    trail: &mut Vec<Module>,
    done: &mut BTreeSet<Module>,
) -> Option<Vec<Module>> {
    if let Some(begin) = trail.iter().position(|module| module == at) {
        return Some(trail[begin..].to_vec());
    }
    if !done.insert(at.clone()) {
        return None;
    }
    trail.push(at.clone());
    let circle = arrows.get(at).into_iter().flatten().find_map(|next| walk(next, arrows, trail, done));
    trail.pop();
    circle
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let all = entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] });
    all.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// The code of a file, without comments and without the tests at its end.
fn code(text: &str) -> String {
    let product = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines = product.lines().map(|line| line.split_once("//").map_or(line, |(code, _)| code));
    lines.flat_map(|line| [line.trim_end(), "\n"]).collect()
}

/// The module that a line declares.
fn declared(line: &str) -> Option<&str> {
    let line = line.trim().strip_suffix(';')?;
    ["mod ", "pub mod ", "pub(crate) mod ", "pub(super) mod "].iter().find_map(|start| line.strip_prefix(start))
}

/// The paths of a `use` tree.
fn tree(text: &str) -> Vec<Module> {
    let text = text.trim();
    let Some((stem, rest)) = text.split_once('{') else {
        let path = text.split(" as ").next().unwrap_or_default();
        return vec![path.split("::").map(|part| part.trim().to_owned()).filter(|part| part != "self").collect()];
    };
    let inner = rest.trim_end().strip_suffix('}').unwrap_or(rest);
    let stem: Module = stem.split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect();
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inner[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inner[start..]);
    let parts = parts.into_iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(tree).map(|path| [stem.clone(), path].concat()).collect()
}

#[test]
fn trees_are_read() {
    let paths = |text: &str| tree(text).iter().map(|path| path.join("::")).collect::<Vec<_>>();
    assert_eq!(paths("crate::a::B"), ["crate::a::B"]);
    assert_eq!(paths("super::{a, b::{self, C as D},\n e::F}"), ["super::a", "super::b", "super::b::C", "super::e::F"]);
}

#[test]
fn the_house_is_read() {
    let house = House::read();
    let name = |path: &str| path.split("::").map(str::to_owned).collect::<Module>();
    let arrows = house.arrows();
    let driver = &arrows[&name("fetch::transfer::driver")];
    assert!(
        driver.contains(&name("fetch::transfer::scheduler")) && driver.contains(&name("fetch::source")),
        "{driver:?}"
    );
    assert!(driver.contains(&name("nix::hash")), "through a re-export: {driver:?}");
    assert!(!arrows[&name("fetch::transfer::scheduler")].contains(&name("fetch::transfer::driver")));
}
