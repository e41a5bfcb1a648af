//! On what this machine is connected and runs: whether the connection costs by the byte, is wireless, and whether the battery is used.
//!
//! NetworkManager and UPower say so on the system bus, where they are; they are never started for this. Sources: their
//! [`Metered`](https://networkmanager.dev/docs/api/latest/gdbus-org.freedesktop.NetworkManager.html) and
//! [`OnBattery`](https://upower.freedesktop.org/docs/UPower.html).
#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::error::Elapsed;
use tokio_util::sync::CancellationToken;
use zbus::message::Type;
use zbus::names::BusName;
use zbus::proxy::MethodFlags;
use zbus::{Connection, MatchRule, MessageStream, OwnedVariant, Variant};

/// What each of them is called, and where it says what is to be known: path, interface, property.
const NETWORK: &str = "org.freedesktop.NetworkManager";
const METERED: Place = (NETWORK, "/org/freedesktop/NetworkManager", NETWORK, "Metered");
const KIND: Place = (NETWORK, "/org/freedesktop/NetworkManager", NETWORK, "PrimaryConnectionType");
const POWER: &str = "org.freedesktop.UPower";
const ON_BATTERY: Place = (POWER, "/org/freedesktop/UPower", POWER, "OnBattery");
const DISPLAY: &str = "/org/freedesktop/UPower/devices/DisplayDevice";
const PERCENTAGE: Place = (POWER, DISPLAY, "org.freedesktop.UPower.Device", "Percentage");
/// What the bus says for somebody who does not answer.
const NO_REPLY: &str = "org.freedesktop.DBus.Error.NoReply";
/// Of `NMMetered`: yes, and "probably".
const METERED_WORDS: [u32; 2] = [1, 3];
/// Of a connection that is wireless.
const WIRELESS: &str = "802-11-wireless";

/// How long the bus, and each answer on it, may take.
const LIMIT: Duration = Duration::from_secs(5);
/// When a bus that was not there is looked for again.
const AGAIN: Duration = Duration::from_secs(60);
/// When one that went away is, or what did not answer is asked again.
const SOON: Duration = Duration::from_secs(5);
/// A burst of changes is one: it is looked at this long after its first.
const BURST: Duration = Duration::from_millis(100);

type Place = (&'static str, &'static str, &'static str, &'static str);

/// What is known of the connection and of the power. What nobody says is taken for the best.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Conditions {
    /// The connection costs by the byte.
    pub metered: bool,
    /// It is wireless.
    pub wireless: bool,
    /// The battery is used.
    pub on_battery: bool,
    /// How much is in it, in percent.
    pub battery: Option<u8>,
}

/// Follows them until `stop`, on the system bus. Must be called within a tokio runtime.
#[must_use]
pub fn watch(stop: CancellationToken) -> watch::Receiver<Conditions> {
    let (told, conditions) = watch::channel(Conditions::default());
    tokio::spawn(async move {
        let following = async {
            loop {
                // What was known holds until somebody says otherwise: who cannot be asked for a moment has changed nothing.
                let pause = match follow(&told).await {
                    Ok(never) => match never {},
                    Err(Gone::NoBus(error)) => {
                        log::debug!(reason:% = error; "there is no bus on which NetworkManager and UPower could be asked: {error}");
                        AGAIN
                    }
                    Err(Gone::Bus(error)) => {
                        log::debug!(reason:% = error; "what NetworkManager and UPower say is not known: {error}");
                        SOON
                    }
                };
                tokio::time::sleep(pause).await; // poll
            }
        };
        stop.run_until_cancelled(following).await;
    });
    conditions
}

/// Why they are not followed any more.
enum Gone {
    /// There is no bus.
    NoBus(zbus::Error),
    /// It went away, or something on it does not answer.
    Bus(zbus::Error),
}

impl From<zbus::Error> for Gone {
    fn from(error: zbus::Error) -> Self {
        Self::Bus(error)
    }
}

fn late<T>(_: Elapsed) -> zbus::Result<T> {
    Err(zbus::Error::Failure("there is no answer".to_owned()))
}

/// Follows them for as long as the bus is there.
async fn follow(told: &watch::Sender<Conditions>) -> Result<Infallible, Gone> {
    let connected = tokio::time::timeout(LIMIT, Connection::system()).await.unwrap_or_else(late);
    let connection = connected.map_err(Gone::NoBus)?;
    let mut changes = Vec::new();
    for (sender, path, ..) in [METERED, ON_BATTERY, PERCENTAGE] {
        let rule = MatchRule::builder().msg_type(Type::Signal).sender(sender).path(path);
        let rule = rule.interface("org.freedesktop.DBus.Properties");
        changes.push(MessageStream::for_match_rule(rule.build()?, &connection, None).await?);
    }
    for name in [NETWORK, POWER] {
        let rule = MatchRule::builder().msg_type(Type::Signal).interface("org.freedesktop.DBus");
        let rule = rule.member("NameOwnerChanged").arg(0, name).build()?;
        changes.push(MessageStream::for_match_rule(rule, &connection, None).await?);
    }
    loop {
        let (network, power) = (network(&connection).await, power(&connection).await);
        let mut now = *told.borrow();
        // Of one that does not answer holds what it said last, and the other is heard all the same.
        if let Ok((metered, wireless)) = network {
            (now.metered, now.wireless) = (metered, wireless);
        }
        if let Ok((on_battery, battery)) = power {
            (now.on_battery, now.battery) = (on_battery, battery);
        }
        told.send_if_modified(|before| std::mem::replace(before, now) != now);
        network?;
        power?;
        any(&mut changes).await?;
        tokio::time::sleep(BURST).await; // pace
        // All of the burst, and none may wait: the bus delivers nothing more while one queue is full.
        while tokio::time::timeout(Duration::ZERO, any(&mut changes)).await.is_ok_and(|change| change.is_ok()) {}
    }
}

/// Waits for a signal on any of these.
async fn any(streams: &mut [MessageStream]) -> zbus::Result<()> {
    std::future::poll_fn(|cx| {
        for stream in &mut *streams {
            match futures_core::Stream::poll_next(Pin::new(stream), cx) {
                std::task::Poll::Ready(Some(message)) => return std::task::Poll::Ready(message.map(drop)),
                std::task::Poll::Ready(None) => {
                    let gone = zbus::Error::Failure("the bus went away".to_owned());
                    return std::task::Poll::Ready(Err(gone));
                }
                std::task::Poll::Pending => {}
            }
        }
        std::task::Poll::Pending
    })
    .await
}

/// What NetworkManager says: whether the connection is metered, and whether it is wireless.
async fn network(connection: &Connection) -> zbus::Result<(bool, bool)> {
    if !is_there(connection, NETWORK).await? {
        return Ok((false, false));
    }
    let metered = get(connection, METERED).await?;
    let kind = get(connection, KIND).await?;
    let metered = metered.is_some_and(|value| matches!(&*value, Variant::U32(word) if METERED_WORDS.contains(word)));
    Ok((metered, kind.is_some_and(|value| matches!(&*value, Variant::Str(kind) if kind.as_str() == WIRELESS))))
}

/// What UPower says: whether the battery is used, and how much is in it, in percent.
async fn power(connection: &Connection) -> zbus::Result<(bool, Option<u8>)> {
    if !is_there(connection, POWER).await? {
        return Ok((false, None));
    }
    let on_battery = get(connection, ON_BATTERY).await?;
    let battery = get(connection, PERCENTAGE).await?.and_then(|value| match &*value {
        // A part of a hundred, cut to one.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Variant::F64(percent) if percent.is_finite() => Some(percent.clamp(0.0, 100.0) as u8),
        _ => None,
    });
    Ok((on_battery.is_some_and(|value| matches!(&*value, Variant::Bool(true))), battery))
}

/// Whether somebody has this name: to ask nobody would start it.
async fn is_there(connection: &Connection, name: &'static str) -> zbus::Result<bool> {
    let asked = async {
        let names = zbus::fdo::DBusProxy::new(connection).await?;
        Ok(names.name_has_owner(BusName::try_from(name)?).await?)
    };
    tokio::time::timeout(LIMIT, asked).await.unwrap_or_else(late)
}

/// What a property says; `None`: there is no such property. Nothing is started to answer.
async fn get(connection: &Connection, (name, path, interface, property): Place) -> zbus::Result<Option<OwnedVariant>> {
    let object = zbus::Proxy::new(connection, name, path, "org.freedesktop.DBus.Properties").await?;
    let which = (interface, property);
    let call = object.call_with_flags("Get", MethodFlags::NO_AUTO_START, &which);
    match tokio::time::timeout(LIMIT, call).await.unwrap_or_else(late) {
        // An older one does not know it; what does not answer is something else.
        Err(zbus::Error::MethodError(error, ..)) if error.as_str() != NO_REPLY => Ok(None),
        answer => answer,
    }
}
