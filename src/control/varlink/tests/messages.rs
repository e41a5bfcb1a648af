//! Messages: cut out of a stream, read, refused.

use super::super::protocol::{Call, Decoder, ProtocolError, Refusal};
use proptest::prelude::*;

fn call(text: &str) -> Call {
    Call::parse(text.as_bytes().to_vec()).unwrap()
}

fn parameter(refusal: Refusal) -> String {
    match refusal {
        Refusal::Parameter(name, _) => name,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn messages_come_out_as_they_went_in(
        messages in proptest::collection::vec(proptest::collection::vec(1_u8.., 0..40), 0..20),
        pieces in proptest::collection::vec(1_usize..50, 1..40),
    ) {
        let stream: Vec<u8> = messages.iter().flat_map(|message| message.iter().copied().chain([0])).collect();
        let mut decoder = Decoder::new(40);
        let mut found = Vec::new();
        let mut rest = stream.as_slice();
        let mut pieces = pieces.iter().cycle();
        while !rest.is_empty() {
            while let Some(message) = decoder.take().unwrap() {
                found.push(message);
            }
            let size = (*pieces.next().unwrap()).min(decoder.room()).min(rest.len());
            prop_assert!(size > 0, "there is room once all messages are taken out");
            decoder.add(&rest[..size]);
            rest = &rest[size..];
        }
        while let Some(message) = decoder.take().unwrap() {
            found.push(message);
        }
        prop_assert_eq!(found, messages);
    }
}

#[test]
fn a_message_without_end_is_not_kept() {
    let mut decoder = Decoder::new(10);
    assert_eq!(decoder.room(), 11);
    decoder.add(&[b'x'; 10]);
    assert_eq!((decoder.take(), decoder.room()), (Ok(None), 1));
    decoder.add(b"x");
    assert_eq!(decoder.take(), Err(ProtocolError::TooLong(10)));
    let mut decoder = Decoder::new(10);
    decoder.add(b"xxxxxxxxxx");
    decoder.add(b"\0");
    assert_eq!(decoder.take(), Ok(Some(b"xxxxxxxxxx".to_vec())));
}

#[test]
fn calls_are_read() {
    let read = call(r#"{"method":"a.b.C","parameters":{"x":1},"more":true,"oneway":null}"#);
    assert_eq!((read.interface.as_str(), read.method.as_str()), ("a.b", "C"));
    assert!(read.more && !read.oneway && !read.upgrade);
    for wrong in
        ["", "[]", "1", "{}", r#"{"method":1}"#, r#"{"method":"a.B"}x"#, r#"{"method":"a.B","more":1}"#, "\u{feff}{}"]
    {
        assert!(matches!(Call::parse(wrong.into()), Err(ProtocolError::Malformed(_))), "{wrong}");
    }
    let deep = format!(r#"{{"method":"a.B","parameters":{}1{}}}"#, "[".repeat(5000), "]".repeat(5000));
    // No stack is used up.
    assert_eq!(parameter(call(&deep).parameters(&[]).unwrap_err()), "parameters");
    let deep = format!(r#"{{"method":"a.B","parameters":{{"x":{}1{}}}}}"#, "[".repeat(5000), "]".repeat(5000));
    assert_eq!(parameter(call(&deep).parameters(&["x"]).unwrap().optional::<Vec<Vec<u8>>>("x").unwrap_err()), "x");
}

#[test]
fn parameters_are_what_the_method_takes() {
    let read = call(r#"{"method":"a.B","parameters":{"x":1,"y":"z","n":null}}"#);
    let parameters = read.parameters(&["x", "y", "n", "m"]).unwrap();
    assert_eq!(parameters.required::<u64>("x").unwrap(), 1);
    assert_eq!(parameters.optional::<String>("y").unwrap().as_deref(), Some("z"));
    assert_eq!(parameters.optional::<u64>("n").unwrap(), None);
    assert_eq!(parameters.optional::<u64>("m").unwrap(), None);
    assert_eq!(parameter(parameters.required::<u64>("m").unwrap_err()), "m");
    assert_eq!(parameter(parameters.required::<u64>("n").unwrap_err()), "n");
    assert_eq!(parameter(parameters.required::<u64>("y").unwrap_err()), "y");
    assert_eq!(parameter(read.parameters(&["x", "y"]).unwrap_err()), "n");
    for none in [r#"{"method":"a.B"}"#, r#"{"method":"a.B","parameters":null}"#, r#"{"method":"a.B","parameters":{}}"#]
    {
        let read = call(none);
        assert_eq!(read.parameters(&[]).unwrap().optional::<u64>("x").unwrap(), None);
    }
    for wrong in ["[1]", "\"x\"", "7"] {
        let read = call(&format!(r#"{{"method":"a.B","parameters":{wrong}}}"#));
        assert_eq!(parameter(read.parameters(&[]).unwrap_err()), "parameters");
    }
    let read = call(r#"{"method":"a.B","parameters":{"x":1,"x":2}}"#);
    assert_eq!(parameter(read.parameters(&["x"]).unwrap().optional::<u64>("x").unwrap_err()), "x");
}
