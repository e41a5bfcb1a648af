//! The page as a whole.

use super::sections::Sections;
use maud::{DOCTYPE, Markup, PreEscaped, html};

/// The parts with their headings, in the order in which they are read.
const PARTS: [(&str, &str); 5] = [
    ("health", "Health"),
    ("moving", "On its way"),
    ("site", "Machines"),
    ("saved", "What was saved"),
    ("keys", "Keys"),
];

/// The page, for a browser that reached us under `host`.
pub(super) fn whole(sections: &Sections, host: &str) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "Peernix" }
                link rel="icon" href="data:,";
                link rel="stylesheet" href="/page.css";
                script src="/page.js" defer {}
            }
            body {
                a.skip href="#health" { "To the content" }
                header {
                    h1 { "Peernix" }
                    p #live { "as it was when this page was opened" }
                }
                main {
                    @for (id, heading) in PARTS {
                        section aria-labelledby=(format!("{id}-heading")) {
                            h2 id=(format!("{id}-heading")) { (heading) }
                            div id=(id) aria-live=[(id == "health").then_some("polite")] { (part(sections, id)) }
                        }
                    }
                    section aria-labelledby="use-heading" {
                        h2 #use-heading { "Use this cache" }
                        p { "Nix uses it with this line in nix.conf, which the NixOS module writes by itself:" }
                        pre tabindex="0" { "extra-substituters = http://" (host) }
                        p { "On a terminal: " code { "peernixctl status" } ", " code { "peernixctl doctor" } ", " code { "peernixctl top" } "." }
                    }
                }
                footer {
                    p { "Peernix " (env!("CARGO_PKG_VERSION")) " · " a href="/metrics" { "metrics" } " · " a href="/peers" { "peers as JSON" } " · " a href="/health" { "health as JSON" } }
                }
            }
        }
    };
    page.into_string()
}

/// Made by maud, in this room: nothing in it is anybody else's HTML.
fn part(sections: &Sections, id: &str) -> Markup {
    PreEscaped(sections.0.get(id).cloned().unwrap_or_default())
}
