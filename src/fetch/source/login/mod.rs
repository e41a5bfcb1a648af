//! How an upstream is shown who asks: a user and password, a token, or a client certificate.
//!
//! What is secret is wiped when its last user lets go of it, is never printed, and is sent to the upstream's own origin alone
//! (`super::upstream`).

mod certificate;
mod error;
mod netrc;

pub(crate) use certificate::ClientIdentity;
pub use error::LoginError;

use bytes::Bytes;
use data_encoding::BASE64;
use hyper::Uri;
use hyper::header::HeaderValue;
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// What an upstream is shown. Cheap to clone.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Login {
    authorization: Option<Authorization>,
    identity: Option<Arc<ClientIdentity>>,
}

impl Login {
    /// The login for the host of `url` in a file as Nix's `netrc-file`.
    ///
    /// # Errors
    /// Not such a file, or none for that host.
    pub fn netrc(file: &[u8], url: &Uri) -> Result<Self, LoginError> {
        let host = url.host().unwrap_or_default();
        let (user, password) = netrc::find(file, host)?.ok_or_else(|| LoginError::NoEntry(host.to_owned()))?;
        if user.contains(&b':') {
            return Err(LoginError::Malformed("a user's name has a colon, which HTTP cannot carry"));
        }
        let both = Zeroizing::new([user.as_slice(), b":", password.as_slice()].concat());
        let mut text = Zeroizing::new(vec![0; BASE64.encode_len(both.len())]);
        BASE64.encode_mut(&both, &mut text);
        Self::with_authorization(b"Basic ", &text)
    }

    /// A token, with or without a newline at its end.
    ///
    /// # Errors
    /// Not a token.
    pub fn bearer(token: &[u8]) -> Result<Self, LoginError> {
        let token = token.trim_ascii();
        // RFC 6750, section 2.1.
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
        if token.is_empty() || !token.iter().all(is_part) {
            return Err(LoginError::Malformed("it is not a token: letters, digits and -._~+/= on one line"));
        }
        Self::with_authorization(b"Bearer ", token)
    }

    /// The same, and a client certificate with its key, both as PEM.
    ///
    /// # Errors
    /// No certificate or no key in it, or they do not belong together.
    pub fn and_certificate(self, pem: &[u8]) -> Result<Self, LoginError> {
        Ok(Self { identity: Some(Arc::new(ClientIdentity::new(pem)?)), ..self })
    }

    fn with_authorization(scheme: &[u8], secret: &[u8]) -> Result<Self, LoginError> {
        // Made in one piece: a vector that grows leaves copies behind which nobody wipes.
        let bytes = Bytes::from_owner(Zeroizing::new([scheme, secret].concat()));
        let mut value = HeaderValue::from_maybe_shared(bytes)
            .map_err(|_| LoginError::Malformed("it has characters that HTTP cannot carry"))?;
        // Nobody who prints headers prints this one.
        value.set_sensitive(true);
        Ok(Self { authorization: Some(Authorization(value)), identity: None })
    }

    /// Whether a secret goes with each request, for whoever is on the way to read where there is no TLS.
    #[must_use]
    pub const fn sends_secret(&self) -> bool {
        self.authorization.is_some()
    }

    /// What is sent with each request.
    pub(crate) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref().map(|Authorization(value)| value)
    }

    /// What is shown while a TLS connection comes about.
    pub(crate) fn identity(&self) -> Option<&Arc<ClientIdentity>> {
        self.identity.as_ref()
    }
}

/// The value of the header, in memory that is wiped.
#[derive(Clone, PartialEq, Eq)]
struct Authorization(HeaderValue);

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("authorization", &self.authorization.is_some())
            .field("certificate", &self.identity.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(login: &Login) -> &str {
        std::str::from_utf8(login.authorization().unwrap().as_bytes()).unwrap()
    }

    #[test]
    fn users_and_tokens_become_headers() {
        let url = "https://cache.example.org/x".parse().unwrap();
        let login = Login::netrc(b"machine cache.example.org login aladdin password opensesame\n", &url).unwrap();
        assert_eq!(value(&login), "Basic YWxhZGRpbjpvcGVuc2VzYW1l");
        assert_eq!(value(&Login::bearer(b"mF_9.B5f-4.1JqM\n").unwrap()), "Bearer mF_9.B5f-4.1JqM");
        assert!(login.authorization().unwrap().is_sensitive());
    }

    #[test]
    fn what_is_no_login_is_refused_without_repeating_it() {
        let url: Uri = "https://cache.example.org".parse().unwrap();
        let errors = [
            Login::netrc(b"machine other.example.org login a password hunter2", &url),
            Login::netrc(b"hunter2", &url),
            Login::netrc(b"machine cache.example.org login a:b password hunter2", &url),
            Login::bearer(b""),
            Login::bearer(b"hunter2 hunter2"),
            Login::bearer(b"hunter2\r\nX: y"),
            Login::default().and_certificate(b"hunter2"),
            Login::default().and_certificate(b"-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n"),
        ];
        for error in errors {
            let error = error.unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let login = Login::bearer(b"hunter2").unwrap();
        assert_eq!(format!("{login:?}"), "Login { authorization: true, certificate: false }");
        assert!(!format!("{:?}", login.authorization()).contains("hunter2"));
    }
}
