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
        Shell::Fish => fish(text),
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
    local line=" " what="" candidate
    local -i at
    for ((at = 1; at < COMP_CWORD; at++)); do
        [[ ${{COMP_WORDS[at]}} == -* ]] || line+="${{COMP_WORDS[at]}} "
    done
    case "$line" in
{cases}    esac
    if [[ -n $what && ${{COMP_WORDS[COMP_CWORD]}} != -* ]]; then
        COMPREPLY=()
        while IFS=$'\t' read -r candidate _; do
            [[ $candidate == "${{COMP_WORDS[COMP_CWORD]}}"* ]] && COMPREPLY+=("$candidate")
        done < <(peernixctl __complete "$what" 2>/dev/null)
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
# What only the running service knows.
_peernixctl__ask() {
    local -a candidates
    local line
    for line in ${(f)"$(peernixctl __complete $1 2>/dev/null)"}; do
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

fn fish(mut text: String) -> String {
    text.push_str("\n# What only the running service knows.\n");
    for (verb, _, what) in DYNAMIC {
        let seen: Vec<String> = verb.split(' ').map(|word| format!("__fish_seen_subcommand_from {word}")).collect();
        text.push_str(&format!(
            "complete -c peernixctl -n \"{}\" -f -a \"(peernixctl __complete {what} 2>/dev/null)\"\n",
            seen.join("; and ")
        ));
    }
    text
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
            assert!(text.contains("peernixctl __complete"), "{shell:?}");
            for (_, _, what) in DYNAMIC {
                assert!(text.contains(what), "{shell:?}: {what}");
            }
        }
        let zsh = script(Shell::Zsh);
        assert!(zsh.contains(":_peernixctl__peers' \\") && zsh.contains(":_peernixctl__jobs' \\"), "{zsh}");
    }

    /// What a real bash offers for a command line whose last word is being typed.
    fn offered(words: &[&str]) -> String {
        let mut bash = Command::new("bash");
        bash.args(["--norc", "--noprofile"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut bash = bash.spawn().unwrap();
        let words_quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let program = format!(
            "peernixctl() {{ printf 'tower\\tonline\\n$(touch pwned)\\tx\\nbirch\\tonline\\n'; }}\n{}\n\
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
    }
}
