//! How a machine joins by a short code: [SPAKE2](https://www.rfc-editor.org/rfc/rfc9382) over a connection whose two identities are
//! proved. Pure: both sides, their limits, and nothing of a network.
//!
//! The machine that invites shows the code, and an administrator types it in on the one that joins. Its first two digits only say which
//! invitation is meant; the others are the secret. Whoever listens learns nothing of it, and whoever takes part can try one guess for
//! each exchange, of which there are [`TRIES`]. The ids of both machines, as each side's TLS proved them, go into the exchange: somebody
//! in between, who has another key towards each of them, makes the two sides come to different results.
//!
//! Each side then shows that it came to the same result, the machine that invites first: so the other one knows whom it joins
//! before it says more, and a membership is made only for a machine that knew the code.

use crate::peers::identity::NodeId;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use spake2::{Ed25519Group, Identity, Password, Spake2};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use tokio::time::Instant;
use zeroize::Zeroizing;

/// How long a code is good for.
pub const LIFE: Duration = Duration::from_secs(60);
/// How often it may be tried, right or wrong.
pub const TRIES: u32 = 3;
/// How many digits a code has.
const DIGITS: usize = 10;
/// What the results of the two sides are shown with.
const INVITES: &[u8] = b"peernix pairing 1: the one who invites";
const JOINS: &[u8] = b"peernix pairing 1: the one who joins";

/// How a side shows what it came to.
pub type Proof = [u8; 32];

/// Why an exchange came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PairingError {
    /// Nobody invites by this code, or not any more.
    #[error("no invitation with this number is open: codes are good for a minute, for one machine and for three tries")]
    NoInvitation,
    /// The two sides came to different results.
    #[error("the code is wrong, or somebody is between the two machines")]
    Mismatch,
    /// What the other side sent is not what this exchange has.
    #[error("the other side does not answer as this exchange asks for")]
    Malformed,
}

/// A code as people see it: `37-4821-9375`.
#[derive(Clone, PartialEq, Eq)]
pub struct Code(Zeroizing<String>);

impl Code {
    /// A new one. It is as random as the kernel is.
    ///
    /// # Errors
    /// The kernel has no randomness, so early after a start.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut digits = Zeroizing::new(String::with_capacity(DIGITS));
        while digits.len() < DIGITS {
            // Of 256 numbers the last six would make some digits likelier than others.
            let mut byte = [0];
            getrandom::fill(&mut byte)?;
            if byte[0] < 250 {
                digits.push(char::from(b'0' + byte[0] % 10));
            }
        }
        Ok(Self(digits))
    }

    /// Which invitation is meant: what everybody may see of it.
    #[must_use]
    pub fn number(&self) -> &str {
        &self.0[..2]
    }

    fn password(&self) -> Password {
        Password::new(self.0.as_bytes())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", &self.0[..2], &self.0[2..6], &self.0[6..])
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({}-…)", self.number())
    }
}

impl FromStr for Code {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits: String = text.chars().filter(|c| !matches!(c, '-' | ' ')).collect();
        if digits.len() == DIGITS && digits.bytes().all(|c| c.is_ascii_digit()) {
            Ok(Self(Zeroizing::new(digits)))
        } else {
            Err("a code has ten digits, such as 37-4821-9375".to_owned())
        }
    }
}

fn identity(id: NodeId) -> Identity {
    Identity::new(id.as_bytes())
}

fn proof(key: &[u8], of: &[u8]) -> Hmac<Sha256> {
    // HMAC takes keys of any length.
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).unwrap_or_else(|_| unreachable!("any length fits"));
    mac.update(of);
    mac
}

/// The side that invites, for as long as its code is good.
pub struct Inviter {
    code: Code,
    us: NodeId,
    until: Instant,
    tries: u32,
    /// Who is in the middle of the exchange, and what we came to with it.
    pending: Option<(NodeId, Zeroizing<Vec<u8>>)>,
}

impl Inviter {
    /// Invites by `code` from now on.
    #[must_use]
    pub fn new(code: Code, us: NodeId, now: Instant) -> Self {
        Self { code, us, until: now + LIFE, tries: 0, pending: None }
    }

    /// `joiner`, whose identity is proved, begins: our message, and the proof that we know the code. This is one of its tries.
    ///
    /// # Errors
    /// It is another code's number, or too late, or once too often; or no message.
    pub fn begins(
        &mut self,
        number: &str,
        joiner: NodeId,
        message: &[u8],
        now: Instant,
    ) -> Result<(Vec<u8>, Proof), PairingError> {
        if number != self.code.number() || now >= self.until || self.tries >= TRIES {
            return Err(PairingError::NoInvitation);
        }
        self.tries += 1;
        self.pending = None;
        let (exchange, ours) =
            Spake2::<Ed25519Group>::start_b(&self.code.password(), &identity(joiner), &identity(self.us));
        let key = Zeroizing::new(exchange.finish(message).map_err(|_| PairingError::Malformed)?);
        let shown = proof(&key, INVITES).finalize().into_bytes().into();
        self.pending = Some((joiner, key));
        Ok((ours, shown))
    }

    /// `joiner` shows that it came to the same: it may come in, and nobody else by this code.
    ///
    /// # Errors
    /// It did not, or another one began meanwhile, or it is too late.
    pub fn ends(&mut self, joiner: NodeId, shown: &[u8], now: Instant) -> Result<(), PairingError> {
        let Some((pending, key)) = self.pending.take() else { return Err(PairingError::NoInvitation) };
        if pending != joiner || now >= self.until {
            return Err(PairingError::NoInvitation);
        }
        proof(&key, JOINS).verify_slice(shown).map_err(|_| PairingError::Mismatch)?;
        (self.tries, self.until) = (TRIES, now);
        Ok(())
    }
}

/// The side that joins, in the middle of the exchange.
pub struct Joiner(Spake2<Ed25519Group>);

impl Joiner {
    /// Begins with `inviter`, whose identity is proved; gives the message for it.
    #[must_use]
    pub fn begin(code: &Code, us: NodeId, inviter: NodeId) -> (Self, Vec<u8>) {
        let (exchange, message) = Spake2::<Ed25519Group>::start_a(&code.password(), &identity(us), &identity(inviter));
        (Self(exchange), message)
    }

    /// Looks at what the other side came to, and gives the proof that we came to the same.
    ///
    /// # Errors
    /// It came to something else: the code is wrong, or this is not the machine that shows it.
    pub fn end(self, message: &[u8], shown: &[u8]) -> Result<Proof, PairingError> {
        let key = Zeroizing::new(self.0.finish(message).map_err(|_| PairingError::Malformed)?);
        proof(&key, INVITES).verify_slice(shown).map_err(|_| PairingError::Mismatch)?;
        Ok(proof(&key, JOINS).finalize().into_bytes().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::NodeKey;
    use proptest::prelude::*;

    fn node(seed: u8) -> NodeId {
        NodeKey::from_seed([seed; 32]).id()
    }

    fn code(text: &str) -> Code {
        text.parse().unwrap()
    }

    fn invites() -> (Inviter, Instant) {
        let now = Instant::now();
        (Inviter::new(code("37-4821-9375"), node(1), now), now)
    }

    /// What both sides come to, where the code that is typed in is `typed`.
    fn exchange(inviter: &mut Inviter, typed: &str, joiner: NodeId, now: Instant) -> Result<(), PairingError> {
        let typed = code(typed);
        let (joining, message) = Joiner::begin(&typed, joiner, node(1));
        let (theirs, shown) = inviter.begins(typed.number(), joiner, &message, now)?;
        inviter.ends(joiner, &joining.end(&theirs, &shown)?, now)
    }

    #[test]
    fn the_right_code_lets_in_one_machine() {
        let (mut inviter, now) = invites();
        assert_eq!(exchange(&mut inviter, "37 4821 9375", node(2), now), Ok(()));
        assert_eq!(exchange(&mut inviter, "37-4821-9375", node(3), now), Err(PairingError::NoInvitation));
    }

    #[test]
    fn a_wrong_code_is_noticed_by_both_and_tried_three_times() {
        let (mut inviter, now) = invites();
        assert_eq!(exchange(&mut inviter, "38-4821-9375", node(2), now), Err(PairingError::NoInvitation), "no try");
        for _ in 0..TRIES {
            assert_eq!(exchange(&mut inviter, "37-4821-9374", node(2), now), Err(PairingError::Mismatch));
            assert_eq!(inviter.ends(node(2), &[7; 32], now), Err(PairingError::Mismatch));
        }
        assert_eq!(exchange(&mut inviter, "37-4821-9375", node(2), now), Err(PairingError::NoInvitation));
    }

    #[test]
    fn it_is_over_after_a_minute() {
        let (mut inviter, now) = invites();
        assert_eq!(exchange(&mut inviter, "37-4821-9375", node(2), now + LIFE), Err(PairingError::NoInvitation));
        let last = now + LIFE - Duration::from_millis(1);
        assert_eq!(exchange(&mut inviter, "37-4821-9375", node(2), last), Ok(()));
    }

    #[test]
    fn who_is_in_between_gets_nowhere() {
        // It has a key of its own towards each side, and passes on what they say.
        let (mut inviter, now) = invites();
        let (between, right) = (node(9), code("37-4821-9375"));
        let (joining, message) = Joiner::begin(&right, node(2), between);
        let (theirs, shown) = inviter.begins("37", between, &message, now).unwrap();
        assert_eq!(joining.end(&theirs, &shown), Err(PairingError::Mismatch));
    }

    #[test]
    fn what_was_heard_before_is_worth_nothing() {
        let (mut first, now) = invites();
        let right = code("37-4821-9375");
        let (joining, message) = Joiner::begin(&right, node(2), node(1));
        let (theirs, shown) = first.begins("37", node(2), &message, now).unwrap();
        let ours = joining.end(&theirs, &shown).unwrap();
        // The same messages at another invitation that happens to have the same code.
        let (mut second, now) = invites();
        second.begins("37", node(2), &message, now).unwrap();
        assert_eq!(second.ends(node(2), &ours, now), Err(PairingError::Mismatch));
        // And by another machine at this one.
        assert_eq!(first.ends(node(3), &ours, now), Err(PairingError::NoInvitation));
        assert_eq!(first.ends(node(2), &ours, now), Err(PairingError::NoInvitation), "the exchange is over");
    }

    #[test]
    fn codes_are_read_as_people_write_them() {
        let random = Code::random().unwrap();
        assert_eq!(random.to_string().parse::<Code>().unwrap(), random);
        assert!(!format!("{random:?}").contains(&random.to_string()[3..7]));
        for bad in ["", "37-4821-937", "37-4821-93755", "3a-4821-9375", "٣٧-4821-9375"] {
            assert!(bad.parse::<Code>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_message_disturbs_it(message in proptest::collection::vec(any::<u8>(), 0..80), shown in proptest::collection::vec(any::<u8>(), 0..80)) {
            let (mut inviter, now) = invites();
            let _ = inviter.begins("37", node(2), &message, now);
            prop_assert!(inviter.ends(node(2), &shown, now).is_err());
            let (joining, _) = Joiner::begin(&code("37-4821-9375"), node(2), node(1));
            prop_assert!(joining.end(&message, &shown).is_err());
        }
    }
}
