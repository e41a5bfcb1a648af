//! A fleet as the rooms see it: who is a member, what this machine shows and tells, and what an administrator does with it.

use super::ENROLS;
use super::error::FleetError;
use super::membership::{MEMBERSHIP_MAX, Membership, Role, VALID, VALID_MAX, are_sound, is_sound, seconds};
use super::messages::{Document, PairingReply, PairingRequest};
use super::pairing::{Code, Inviter, LIFE, PairingError};
use super::revocations::Revocations;
use super::roster::{Refusal, Roster};
use super::signed::{FleetId, FleetKey, NotSigned};
use super::stored::{self, Stored};
use crate::peers::error::PeersError;
use crate::peers::hello::Hello;
use crate::peers::identity::NodeId;
use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use parking_lot::{Mutex, RwLock};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::time::Instant;
use zeroize::Zeroizing;

/// What [`Fleet::open`] is told.
#[derive(Default)]
pub struct FleetOptions {
    /// What this machine is called.
    pub name: String,
    /// Where the files are; `None` keeps nothing.
    pub state_dir: Option<PathBuf>,
    /// `[fleet] public_key`; without, the one that this machine founded or joined.
    pub fleet: Option<FleetId>,
    /// The credential `fleet-key`, if there is one.
    pub credential: Option<Zeroizing<Vec<u8>>>,
}

/// What an administrator wants a machine to be enrolled as.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Enrolment {
    /// What people call it.
    pub name: String,
    /// Where it is.
    pub site: String,
    /// What it may do for others beside sharing; empty: all of it.
    pub roles: Vec<String>,
    /// For how long, after which it ends; `None`: for a year, and it is renewed in time.
    pub valid: Option<Duration>,
}

/// An open invitation.
#[derive(Debug, Clone)]
pub struct Invited {
    /// The code to type in on the other machine.
    pub code: Code,
    /// For how long it is good.
    pub life: Duration,
}

/// What is known of the fleet, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FleetView {
    /// Which it is; `None`: this machine belongs to none.
    pub fleet: Option<FleetId>,
    /// Whether this machine has its secret key.
    pub has_key: bool,
    /// What this machine shows.
    pub ours: Option<Membership>,
    /// Why that does not count, if so.
    pub refusal: Option<Refusal>,
    /// What others have shown.
    pub members: Vec<Membership>,
    /// Who was revoked, and when, in seconds since 1970.
    pub revoked: Vec<(NodeId, u64)>,
    /// The number of that list.
    pub serial: u64,
}

/// The fleet of this machine, if it belongs to one. A cheap handle: clones are the same.
#[derive(Clone)]
pub struct Fleet(Arc<Inner>);

struct Inner {
    us: NodeId,
    name: String,
    state_dir: Option<PathBuf>,
    /// What the configuration says.
    configured: Option<FleetId>,
    state: RwLock<State>,
    invitation: Mutex<Option<Inviter>>,
    /// One change at a time, so that the file always tells the latest.
    changing: tokio::sync::Mutex<()>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    roster: Option<Roster>,
    key: Option<Arc<FleetKey>>,
    membership: Option<Arc<str>>,
    revocations: Option<Arc<str>>,
}

impl PartialEq for Fleet {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Fleet {}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl Fleet {
    /// Of a machine that belongs to none, and keeps nothing.
    #[must_use]
    pub fn none(us: NodeId) -> Self {
        Self::with(us, FleetOptions::default(), State::default())
    }

    fn with(us: NodeId, options: FleetOptions, state: State) -> Self {
        Self(Arc::new(Inner {
            us,
            name: options.name,
            state_dir: options.state_dir,
            configured: options.fleet,
            state: RwLock::new(state),
            invitation: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            changes: watch::Sender::new(0),
        }))
    }

    /// Reads what is kept, off the reactor. A machine that has the fleet key is always a member.
    ///
    /// # Errors
    /// A file that cannot be read, or makes no sense; a credential that is no key.
    pub async fn open(us: NodeId, options: FleetOptions) -> Result<Self, PeersError> {
        let (stored, kept) = match options.state_dir.clone() {
            None => (Stored::default(), None),
            Some(dir) => blocking(move || Ok((Stored::read(&dir)?, stored::read_key(&dir)?))).await?,
        };
        let credential = options
            .credential
            .as_ref()
            .map(|secret| FleetKey::from_secret(secret).ok_or(PeersError::FleetCredential(secret.len())));
        let keys = [credential.transpose()?, kept];
        let first = keys.iter().flatten().map(FleetKey::id).next();
        let Some(fleet) = options.fleet.or(stored.fleet).or(first) else {
            return Ok(Self::with(us, options, State::default()));
        };
        let (fitting, others): (Vec<_>, Vec<_>) = keys.into_iter().flatten().partition(|key| key.id() == fleet);
        for other in others {
            log::warn!(
                "a fleet key is not used: it is that of the fleet {}, and this machine belongs to the fleet {fleet}",
                other.id()
            );
        }
        let key = fitting.into_iter().next().map(Arc::new);
        let mut roster = Roster::new(fleet);
        let is_ours = stored.fleet == Some(fleet);
        let revocations = stored.revocations.filter(|_| is_ours).map(Arc::<str>::from);
        if let Some(token) = &revocations {
            let senseless =
                |why| PeersError::Fleet { path: stored::FILE.into(), problem: format!("its revocations: {why}") };
            roster.adopt(Revocations::open(token, fleet).map_err(senseless)?);
        }
        let membership = stored.membership.filter(|_| is_ours).map(Arc::<str>::from);
        let opened = Self::with(us, options, State { roster: Some(roster), key, membership, revocations });
        opened.renew_own().await?;
        Ok(opened)
    }

    /// With the fleet key at hand, this machine's own membership never ends, as long as this is called now and then.
    ///
    /// # Errors
    /// It cannot be kept.
    pub(in crate::peers) async fn renew_own(&self) -> Result<(), PeersError> {
        let Some(key) = self.0.state.read().key.clone() else { return Ok(()) };
        let (now, ours) = (SystemTime::now(), self.ours().filter(|ours| ours.node == self.0.us));
        // Whoever has the key is a member in any case.
        let is_enough = |ours: &Membership| !(ours.is_final || ours.is_over(now) || ours.is_to_be_renewed(now));
        if ours.as_ref().is_some_and(is_enough) {
            return Ok(());
        }
        let (site, roles) = ours.map(|ours| (ours.site, ours.roles)).unwrap_or_default();
        let own = Enrolment { name: self.0.name.clone(), site, roles, valid: None };
        let token = membership(&key, self.0.us, &own, now).to_token(&key);
        self.change(|state| {
            state.membership = Some(token.into());
            true
        })
        .await
    }

    /// What this machine shows, read.
    fn ours(&self) -> Option<Membership> {
        let (token, fleet) = {
            let state = self.0.state.read();
            (state.membership.clone()?, state.roster.as_ref()?.fleet())
        };
        Membership::open(&token, Some(fleet)).ok()
    }

    /// Which fleet it is; `None`: this machine belongs to none.
    #[must_use]
    pub fn id(&self) -> Option<FleetId> {
        self.0.state.read().roster.as_ref().map(Roster::fleet)
    }

    /// What this machine shows with its greetings, and the number of the list of revocations that it knows.
    #[must_use]
    pub fn told(&self) -> (Option<Arc<str>>, u64) {
        let state = self.0.state.read();
        (state.membership.clone(), state.roster.as_ref().map_or(0, |roster| roster.revocations().serial))
    }

    /// Whether this machine enrols others.
    #[must_use]
    pub fn enrols(&self) -> bool {
        self.0.state.read().key.is_some()
    }

    /// Moves whenever what this machine tells, or who is let in, changes.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// `node`, whose identity is proved, shows a membership, or nothing new: whether it is a member.
    ///
    /// # Errors
    /// Why it is none.
    pub fn present(&self, node: NodeId, token: Option<&str>) -> Result<(), Refusal> {
        let Some(token) = token.filter(|token| !token.is_empty()) else { return self.standing(node) };
        // Whether it is signed is found out before others are kept waiting.
        let shown = Membership::open(token, Some(self.id().ok_or(Refusal::NoFleet)?))?;
        let mut state = self.0.state.write();
        state.roster.as_mut().ok_or(Refusal::NoFleet)?.shows(node, shown, SystemTime::now())
    }

    /// Whether `node` is a member by what it has shown so far. Takes nanoseconds.
    ///
    /// # Errors
    /// Why it is none.
    pub fn standing(&self, node: NodeId) -> Result<(), Refusal> {
        let state = self.0.state.read();
        state.roster.as_ref().ok_or(Refusal::NoFleet)?.standing(node, SystemTime::now()).map(|_| ())
    }

    /// Whether the membership that `node` has shown lets it take part in `site`; one that names none is good for each.
    #[must_use]
    pub fn is_of_site(&self, node: NodeId, site: &str) -> bool {
        self.member(node, |member| member.site.is_empty() || member.site == site)
    }

    /// Whether the membership that `node` has shown, or this machine's own, lets it do that for others.
    #[must_use]
    pub fn may(&self, node: NodeId, role: Role) -> bool {
        if node == self.0.us {
            return self.ours().is_none_or(|ours| ours.may(role));
        }
        self.member(node, |member| member.may(role))
    }

    /// What holds of a member; false for anybody else.
    fn member(&self, node: NodeId, holds: impl FnOnce(&Membership) -> bool) -> bool {
        let state = self.0.state.read();
        let standing = state.roster.as_ref().and_then(|roster| roster.standing(node, SystemTime::now()).ok());
        standing.is_some_and(holds)
    }

    /// Whether a member has something of the fleet to tell that this machine does not know yet.
    pub(in crate::peers) fn wants_from(&self, hello: &Hello) -> bool {
        let knows = self.0.state.read().roster.as_ref().map(|roster| roster.revocations().serial);
        let Some(serial) = knows else { return false };
        if hello.revocations > serial {
            return true;
        }
        let is_renewed = || self.ours().is_some_and(|ours| ours.is_to_be_renewed(SystemTime::now()));
        hello.has(ENROLS) && !self.enrols() && is_renewed()
    }

    /// What a member that asks is told; `None` for anybody else.
    #[must_use]
    pub fn document(&self, asker: NodeId) -> Option<Bytes> {
        let state = self.0.state.read();
        let now = SystemTime::now();
        let member = state.roster.as_ref()?.standing(asker, now).ok()?;
        let membership = state.key.as_ref().filter(|_| member.is_to_be_renewed(now)).map(|key| {
            let not_after = seconds(now) + VALID.as_secs();
            Membership { not_after, ..member.clone() }.to_token(key)
        });
        let document = Document { revocations: state.revocations.as_deref().map(str::to_owned), membership };
        serde_json::to_vec(&document).ok().map(Bytes::from)
    }

    /// Takes over what a member told, if it is newer; whether it was. A member is believed nothing: all of it is signed, and whoever joins
    /// another fleet is told so by its own administrator.
    ///
    /// # Errors
    /// It is not as members write it; or it cannot be kept.
    pub(in crate::peers) async fn learn(&self, document: &[u8]) -> Result<bool, FleetError> {
        let document: Document = serde_json::from_slice(document)
            .map_err(|_| FleetError::Argument("that is not what members of a fleet tell".to_owned()))?;
        let mut is_news = false;
        if let Some(token) = document.revocations {
            is_news |= self.adopt(token).await?;
        }
        if let Some(token) = document.membership {
            is_news |= self.renewed(&token).await?;
        }
        Ok(is_news)
    }

    /// Takes over a list of revocations, if it is newer; whether it was.
    async fn adopt(&self, token: String) -> Result<bool, FleetError> {
        let Some(fleet) = self.id() else { return Ok(false) };
        let not_signed = |why: NotSigned| FleetError::Argument(format!("the list of revocations: {why}"));
        // A thousand nodes, whose ids are points of a curve.
        let read = blocking(move || Ok(Revocations::open(&token, fleet).map(|list| (list, token)))).await?;
        let (list, token) = read.map_err(not_signed)?;
        let mut is_newer = false;
        self.change(|state| {
            is_newer = state.roster.as_mut().is_some_and(|roster| roster.adopt(list));
            if is_newer {
                state.revocations = Some(token.into());
            }
            is_newer
        })
        .await?;
        Ok(is_newer)
    }

    /// Takes over a membership of this machine that ends later than the one it has; whether it does.
    async fn renewed(&self, token: &str) -> Result<bool, FleetError> {
        let (Some(fleet), Some(ours)) = (self.id(), self.ours()) else { return Ok(false) };
        let refused = |why: Refusal| FleetError::Membership(why);
        let shown = Membership::open(token, Some(fleet)).map_err(|why| refused(why.into()))?;
        if shown.node != self.0.us {
            return Err(refused(Refusal::OfAnother(shown.node)));
        }
        if shown.not_after <= ours.not_after {
            return Ok(false);
        }
        self.change(|state| {
            let is_still = state.roster.as_ref().map(Roster::fleet) == Some(fleet);
            if is_still {
                state.membership = Some(token.into());
            }
            is_still
        })
        .await?;
        Ok(true)
    }

    /// Takes over a membership of this machine, and with it the fleet where it had none.
    ///
    /// # Errors
    /// It is another's, or of another fleet, or over; or it cannot be kept.
    pub async fn accept(&self, token: &str) -> Result<Membership, FleetError> {
        let shown = Membership::open(token, None).map_err(|why| FleetError::Membership(why.into()))?;
        if let Some(configured) = self.0.configured.filter(|configured| *configured != shown.fleet) {
            return Err(FleetError::OtherFleet { configured, found: shown.fleet });
        }
        if self.enrols() && self.id() != Some(shown.fleet) {
            return Err(self.id().map_or(FleetError::NoKey, FleetError::AlreadyIn));
        }
        Roster::new(shown.fleet).shows(self.0.us, shown.clone(), SystemTime::now()).map_err(FleetError::Membership)?;
        self.change(|state| {
            if state.roster.as_ref().map(Roster::fleet) != Some(shown.fleet) {
                *state = State { roster: Some(Roster::new(shown.fleet)), ..State::default() };
            }
            state.membership = Some(token.into());
            true
        })
        .await?;
        Ok(shown)
    }

    /// Founds a fleet: makes its key, of which this machine is the first member.
    ///
    /// # Errors
    /// This machine belongs to one already; or the key cannot be kept.
    pub async fn init(&self, site: &str) -> Result<FleetId, FleetError> {
        if let Some(fleet) = self.id() {
            return Err(FleetError::AlreadyIn(fleet));
        }
        let Some(dir) = self.0.state_dir.clone() else {
            return Err(FleetError::Argument("there is no state directory to keep the fleet key in".to_owned()));
        };
        let own = Enrolment { name: self.0.name.clone(), site: site.to_owned(), ..Enrolment::default() };
        check(&own)?;
        let key = Arc::new(blocking(move || stored::make_key(&dir)).await?);
        let own = membership(&key, self.0.us, &own, SystemTime::now());
        let (token, fleet) = (own.to_token(&key), key.id());
        self.change(|state| {
            let roster = Some(Roster::new(fleet));
            *state = State { roster, key: Some(key), membership: Some(token.into()), revocations: None };
            true
        })
        .await?;
        Ok(fleet)
    }

    /// Opens an invitation, which ends the one before.
    ///
    /// # Errors
    /// This machine does not have the fleet key.
    pub fn invite(&self) -> Result<Invited, FleetError> {
        if !self.enrols() {
            return Err(FleetError::NoKey);
        }
        let code = Code::random().map_err(|error| FleetError::Argument(format!("there is no randomness: {error}")))?;
        *self.0.invitation.lock() = Some(Inviter::new(code.clone(), self.0.us, Instant::now()));
        Ok(Invited { code, life: LIFE })
    }

    /// Answers the machine `joiner`, whose identity is proved, and which wants to join. One that was revoked and knows the code is a member
    /// again: somebody typed it in there.
    ///
    /// # Errors
    /// Nobody is invited, or it does not know the code.
    pub async fn pair(&self, joiner: NodeId, body: &[u8]) -> Result<PairingReply, PairingError> {
        let request: PairingRequest = serde_json::from_slice(body).map_err(|_| PairingError::Malformed)?;
        if let Some(reply) = self.exchange(joiner, &request)? {
            return Ok(reply);
        }
        let name = request.name.chars().filter(char::is_ascii_graphic).take(64).collect();
        let enrolment = Enrolment { name, ..Enrolment::default() };
        let enrolled = self.enroll(joiner, &enrolment).await.map_err(|error| {
            log::error!(peer:% = joiner, reason:% = error; "a machine that knows the code cannot be enrolled: {error}");
            PairingError::NoInvitation
        })?;
        log::info!(peer:% = joiner, name:% = enrolment.name; "a machine joined the fleet by a code");
        let revocations = self.0.state.read().revocations.as_deref().map(str::to_owned);
        Ok(PairingReply { membership: Some(enrolled), revocations, ..PairingReply::default() })
    }

    /// One step of the exchange; `None` once `joiner` has shown that it knows the code.
    fn exchange(&self, joiner: NodeId, request: &PairingRequest) -> Result<Option<PairingReply>, PairingError> {
        let bytes = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| PairingError::Malformed);
        let mut invitation = self.0.invitation.lock();
        let open = invitation.as_mut().ok_or(PairingError::NoInvitation)?;
        let now = Instant::now();
        match (&request.message, &request.proof) {
            (Some(message), None) => {
                let (message, proof) = open.begins(&request.number, joiner, &bytes(message)?, now)?;
                let [message, proof] = [&message[..], &proof[..]].map(|bytes| Some(BASE64URL_NOPAD.encode(bytes)));
                Ok(Some(PairingReply { message, proof, ..PairingReply::default() }))
            }
            (None, Some(proof)) => {
                open.ends(joiner, &bytes(proof)?, now)?;
                *invitation = None;
                Ok(None)
            }
            _ => Err(PairingError::Malformed),
        }
    }

    /// A membership for a machine, to be carried there. One that was revoked is a member again.
    ///
    /// # Errors
    /// This machine does not have the fleet key; a text is too long; the list of revocations cannot be kept.
    pub async fn enroll(&self, node: NodeId, enrolment: &Enrolment) -> Result<String, FleetError> {
        let key = self.0.state.read().key.clone().ok_or(FleetError::NoKey)?;
        if enrolment.valid.is_some_and(|valid| valid.is_zero() || valid > VALID_MAX) {
            let most = humantime::format_duration(VALID_MAX);
            return Err(FleetError::Argument(format!("a membership is good for a moment at least and {most} at most")));
        }
        check(enrolment)?;
        let token = membership(&key, node, enrolment, SystemTime::now()).to_token(&key);
        if token.len() > MEMBERSHIP_MAX {
            return Err(FleetError::Argument("the name, the site and the roles are too long".to_owned()));
        }
        let list = self.0.state.read().roster.as_ref().and_then(|roster| roster.without(node, SystemTime::now()));
        if let Some(list) = list {
            self.adopt(key.sign(&list)).await?;
        }
        Ok(token)
    }

    /// Ends the membership of a machine, whatever it shows. False if that was done already; it is written down then once more, in case that
    /// did not succeed.
    ///
    /// # Errors
    /// This machine does not have the fleet key; there are too many; the list cannot be kept.
    pub async fn revoke(&self, node: NodeId) -> Result<bool, FleetError> {
        if node == self.0.us {
            return Err(PeersError::Ourselves.into());
        }
        let (key, list) = {
            let state = self.0.state.read();
            let (Some(key), Some(roster)) = (&state.key, &state.roster) else { return Err(FleetError::NoKey) };
            let is_done = roster.revoked(node).is_some();
            let list = (!is_done).then(|| roster.with(node, SystemTime::now()).ok_or(FleetError::TooMany));
            (Arc::clone(key), list.transpose()?)
        };
        match list {
            Some(list) => self.adopt(key.sign(&list)).await,
            None => self.change(|_| true).await.map(|()| false).map_err(FleetError::from),
        }
    }

    /// All that is known, for people.
    #[must_use]
    pub fn view(&self) -> FleetView {
        let state = self.0.state.read();
        let Some(roster) = &state.roster else { return FleetView::default() };
        let (fleet, now) = (roster.fleet(), SystemTime::now());
        let ours = state.membership.as_deref().and_then(|token| Membership::open(token, Some(fleet)).ok());
        let refusal = match (&ours, roster.revoked(self.0.us)) {
            (_, Some(revoked)) => Some(revoked),
            (None, None) => Some(Refusal::NothingShown),
            (Some(ours), None) if ours.node != self.0.us => Some(Refusal::OfAnother(ours.node)),
            (Some(ours), None) => ours.is_over(now).then_some(Refusal::Over(ours.not_after)),
        };
        // A twin shows the membership of this machine.
        let mut members: Vec<Membership> =
            roster.members().filter(|member| member.node != self.0.us).cloned().collect();
        members.sort_by(|one, other| (&one.name, one.node).cmp(&(&other.name, other.node)));
        let revocations = roster.revocations();
        FleetView {
            fleet: Some(fleet),
            has_key: state.key.is_some(),
            ours,
            refusal,
            members,
            revoked: revocations.nodes.iter().map(|(node, since)| (*node, *since)).collect(),
            serial: revocations.serial,
        }
    }

    /// Changes something, or finds that there is nothing to change: in memory at once, where it counts, and on the disk before this is over.
    async fn change(&self, change: impl FnOnce(&mut State) -> bool) -> Result<(), PeersError> {
        let _changing = self.0.changing.lock().await;
        let stored = {
            let mut state = self.0.state.write();
            if !change(&mut state) {
                return Ok(());
            }
            let text = |token: &Option<Arc<str>>| token.as_deref().map(str::to_owned);
            let fleet = state.roster.as_ref().map(Roster::fleet);
            fleet.map(|fleet| Stored::new(fleet, text(&state.membership), text(&state.revocations)))
        };
        self.0.changes.send_modify(|count| *count = count.wrapping_add(1));
        match (self.0.state_dir.clone(), stored) {
            (Some(dir), Some(stored)) => blocking(move || stored.write(&dir)).await,
            _ => Ok(()),
        }
    }
}

impl Fleet {
    /// This machine joined: it takes over what it was given.
    pub(in crate::peers) async fn joined(
        &self,
        membership: &str,
        revocations: Option<String>,
    ) -> Result<Membership, FleetError> {
        let joined = self.accept(membership).await?;
        if let Some(token) = revocations {
            self.adopt(token).await?;
        }
        Ok(joined)
    }

    /// What this machine calls itself.
    pub(in crate::peers) fn name(&self) -> &str {
        &self.0.name
    }

    /// Refuses where this machine has the key of a fleet: whoever founded one does not join another.
    pub(in crate::peers) fn may_join(&self) -> Result<(), FleetError> {
        match self.id().filter(|_| self.enrols()) {
            Some(fleet) => Err(FleetError::AlreadyIn(fleet)),
            None => Ok(()),
        }
    }
}

fn membership(key: &FleetKey, node: NodeId, enrolment: &Enrolment, now: SystemTime) -> Membership {
    let valid = enrolment.valid.unwrap_or(VALID);
    Membership {
        fleet: key.id(),
        node,
        name: enrolment.name.clone(),
        site: enrolment.site.clone(),
        roles: enrolment.roles.clone(),
        not_after: seconds(now) + valid.as_secs().max(1),
        is_final: enrolment.valid.is_some(),
    }
}

/// Whether its texts can be shown to people.
fn check(enrolment: &Enrolment) -> Result<(), FleetError> {
    let is_sound = is_sound(&enrolment.name) && is_sound(&enrolment.site) && are_sound(&enrolment.roles);
    is_sound.then_some(()).ok_or_else(|| {
        let what =
            "a name, a site and each of up to 8 roles have 64 bytes at most, and nothing that disturbs a terminal";
        FleetError::Argument(what.to_owned())
    })
}

/// Does what blocks, off the reactor.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PeersError> + Send + 'static,
) -> Result<T, PeersError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(PeersError::file("use", stored::FILE.as_ref(), std::io::Error::other(error))))
}

#[cfg(test)]
#[path = "handle_tests.rs"]
mod tests;
