//! What is answered to a call, and how it is put together.

use crate::control::varlink::protocol::{Call, Refusal};
use crate::control::{Feed, Outcome};
use serde::Serialize;
use serde_json::{Value, json};

/// What is answered.
pub(crate) enum Answer {
    /// The parameters of one reply.
    One(Value),
    /// The parameters of each reply; not none.
    List(Box<dyn Iterator<Item = Value> + Send>),
    /// Replies as things happen.
    Feed(Box<dyn Feed<Part>>),
}

/// One reply of a [`Answer::Feed`].
pub(crate) struct Part {
    pub(crate) parameters: Value,
    pub(crate) last: bool,
}

pub(crate) type Answered = Result<Answer, Refusal>;

/// A reply with one field.
pub(super) fn one(name: &str, value: impl Serialize) -> Answered {
    Ok(Answer::One(field(name, value)))
}

/// A reply that says whether something changed.
pub(super) fn changed(outcome: Result<bool, Refusal>) -> Answered {
    one("changed", outcome?)
}

/// A reply without fields.
pub(super) fn done(outcome: Outcome<()>) -> Answered {
    Ok(Answer::One(outcome.map(|()| json!({}))?))
}

/// A reply for each item. When there is none, one that has no item in it.
pub(super) fn list<T: Serialize + Send + 'static>(call: &Call, name: &'static str, items: Outcome<Vec<T>>) -> Answered {
    many(call)?;
    let items = items?;
    if items.is_empty() {
        return Ok(Answer::One(json!({})));
    }
    Ok(Answer::List(Box::new(items.into_iter().map(move |item| field(name, item)))))
}

/// Makes sure that the caller takes several answers.
pub(super) fn many(call: &Call) -> Result<(), Refusal> {
    if call.more { Ok(()) } else { Err(Refusal::ExpectedMore) }
}

pub(super) fn field(name: &str, value: impl Serialize) -> Value {
    let mut object = serde_json::Map::new();
    object.insert(name.to_owned(), json!(value));
    Value::Object(object)
}
