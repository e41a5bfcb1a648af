//! `/` of the plain share, for people of other machines: what this is, and how to use it.

use crate::http::protocol::body::Body;
use crate::http::protocol::reply::{self, keep, media};
use crate::http::server::listener::Request;
use crate::store::SharePolicy;
use hyper::Response;
use hyper::header::{CONTENT_SECURITY_POLICY, HOST, HeaderValue};
use maud::{DOCTYPE, html};

/// Nothing but text.
const POLICY: HeaderValue =
    HeaderValue::from_static("default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
/// The longest name of this machine that is repeated, in bytes.
const HOST_MAX: usize = 255;

/// The page for a browser, text for anybody else.
pub(super) fn landing(policy: &SharePolicy, request: &Request) -> Response<Body> {
    // By which name the caller reached us: it works for them.
    let host = request.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.filter(|host| host.len() <= HOST_MAX && !host.is_empty()).unwrap_or("THIS-HOST:PORT");
    let keys: Vec<String> = policy.public_keys().map(ToString::to_string).collect();
    if !reply::wants_html(&request.headers) {
        return reply::text(text(host, &keys));
    }
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "A binary cache for Nix" }
            }
            body {
                main {
                    h1 { "A binary cache for Nix" }
                    p { "This is what a machine on your network shares of its Nix store, with Peernix. Any Nix can fetch from it." }
                    h2 { "Use it" }
                    p { "One line in nix.conf, then restart nix-daemon:" }
                    pre { "extra-substituters = http://" (host) }
                    h2 { "Whose paths are here" }
                    p { "Nix takes a path if one of the keys in its trusted-public-keys signed it. What is here was signed by one of these:" }
                    ul { @for key in &keys { li { code { (key) } } } }
                    p { "That of cache.nixos.org is known to every Nix. Another one lets in what its owner built: take it from its owner, and not from this page." }
                    p { "A machine with Peernix of its own finds this one by itself." }
                }
            }
        }
    };
    let mut response = reply::ok(media::HTML, keep::NEVER, page.into_string());
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, POLICY);
    response
}

fn text(host: &str, keys: &[String]) -> String {
    format!(
        "Peernix: a binary cache with what this machine's Nix store shares.\n\n\
         To use it, add its address to nix.conf:\n\n    extra-substituters = http://{host}\n\n\
         Only signed paths are here; Nix accepts those whose key is in its trusted-public-keys. Here it is one of:\n\n    {}\n",
        keys.join("\n    ")
    )
}
