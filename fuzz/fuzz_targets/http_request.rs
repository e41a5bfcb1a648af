//! What of a request we read ourselves: the target, which becomes a route with one text, and the range.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peernix::http::Route;
use peernix::http::range::Part;
use peernix::http::routes::TARGET_MAX;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    // Two texts, and the length of what a part is wanted of.
    let (target, range) = text.split_once('\n').unwrap_or((text, text));
    let length = u64::try_from(range.len()).unwrap_or_default() * 7;
    match Part::parse(range, length) {
        Part::Bytes(part) => assert!(part.start < part.end && part.end <= length),
        Part::Whole | Part::Unsatisfiable => {}
    }
    let Some(route) = Route::parse(target) else { return };
    assert!(target.len() <= TARGET_MAX && target.starts_with('/'));
    assert_eq!(Route::NAMES[route.index()], route.name());
    let written = route.to_string();
    // The longest names are longer when escaped; no client of ours writes them into a request.
    if written.len() > TARGET_MAX {
        return;
    }
    assert!(!written.contains("..") || target.contains(".."), "nothing leads upwards that did not before");
    assert_eq!(Route::parse(&written).as_ref(), Some(&route), "{written}");
    let prefixed = format!("/nix-cache{written}");
    if prefixed.len() <= TARGET_MAX {
        assert_eq!(Route::parse(&prefixed), Some(route));
    }
});
