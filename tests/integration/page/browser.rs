//! A Chromium that is told what to do by chromedriver.
//!
//! Source: <https://www.w3.org/TR/webdriver2/>.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// What of Chromium would reach out, or cannot be had here.
const OPTIONS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
];
/// The key that goes to the next thing, as WebDriver has it.
const TAB: &str = "\u{e004}";

/// How often it is tried to start the driver.
const STARTS: u32 = 4;

/// The port on which a driver listens; what it said instead, if it ends without one.
async fn said_port(driver: &mut Child) -> Result<String, String> {
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    let mut said = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some(port) = line.split("successfully on port ").nth(1) {
            // Whatever else it says is read, so that it can say it.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok(port.trim_end_matches('.').to_owned());
        }
        said += &line;
        said.push('\n');
    }
    Err(said)
}

/// A browser with one window.
pub(super) struct Browser {
    driver: Child,
    address: String,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// Starts one; `None` if there is none.
    pub(super) async fn start() -> Option<Self> {
        let mut tries = STARTS - 1;
        let (driver, port) = loop {
            let mut driver = Command::new("chromedriver");
            driver.arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
            let mut driver = driver.spawn().ok()?;
            match said_port(&mut driver).await {
                Ok(port) => break (driver, port),
                // The port that it was given for IPv4 may be somebody else's for IPv6: it ends then, and has another one the next time.
                Err(_) if tries > 0 => tries -= 1,
                Err(said) => panic!("chromedriver does not say its port, but: {said}"),
            }
        };
        let profile = tempfile::tempdir().unwrap();
        let mut options: Vec<String> = OPTIONS.map(str::to_owned).into();
        options.push(format!("--user-data-dir={}", profile.path().display()));
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": options },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let mut browser =
            Self { driver, address: format!("127.0.0.1:{port}"), session: String::new(), _profile: profile };
        let session = browser.ask(Method::POST, "/session", &wanted).await;
        browser.session = format!("/session/{}", session["sessionId"].as_str().unwrap());
        Some(browser)
    }

    async fn ask(&self, method: Method, path: &str, body: &Value) -> Value {
        let stream = TcpStream::connect(&self.address).await.unwrap();
        let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let body = if method != Method::POST { Bytes::new() } else { body.to_string().into() };
        let request = Request::builder().method(method).uri(path).header("host", &self.address);
        let request = request.header("content-type", "application/json").body(Full::new(body)).unwrap();
        let answer = send.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
        let mut answer: Value = serde_json::from_slice(&answer).unwrap();
        assert!(answer["value"].get("error").is_none(), "{path}: {}", answer["value"]);
        answer["value"].take()
    }

    async fn tell(&self, what: &str, body: Value) -> Value {
        self.ask(Method::POST, &format!("{}{what}", self.session), &body).await
    }

    async fn command(&self, name: &str, parameters: Value) -> Value {
        self.tell("/goog/cdp/execute", json!({ "cmd": name, "params": parameters })).await
    }

    /// Goes there.
    pub(super) async fn open(&self, url: &str) {
        self.tell("/url", json!({ "url": url })).await;
    }

    /// Runs a script in the page; what it returns.
    pub(super) async fn run(&self, script: &str, arguments: Value) -> Value {
        self.tell("/execute/sync", json!({ "script": script, "args": arguments })).await
    }

    /// The same for one that says later what it comes to, to its argument.
    pub(super) async fn run_async(&self, script: &str) -> Value {
        self.tell("/execute/async", json!({ "script": script, "args": [] })).await
    }

    /// From now on the window is so wide, and its user likes it light or dark.
    pub(super) async fn looks(&self, width: u32, scheme: &str) {
        let size = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.command("Emulation.setDeviceMetricsOverride", size).await;
        let scheme = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.command("Emulation.setEmulatedMedia", scheme).await;
    }

    /// Presses Tab.
    pub(super) async fn tab(&self) {
        let keys = ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": TAB }));
        self.tell("/actions", json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": keys }] })).await;
    }

    /// Draws all of the page into a file.
    pub(super) async fn picture(&self, file: &Path) {
        let picture = self.command("Page.captureScreenshot", json!({ "captureBeyondViewport": true })).await;
        let picture = data_encoding::BASE64.decode(picture["data"].as_str().unwrap().as_bytes()).unwrap();
        std::fs::write(file, picture).unwrap();
    }

    /// What the browser had to say of the page that is worth more than a note.
    pub(super) async fn complaints(&self) -> Vec<String> {
        let log = self.tell("/se/log", json!({ "type": "browser" })).await;
        let bad = log.as_array().unwrap().iter().filter(|entry| entry["level"] != "INFO" && entry["level"] != "DEBUG");
        bad.map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }

    /// Closes it.
    pub(super) async fn end(&mut self) {
        self.ask(Method::DELETE, &self.session.clone(), &Value::Null).await;
        let _ = self.driver.kill().await;
    }
}
