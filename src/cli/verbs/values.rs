//! How values of arguments are written: spans of time, sizes, words.

use crate::control::LogLevel;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use std::time::Duration;

/// A span of time such as `2h` or `30d`.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| format!("'{text}' is not a span of time such as 90s, 2h or 30d"))
}

/// A number of bytes such as `10GiB`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let size: Result<bytesize::ByteSize, _> = text.parse();
    size.map(|size| size.as_u64()).map_err(|_| format!("'{text}' is not a size such as 10GiB or 500MB"))
}

/// One of the words of an enum of the interface, so that help and completions know them.
pub(super) fn word<T>(all: &'static [T], name: fn(T) -> &'static str) -> impl TypedValueParser<Value = T>
where
    T: Copy + Send + Sync + 'static,
{
    PossibleValuesParser::new(all.iter().map(|value| name(*value))).try_map(move |word| {
        all.iter().copied().find(|value| name(*value) == word).ok_or_else(|| format!("unknown word '{word}'"))
    })
}

/// The levels of the log. `warn` is taken for `warning`.
pub(super) fn level() -> impl TypedValueParser<Value = LogLevel> {
    let words = LogLevel::ALL.iter().map(|level| {
        let word = PossibleValue::new(level.as_str());
        if *level == LogLevel::Warning { word.alias("warn") } else { word }
    });
    PossibleValuesParser::new(words).try_map(|word| match word.as_str() {
        "warn" => Ok(LogLevel::Warning),
        word => word.parse(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read() {
        assert_eq!(span("2h"), Ok(Duration::from_secs(7200)));
        assert!(span("soon").is_err_and(|error| error.contains("30d")));
        assert_eq!(size("10GiB"), Ok(10 << 30));
        assert!(size("lots").is_err());
    }
}
