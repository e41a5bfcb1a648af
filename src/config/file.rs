//! From the text of the file to a [`Config`], collecting every problem on the way.

use super::check;
use super::error::Problem;
use super::keys::{SECTIONS, keys_of};
use super::profile;
use super::sections::Config;
use super::upstream::{CREDENTIAL, masked};
use serde::Deserialize;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Every section and key with its meaning and default, for people: what `peernixd --print-default-config` prints.
pub const EXAMPLE: &str = include_str!("../../docs/config.example.toml");

/// The most syntax errors shown; what follows the first ones is usually their consequence.
const SYNTAX_ERRORS_SHOWN: usize = 5;
/// The most characters of a value that a message repeats.
const VALUE_SHOWN: usize = 60;

/// Reads a configuration.
///
/// serde stops at the first error. To find them all, every key is read by itself, in a document that has nothing else; the
/// keys that are right then make the configuration on which the checks across keys run.
pub(super) fn read(text: &str, file: Option<&Path>) -> Result<Config, Vec<Problem>> {
    let source = Source { text, file };
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(errors.iter().take(SYNTAX_ERRORS_SHOWN).map(|error| source.syntax(error)).collect());
    }
    let whole = document.span();
    let mut sound = DeTable::new();
    let mut problems = Vec::new();
    let mut places = HashMap::new();
    for (section, content) in document.into_inner() {
        let name = section.get_ref().to_string();
        let Some(known) = keys_of(&name) else {
            problems.push(source.unknown_section(&name, section.span()));
            continue;
        };
        let span = content.span();
        let DeValue::Table(content) = content.into_inner() else {
            let what = "is a section, not a value".to_owned();
            let remedy = format!("write [{name}] on a line of its own and its keys below");
            problems.push(source.problem("", &name, span, what, remedy));
            continue;
        };
        let mut sound_content = DeTable::new();
        for (key, value) in content {
            let key_name = key.get_ref().to_string();
            if !known.contains(&key_name.as_str()) {
                problems.push(source.unknown_key(&name, &key_name, known, &key, &value));
                continue;
            }
            let mut lone = DeTable::new();
            lone.insert(key.clone(), value.clone());
            let mut lone_section = DeTable::new();
            lone_section.insert(section.clone(), Spanned::new(span.clone(), DeValue::Table(lone)));
            match Config::deserialize(toml::Deserializer::from(Spanned::new(whole.clone(), lone_section))) {
                Ok(_) => {
                    places.insert((name.clone(), key_name), value.span());
                    sound_content.insert(key, value);
                }
                Err(error) => problems.push(source.wrong_value(&name, &key_name, &value, &error)),
            }
        }
        sound.insert(section, Spanned::new(span, DeValue::Table(sound_content)));
    }
    match Config::deserialize(toml::Deserializer::from(Spanned::new(whole, sound))) {
        Ok(mut config) => {
            let line = |section: &str, key: &str| {
                places.get(&(section.to_owned(), key.to_owned())).map(|span| source.line(span))
            };
            let contradictions = profile::apply(&mut config, line);
            for problem in contradictions.into_iter().chain(check::check(&config)) {
                // A key that could not be read has its default here: what is said of that would only confuse.
                if !problems.iter().any(|known| (&known.section, &known.key) == (&problem.section, &problem.key)) {
                    problems.push(source.placed(problem, &places));
                }
            }
            if problems.is_empty() { Ok(config) } else { Err(sorted(problems)) }
        }
        Err(error) => {
            problems.push(source.syntax(&error));
            Err(sorted(problems))
        }
    }
}

/// Problems in the order of the file.
fn sorted(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
    problems
}

/// The text and what it is called.
struct Source<'a> {
    text: &'a str,
    file: Option<&'a Path>,
}

impl Source<'_> {
    /// The line of a place, counted from 1.
    fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.as_bytes().get(..span.start).unwrap_or_default();
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }

    /// What stands at a place, on one line and shortened.
    fn shown(&self, span: &Range<usize>) -> String {
        let text = self.text.get(span.clone()).unwrap_or_default();
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let line = masked(&line);
        let mut shown: String = line.chars().filter(|c| !c.is_control()).take(VALUE_SHOWN).collect();
        if line.chars().nth(VALUE_SHOWN).is_some() {
            shown.push('…');
        }
        shown
    }

    fn problem(&self, section: &str, key: &str, span: Range<usize>, what: String, remedy: String) -> Problem {
        Problem {
            file: self.file.map(Path::to_owned),
            line: Some(self.line(&span)),
            value: self.shown(&span),
            ..Problem::of(section, key, what, remedy)
        }
    }

    fn syntax(&self, error: &toml::de::Error) -> Problem {
        let what = format!("not TOML: {}", error.message().trim_end().replace('\n', ", "));
        let line = error.span().map(|span| self.line(&span));
        Problem { file: self.file.map(Path::to_owned), line, ..Problem::of("", "", what, "see https://toml.io") }
    }

    fn unknown_section(&self, name: &str, span: Range<usize>) -> Problem {
        let what = match keys_outside_sections(name) {
            Some(section) => format!("'{name}' stands outside its section; move it below a line [{section}]"),
            None => format!("there is no section or key '{name}'"),
        };
        let remedy = format!("{}the sections are {}", did_you_mean(name, &SECTIONS), SECTIONS.join(", "));
        Problem { value: String::new(), ..self.problem("", "", span, what, remedy) }
    }

    fn unknown_key(
        &self,
        section: &str,
        name: &str,
        known: &[&str],
        key: &Spanned<toml::de::DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Problem {
        let remedy = format!("{}the keys of [{section}] are {}", did_you_mean(name, known), known.join(", "));
        let problem = self.problem(section, name, value.span(), "there is no such key".to_owned(), remedy);
        Problem { line: Some(self.line(&key.span())), ..problem }
    }

    fn wrong_value(&self, section: &str, key: &str, value: &Spanned<DeValue<'_>>, error: &toml::de::Error) -> Problem {
        let remedy = example(section, key).map_or_else(String::new, |example| format!("write for example: {example}"));
        let mut what = error.message().trim_end().replace('\n', ", ");
        // serde names the types of this program; administrators have numbers.
        for number in ["i32", "u64", "usize", "u8"] {
            what = what.replace(&format!("expected {number}"), "expected a whole number");
        }
        // In a list, the element that is wrong.
        let whole = value.span();
        let span = error.span().filter(|span| whole.start <= span.start && span.end <= whole.end && !span.is_empty());
        let span = span.unwrap_or_else(|| whole.clone());
        // Where logins are named, people may write the login itself.
        let is_secret = self.text.get(whole.start..span.start).is_some_and(|before| before.contains(CREDENTIAL));
        let problem = self.problem(section, key, span, what, remedy);
        if is_secret { Problem { value: String::new(), ..problem } } else { problem }
    }

    /// Adds where a key stands to a problem that was found later.
    fn placed(&self, problem: Problem, places: &HashMap<(String, String), Range<usize>>) -> Problem {
        let place = places.get(&(problem.section.clone(), problem.key.clone()));
        Problem {
            file: self.file.map(Path::to_owned),
            line: place.map(|span| self.line(span)),
            value: place.map(|span| self.shown(span)).unwrap_or_default(),
            ..problem
        }
    }
}

/// The section that has a key of this name.
fn keys_outside_sections(name: &str) -> Option<&'static str> {
    SECTIONS.into_iter().find(|section| keys_of(section).is_some_and(|keys| keys.contains(&name)))
}

/// The line of the annotated example that shows a key.
fn example(section: &str, key: &str) -> Option<String> {
    let header = format!("[{section}]");
    let lines = EXAMPLE.lines().skip_while(|line| *line != header).skip(1).take_while(|line| !line.starts_with('['));
    let mut settings = lines.filter_map(|line| line.strip_prefix('#'));
    settings.find(|line| line.split_once(" = ").is_some_and(|(name, _)| name == key)).map(str::to_owned)
}

/// `did you mean …? ` for a slip of the pen, else nothing.
fn did_you_mean(word: &str, known: &[&str]) -> String {
    let nearest = known.iter().map(|candidate| (distance(word, candidate), candidate)).min();
    match nearest {
        // Two slips, or a third of a short word: more and it is another word.
        Some((distance, candidate)) if distance <= 2.min(word.chars().count() / 3 + 1) => {
            format!("did you mean {candidate}? ")
        }
        _ => String::new(),
    }
}

/// How many characters have to be put in, left out or changed to make one word the other (Levenshtein's distance).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    // The distances from what is read of `a` to every beginning of `b`.
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (read, a) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = read + 1;
        for (index, b) in b.iter().enumerate() {
            let change = diagonal + usize::from(a != *b);
            diagonal = row[index + 1];
            row[index + 1] = change.min(diagonal + 1).min(row[index] + 1);
        }
    }
    row[b.len()]
}
