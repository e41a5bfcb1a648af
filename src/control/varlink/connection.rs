//! One connection: calls are read, answered one after the other, and given up when nobody is there any more to hear it.

use super::interfaces::{self, Answer, Part};
use super::limits::Limits;
use super::protocol::{Call, Decoder, Refusal, Reply};
use super::sockets::Access;
use crate::control::{Control, Method};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{ReadHalf, WriteHalf};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How much is read at once, in bytes.
const READ_SIZE: usize = 8 << 10;

/// What serves one connection.
pub(super) struct Connection {
    control: Arc<dyn Control>,
    access: Access,
    limits: Limits,
}

/// The client does not hear us any more.
struct Gone;

impl Connection {
    pub(super) fn new(control: Arc<dyn Control>, access: Access, limits: Limits) -> Self {
        Self { control, access, limits }
    }

    /// Serves until the client goes, says what is no Varlink, is silent for too long, or `stop` is cancelled.
    pub(super) async fn run(&self, mut stream: UnixStream, stop: &CancellationToken) {
        let (reader, writer) = stream.split();
        let mut inbox = Inbox {
            reader,
            decoder: Decoder::new(self.access.call_max()),
            chunk: vec![0; READ_SIZE],
            ended: false,
            abandoned: false,
        };
        let mut outbox = Outbox { writer, limits: self.limits };
        loop {
            let next = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                next = timeout(self.limits.idle, inbox.next()) => next,
            };
            let Ok(Some(message)) = next else { return };
            let call = match Call::parse(message) {
                Ok(call) => call,
                Err(error) => {
                    log::debug!(reason:% = error; "Varlink connection closed");
                    return;
                }
            };
            // Who is gone is done with, but for what it sent without waiting for an answer.
            if (call.oneway || !inbox.abandoned) && self.answer(&call, &mut inbox, &mut outbox, stop).await.is_err() {
                inbox.abandon();
            }
        }
    }

    async fn answer(
        &self,
        call: &Call,
        inbox: &mut Inbox<'_>,
        outbox: &mut Outbox<'_>,
        stop: &CancellationToken,
    ) -> Result<(), Gone> {
        let answering = interfaces::answer(call, &self.control, self.access);
        let answer = if interfaces::find(call).is_some_and(Method::changes) || call.oneway {
            // What was begun is brought to its end, whoever waits for it.
            answering.await
        } else {
            tokio::select! {
                answer = answering => answer,
                () = inbox.until_hangup() => return Err(Gone),
            }
        };
        if call.oneway {
            return Ok(());
        }
        match answer {
            Ok(Answer::One(parameters)) => outbox.send(None, &parameters, false).await,
            Ok(Answer::List(items)) => {
                let mut items = items.peekable();
                while let Some(parameters) = items.next() {
                    outbox.send(None, &parameters, items.peek().is_some()).await?;
                }
                Ok(())
            }
            Ok(Answer::Feed(mut feed)) => {
                let telling = async {
                    loop {
                        match feed.next().await {
                            Some(Ok(Part { parameters, last })) => {
                                outbox.send(None, &parameters, !last).await?;
                                if last {
                                    return Ok(());
                                }
                            }
                            Some(Err(error)) => return outbox.refuse(error.into(), call).await,
                            // It ends without an end. So does the connection: there is no answer that says this.
                            None => return Err(Gone),
                        }
                    }
                };
                tokio::select! {
                    told = telling => told,
                    () = inbox.until_end() => Err(Gone),
                    () = stop.cancelled() => Err(Gone),
                }
            }
            Err(refusal) => outbox.refuse(refusal, call).await,
        }
    }
}

/// What the client sends.
struct Inbox<'s> {
    reader: ReadHalf<'s>,
    decoder: Decoder,
    chunk: Vec<u8>,
    /// The client will send no more.
    ended: bool,
    /// The client will hear no more.
    abandoned: bool,
}

impl Inbox<'_> {
    /// The next message; `None` when there will be none. May be dropped at any time.
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            match self.decoder.take() {
                Ok(Some(message)) => return Some(message),
                Ok(None) if self.ended => return None,
                Ok(None) => self.fill().await,
                Err(error) => {
                    log::debug!(reason:% = error; "Varlink connection closed");
                    return None;
                }
            }
        }
    }

    /// Takes in some more. Only to be called while there is [`Decoder::room`].
    async fn fill(&mut self) {
        let size = self.decoder.room().min(READ_SIZE);
        match self.reader.read(&mut self.chunk[..size]).await {
            Ok(0) | Err(_) => self.ended = true,
            Ok(length) => self.decoder.add(&self.chunk[..length]),
        }
    }

    /// Takes in what comes, as far as there is room for it, until the client has gone altogether. One that only will send
    /// no more may still be waiting for its answer, and this never returns.
    async fn until_hangup(&mut self) {
        while !self.ended && self.decoder.room() > 0 {
            self.fill().await;
        }
        let has_gone = self.ended
            && match self.reader.ready(Interest::READABLE | Interest::WRITABLE).await {
                Ok(ready) => ready.is_write_closed(),
                Err(_) => true,
            };
        if !has_gone {
            std::future::pending::<()>().await;
        }
    }

    /// Reads no more of a client that does not listen; what is here already is left to [`Self::next`].
    fn abandon(&mut self) {
        self.ended = true;
        self.abandoned = true;
    }

    /// As before, while a client is told things without end: it is given up as soon as it cannot ask for anything else any
    /// more, or asked for so much that its end would not be seen.
    async fn until_end(&mut self) {
        while !self.ended && self.decoder.room() > 0 {
            self.fill().await;
        }
    }
}

/// What the client is sent.
struct Outbox<'s> {
    writer: WriteHalf<'s>,
    limits: Limits,
}

impl Outbox<'_> {
    async fn send(&mut self, error: Option<&str>, parameters: &serde_json::Value, continues: bool) -> Result<(), Gone> {
        let bytes = Reply { error, parameters, continues }.encode().map_err(|_| Gone)?;
        // Each piece that is taken begins the time anew: a slow reader is no dead one.
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let written: io::Result<usize> =
                timeout(self.limits.write, self.writer.write(rest)).await.map_err(|_| Gone)?;
            match written {
                Ok(0) | Err(_) => return Err(Gone),
                Ok(length) => rest = &rest[length..],
            }
        }
        Ok(())
    }

    async fn refuse(&mut self, refusal: Refusal, call: &Call) -> Result<(), Gone> {
        let (error, parameters) = refusal.render(call, interfaces::errors(&call.interface));
        self.send(Some(&error), &parameters, false).await
    }
}
