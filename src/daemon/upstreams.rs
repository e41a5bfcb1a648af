//! The upstreams of a configuration with their logins, which are read anew each time.

use crate::config::{Config, Credential, NixConf, Upstream};
use crate::fetch::{Login, LoginError, UpstreamOptions};
use crate::files;
use crate::keys::TrustList;
use crate::store::{PatternError, Patterns};
use crate::system::credentials::{self, CredentialError};
use hyper::Uri;
use log::Level;
use std::io::ErrorKind;
use thiserror::Error;
use zeroize::Zeroizing;

/// The largest file of logins of Nix that is read, in bytes.
const NETRC_MAX: u64 = 64 * 1024;

/// Upstreams, and what there is to say about them.
#[derive(Debug, Default)]
pub(super) struct Upstreams {
    pub(super) options: Vec<UpstreamOptions>,
    /// Why one is left out, for each that is.
    pub(super) left_out: Vec<String>,
    /// What is worth a look, and how much.
    pub(super) notices: Vec<(Level, String)>,
}

impl Upstreams {
    /// Tells the administrator what is worth a look.
    pub(super) fn tell(&self, trust: &TrustList) {
        let untrusted = untrusted_keys(&self.options, trust).into_iter().map(|notice| (Level::Warn, notice));
        for (level, notice) in self.notices.iter().cloned().chain(untrusted) {
            log::log!(level, "{notice}");
        }
    }
}

/// Why an upstream cannot be asked.
#[derive(Debug, Error)]
enum Unusable {
    #[error(transparent)]
    Credential(#[from] CredentialError),
    #[error("the credential '{0}': {1}")]
    Login(String, LoginError),
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

/// Reads the logins of all upstreams. Blocks, on a few small files.
pub(super) fn read(config: &Config) -> Upstreams {
    let mut upstreams = Upstreams::default();
    let mut nix = None;
    for upstream in &config.gateway.upstreams {
        let login = match &upstream.credential {
            Some(credential) => from_credential(credential, upstream.uri()),
            None => Ok(nix
                .get_or_insert_with(|| NixLogins::read(&NixConf::read(), &mut upstreams.notices))
                .of(upstream.uri())),
        };
        match login.and_then(|login| options(upstream, login)) {
            Ok(options) => {
                if options.login.sends_secret() && is_readable_on_the_way(upstream.uri()) {
                    let notice =
                        format!("the login for {upstream} is sent without TLS: whoever is on the way can read it");
                    upstreams.notices.push((Level::Warn, notice));
                }
                upstreams.options.push(options);
            }
            Err(error) => upstreams.left_out.push(format!("the upstream {upstream} is not asked: {error}")),
        }
    }
    upstreams
}

fn options(upstream: &Upstream, login: Login) -> Result<UpstreamOptions, Unusable> {
    Ok(UpstreamOptions {
        url: upstream.uri().clone(),
        login,
        public_keys: upstream.public_keys.clone(),
        allow: upstream.allow.clone().map(Patterns::new).transpose()?,
        deny: Patterns::new(upstream.deny.clone())?,
        tier: upstream.tier,
    })
}

fn from_credential(credential: &Credential, url: &Uri) -> Result<Login, Unusable> {
    let mut login = Login::default();
    for (key, name) in credential.names() {
        let secret = credentials::require(name)?;
        login = match key {
            "netrc" => Login::netrc(&secret, url),
            "bearer" => Login::bearer(&secret),
            // The last of them.
            _ => login.and_certificate(&secret),
        }
        .map_err(|error| Unusable::Login(name.to_owned(), error))?;
    }
    Ok(login)
}

/// The logins that this machine's Nix has for its caches.
struct NixLogins(Option<Zeroizing<Vec<u8>>>);

impl NixLogins {
    /// Reads them, if there are any and this user may.
    fn read(nix: &NixConf, notices: &mut Vec<(Level, String)>) -> Self {
        let Some(file) = &nix.netrc_file else { return Self(None) };
        let shown = file.display();
        // It may be a link to where secrets are kept.
        let read = file.canonicalize().and_then(|file| files::read_private(&file, NETRC_MAX, 0));
        match read {
            Ok(content) => Self(content),
            Err(error) if error.kind() == ErrorKind::NotFound => Self(None),
            Err(error) => {
                let notice = format!(
                    "{shown} (netrc-file of nix.conf): {error}; if an upstream needs a login of it, hand the file over as a credential \
                     (LoadCredential=netrc:{shown}) and write credential = {{ netrc = \"netrc\" }} with the upstream's url"
                );
                notices.push((Level::Info, notice));
                Self(None)
            }
        }
    }

    /// The login for a URL; none if there is none, or if the file is not one of logins: that is Nix's business.
    fn of(&self, url: &Uri) -> Login {
        self.0.as_deref().and_then(|file| Login::netrc(file, url).ok()).unwrap_or_default()
    }
}

/// Whether what is sent there goes over a network as it is.
fn is_readable_on_the_way(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default();
    let is_here = host == "localhost" || host == "[::1]" || host.starts_with("127.");
    url.scheme_str() == Some("http") && !is_here
}

/// What to say of keys by which upstreams may vouch for paths, and which do not count because nobody trusts them.
fn untrusted_keys(upstreams: &[UpstreamOptions], trust: &TrustList) -> Vec<String> {
    let trusted: Vec<String> =
        trust.list().into_iter().filter(|key| !key.distrusted).map(|key| key.public_key).collect();
    let mut notices = Vec::new();
    for upstream in upstreams {
        let keys = upstream.public_keys.iter().flatten();
        notices.extend(keys.filter(|key| !trusted.contains(&key.to_string())).map(|key| {
            format!(
                "{key} is one of public_keys of the upstream {}, and is not trusted: what only it signed is not taken; add it to \
                 trusted-public-keys of nix.conf, which Nix checks as well, or leave it out",
                upstream.url
            )
        }));
    }
    notices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nix_has_logins_for_who_has_no_credential() {
        let folder = tempfile::tempdir().unwrap();
        let netrc = folder.path().join("netrc");
        let mut nix = NixConf::default();
        nix.netrc_file = Some(netrc.clone());
        let url: Uri = "https://cache.example.org".parse().unwrap();
        let of = |url: &Uri| {
            let mut notices = Vec::new();
            (NixLogins::read(&nix, &mut notices).of(url), notices)
        };
        assert_eq!(of(&url), (Login::default(), vec![]), "there is no such file");
        std::fs::write(&netrc, "machine cache.example.org login a password b\n").unwrap();
        let (login, notices) = of(&url);
        assert!(login.sends_secret() && notices.is_empty());
        assert_eq!(of(&"https://other.example.org".parse().unwrap()), (Login::default(), vec![]));
        std::fs::remove_file(&netrc).unwrap();
        std::fs::create_dir(&netrc).unwrap();
        let (login, notices) = of(&url);
        let [(Level::Info, notice)] = &notices[..] else { panic!("{notices:?}") };
        assert!(!login.sends_secret() && notice.contains("LoadCredential=netrc:/"), "{notice}");
    }

    #[test]
    fn a_login_that_is_missing_leaves_its_upstream_out_and_no_other() {
        let config = Config::from_text(
            "[gateway]\nupstreams = [\"https://a.example.org\", { url = \"https://b.example.org\", credential = { bearer = \"none\" } }]\n",
            None,
        )
        .unwrap();
        let upstreams = read(&config);
        assert_eq!(upstreams.options.len(), 1);
        let [why] = &upstreams.left_out[..] else { panic!("{upstreams:?}") };
        assert!(why.starts_with("the upstream https://b.example.org/ is not asked: "), "{why}");
        assert!(why.contains("'none'") && why.contains("$CREDENTIALS_DIRECTORY"), "{why}");
    }
}
