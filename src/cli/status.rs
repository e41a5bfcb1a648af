//! `peernixctl status`.

use super::{client, output};
use anyhow::Context as _;
use serde_json::{Map, Value};
use std::net::SocketAddr;

/// Shows what the gateway says of itself.
pub(super) async fn run(gateways: &[SocketAddr], json: bool) -> anyhow::Result<u8> {
    let (gateway, answer) = client::ask(gateways, "/health").await?;
    let health: Map<String, Value> =
        serde_json::from_slice(&answer).with_context(|| format!("{gateway}/health is not what peernixd says"))?;
    let text = if json { output::json(&Value::Object(health)) } else { render(gateway, &health, output::coloured()) };
    output::print(&text)?;
    Ok(0)
}

/// One line a fact, the names in a column. A fact that is new in the service is shown without knowing it here.
fn render(gateway: SocketAddr, health: &Map<String, Value>, coloured: bool) -> String {
    let dot = if coloured { "\u{1b}[32m●\u{1b}[0m" } else { "●" };
    let mut facts = vec![("gateway".to_owned(), format!("http://{gateway}"))];
    facts.extend(health.iter().map(|(name, value)| (name.replace('_', " "), fact(value))));
    let width = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let mut text = format!("{dot} peernixd runs\n");
    for (name, value) in facts {
        text.push_str(&format!("  {:>width$}: {}\n", output::tame(&name), output::tame(&value)));
    }
    text
}

/// A value without the quotes of JSON.
fn fact(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(fact).collect::<Vec<_>>().join(", "),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_line_up() {
        let health = serde_json::from_str(r#"{"peers_online":2,"state":"running"}"#).unwrap();
        let text = render("127.0.0.1:7649".parse().unwrap(), &health, false);
        assert_eq!(
            text,
            "● peernixd runs\n       gateway: http://127.0.0.1:7649\n  peers online: 2\n         state: running\n"
        );
    }
}
