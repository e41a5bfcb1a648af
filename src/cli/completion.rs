//! Completions: what the command line says, and beside it what only the service knows, such as the names of peers.

use crate::cli::args;
use crate::cli::verbs::completion::Shell;
use clap_complete::aot;

/// Which arguments the service completes: the verb, the name that its argument has in the command line, and with what.
const DYNAMIC: [(&str, &str, &str); 12] = [
    ("peers show", "peer", "peers"),
    ("peers forget", "peer", "peers"),
    ("peers block", "peer", "peers"),
    ("peers unblock", "peer", "peers"),
    ("peers ping", "peer", "peers"),
    ("is-online", "peer", "peers"),
    ("unpin", "pin", "pins"),
    ("jobs show", "job", "jobs"),
    ("jobs cancel", "job", "jobs"),
    ("keys revoke", "key", "keys"),
    ("keys export", "key", "keys"),
    ("trust remove", "trusted", "trusted"),
];

/// The command line without what is hidden, which the generators would offer too.
fn visible() -> clap::Command {
    let whole = args::command();
    let shown = whole.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned();
    clap::Command::new("peernixctl")
        .version(env!("CARGO_PKG_VERSION"))
        .args(whole.get_arguments().cloned())
        .subcommands(shown)
}

/// The completions for a shell.
pub(super) fn script(shell: Shell) -> String {
    let mut text = Vec::new();
    let mut command = visible();
    let name = "peernixctl";
    match shell {
        Shell::Bash => aot::generate(aot::Bash, &mut command, name, &mut text),
        Shell::Zsh => aot::generate(aot::Zsh, &mut command, name, &mut text),
        Shell::Fish => aot::generate(aot::Fish, &mut command, name, &mut text),
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    match shell {
        Shell::Bash => bash(&text),
        Shell::Zsh => zsh(&text),
        Shell::Fish => fish(&text),
    }
}

/// A function in front of the generated one. No word list of `compgen`: it would expand what stands in it.
fn bash(text: &str) -> String {
    // The generated registration would win otherwise: it comes with two forms for old and new bash.
    let text = text.replace("complete -F _peernixctl ", "complete -F _peernixctl_here ");
    let cases: String =
        DYNAMIC.iter().map(|(verb, _, what)| format!("        *\" {verb} \") what={what} ;;\n")).collect();
    let function = format!(
        r#"
# What only the running service knows comes from it; everything else from the function above.
_peernixctl_here() {{
    local line=" " what="" candidate word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}"
    local -a there=()
    local -i at
    # `--option=value` comes as three words; of some options the value may stand nowhere else.
    if [[ $word == "=" ]]; then
        _peernixctl "$1" "" "$before"
        return 0
    elif [[ $before == "=" ]]; then
        _peernixctl "$1" "$word" "${{COMP_WORDS[COMP_CWORD-2]}}"
        return 0
    elif [[ $before == --json ]]; then
        _peernixctl "$1" "$word" "$1"
        return 0
    fi
    for ((at = 1; at < COMP_CWORD; at++)); do
        case "${{COMP_WORDS[at]}}" in
            -H | --host)
                [[ ${{COMP_WORDS[at+1]}} == "=" ]] && at+=1
                at+=1
                there=(-H "${{COMP_WORDS[at]}}")
                ;;
            -* | =) ;;
            *) line+="${{COMP_WORDS[at]}} " ;;
        esac
    done
    case "$line" in
{cases}    esac
    if [[ -n $what && $word != -* ]]; then
        COMPREPLY=()
        while IFS=$'\t' read -r candidate _; do
            [[ $candidate == "$word"* ]] && COMPREPLY+=("$candidate")
        done < <(peernixctl "${{there[@]}}" __complete "$what" 2>/dev/null)
        return 0
    fi
    _peernixctl "$@"
}}

"#
    );
    match text.find("\nif [[ \"${BASH_VERSINFO[0]}\"") {
        Some(at) => format!("{}{function}{}", &text[..at], &text[at + 1..]),
        None => format!("{text}{function}complete -F _peernixctl_here -o bashdefault -o default peernixctl\n"),
    }
}

/// The actions of the arguments, and functions for them.
fn zsh(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        let start = line.trim_start_matches(['\'', ':', '*']);
        let dynamic = DYNAMIC.iter().find(|(_, argument, _)| start.starts_with(&format!("{argument} -- ")));
        match (dynamic, line.strip_suffix(":_default' \\")) {
            (Some((_, _, what)), Some(rest)) => lines.push(format!("{rest}:_peernixctl__{what}' \\")),
            _ => lines.push(line.to_owned()),
        }
    }
    let mut functions = String::from(
        r#"
# What only the running service knows, here or where -H says.
_peernixctl__ask() {
    local -a candidates there typed
    local line
    local -i at
    # All that was typed: `words` begins at the verb here.
    typed=(${(z)LBUFFER})
    for ((at = 1; at < $#typed; at++)); do
        case $typed[at] in
            -H|--host) there=(-H ${(Q)typed[at+1]}) ;;
            --host=*) there=(-H ${(Q)typed[at]#--host=}) ;;
        esac
    done
    for line in ${(f)"$(peernixctl $there __complete $1 2>/dev/null)"}; do
        candidates+=("${line%%$'\t'*}:${line#*$'\t'}")
    done
    _describe -t "$1" "$1" candidates
}
"#,
    );
    let mut kinds: Vec<&str> = DYNAMIC.iter().map(|(_, _, what)| *what).collect();
    kinds.dedup();
    for what in kinds {
        functions.push_str(&format!("_peernixctl__{what}() {{ _peernixctl__ask {what} }}\n"));
    }
    let text = lines.join("\n") + "\n";
    // The last lines register or call what stands before them.
    match text.rfind("\nif [ \"$funcstack[1]\"") {
        Some(at) => format!("{}{functions}{}", &text[..at], &text[at..]),
        None => text + &functions,
    }
}

/// What the generator leaves out: values of arguments that are no options.
fn fish(text: &str) -> String {
    // An option that may have a value has it behind a `=`; with `-r`, and in what splits the command line, it would be the next word.
    let lines = text.lines().map(|line| match line {
        _ if line.contains(" -l json ") => line.replacen(" -r -f ", " -f ", 1),
        _ => line.replacen(" json= ", " 'json=?' ", 1),
    });
    let mut text = lines.collect::<Vec<_>>().join("\n");
    text.push_str(
        r#"

# What only the running service knows, here or where -H says.
function __peernixctl_ask
    set -l typed (commandline -opc)
    set -l there
    for at in (seq (count $typed))
        switch $typed[$at]
            case -H --host
                set there -H $typed[(math $at + 1)]
            case '--host=*'
                set there -H (string replace -- --host= '' $typed[$at])
        end
    end
    peernixctl $there __complete $argv[1] 2>/dev/null
end
"#,
    );
    let mut line = |verb: &[&str], what: &str| {
        let seen: Vec<String> = verb.iter().map(|word| format!("__fish_seen_subcommand_from {word}")).collect();
        text.push_str(&format!("complete -c peernixctl -n \"{}\" -f -a \"{what}\"\n", seen.join("; and ")));
    };
    for (verb, _, what) in DYNAMIC {
        line(&verb.split(' ').collect::<Vec<_>>(), &format!("(__peernixctl_ask {what})"));
    }
    for (verb, values) in positional_values(&visible(), &[]) {
        line(&verb.iter().map(String::as_str).collect::<Vec<_>>(), &values.join(" "));
    }
    text
}

/// The verbs below `command`, as their words, with the words that an argument of theirs may be.
fn positional_values(command: &clap::Command, verb: &[String]) -> Vec<(Vec<String>, Vec<String>)> {
    let values =
        command.get_positionals().flat_map(clap::Arg::get_possible_values).filter(|value| !value.is_hide_set());
    let values: Vec<String> = values.map(|value| value.get_name().to_owned()).collect();
    let own = (!values.is_empty()).then(|| (verb.to_vec(), values));
    let below = command.get_subcommands().filter(|below| !below.is_hide_set());
    let below = below.flat_map(|below| positional_values(below, &[verb, &[below.get_name().to_owned()]].concat()));
    own.into_iter().chain(below).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    #[test]
    fn what_is_completed_by_the_service_is_in_the_command_line() {
        let command = args::command();
        for (verb, argument, _) in DYNAMIC {
            let mut found = Some(&command);
            for word in verb.split(' ') {
                found = found.and_then(|command| command.find_subcommand(word));
            }
            let Some(found) = found else { panic!("there is no verb {verb}") };
            assert!(found.get_positionals().any(|known| known.get_id() == argument), "{verb} {argument}");
        }
        crate::cli::peernixd::Args::command().debug_assert();
    }

    #[test]
    fn scripts_ask_for_every_kind() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = script(shell);
            assert!(text.contains(" __complete "), "{shell:?}");
            for (_, _, what) in DYNAMIC {
                assert!(text.contains(what), "{shell:?}: {what}");
            }
        }
        let zsh = script(Shell::Zsh);
        assert!(zsh.contains(":_peernixctl__peers' \\") && zsh.contains(":_peernixctl__jobs' \\"), "{zsh}");
    }

    /// Where the word `peernixctl` stands for a program that knows two peers here and another one on build1.
    const PEERS: &str = r#"if [ "$1 $2" = "-H build1" ]; then printf 'far\tonline\n'; else printf 'tower\tonline\n$(touch pwned)\tx\nbirch\tonline\n'; fi"#;

    /// What a real bash offers for a command line whose last word is being typed.
    fn offered(words: &[&str]) -> String {
        let mut bash = Command::new("bash");
        bash.args(["--norc", "--noprofile"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut bash = bash.spawn().unwrap();
        let words_quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let program = format!(
            "peernixctl() {{ {PEERS}; }}\n{}\n\
             COMP_WORDS=({})\nCOMP_CWORD={}\n_peernixctl_here peernixctl '{}' '{}'\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
            script(Shell::Bash),
            words_quoted.join(" "),
            words.len() - 1,
            words[words.len() - 1],
            words[words.len() - 2],
        );
        bash.stdin.take().unwrap().write_all(program.as_bytes()).unwrap();
        let output = bash.wait_with_output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn a_real_bash_completes() {
        assert_eq!(offered(&["peernixctl", "peers", "show", "t"]), "tower\n");
        assert_eq!(offered(&["peernixctl", "-j", "is-online", ""]).lines().count(), 3);
        assert!(!std::path::Path::new("pwned").exists());
        assert_eq!(offered(&["peernixctl", "und"]), "undrain\n");
        assert!(offered(&["peernixctl", "peers", "--state", "o"]).contains("offline"));
        assert!(offered(&["peernixctl", "peers", "b"]).contains("block"));
        // The value of an option that needs none stands behind a `=`, and only there.
        assert_eq!(offered(&["peernixctl", "--json", "="]), "short\npretty\noff\n");
        assert_eq!(offered(&["peernixctl", "peers", "--json", "=", "p"]), "pretty\n");
        assert_eq!(offered(&["peernixctl", "--json", "und"]), "undrain\n");
        assert_eq!(offered(&["peernixctl", "--transport", "=", "d"]), "dbus\n");
        for far in [&["-H", "build1"][..], &["--host", "=", "build1"]] {
            assert_eq!(offered(&[&["peernixctl"], far, &["peers", "show", ""]].concat()), "far\n");
        }
    }

    /// What a real fish offers.
    fn fish_offers(line: &str) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("peernixctl");
        std::fs::write(&program, format!("#!/bin/sh\n{PEERS}\n")).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::write(dir.path().join("peernixctl.fish"), script(Shell::Fish)).unwrap();
        let mut fish = Command::new("fish");
        fish.args(["--no-config", "--command", "source peernixctl.fish; complete --do-complete $argv", line]);
        fish.current_dir(dir.path())
            .env("HOME", dir.path())
            .env("PATH", format!("{}:/usr/bin:/bin", dir.path().display()));
        let output = fish.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn a_real_fish_completes() {
        if Command::new("fish").arg("--version").output().is_err() {
            return crate::cli::output::complain("SKIPPED: there is no fish here (on Debian: apt-get install fish)");
        }
        assert_eq!(fish_offers("peernixctl peers show t"), ["tower"]);
        assert_eq!(fish_offers("peernixctl -H build1 peers show "), ["far"]);
        assert_eq!(fish_offers("peernixctl --host=build1 peers show "), ["far"]);
        assert_eq!(fish_offers("peernixctl --json="), ["--json=off", "--json=pretty", "--json=short"]);
        assert_eq!(fish_offers("peernixctl --json und"), ["undrain"]);
        assert_eq!(fish_offers("peernixctl log-level d"), ["debug"]);
        assert_eq!(fish_offers("peernixctl completion f"), ["fish"]);
    }
}
