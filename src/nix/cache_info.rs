//! `nix-cache-info`: what a binary cache says of itself.

use super::{FormatError, StoreDir, error::quote};

/// The longest text accepted, in bytes. Real ones have under 100.
pub const CACHE_INFO_MAX: usize = 4096;

/// What a binary cache says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheInfo {
    /// The store directory of its paths; Nix refuses a cache with another one than its own.
    pub store_dir: StoreDir,
    /// Whether Nix may ask it for many paths at once (`nix-env -qas`, dry runs).
    pub want_mass_query: bool,
    /// Nix asks caches with lower numbers first; cache.nixos.org has 40.
    pub priority: Option<i32>,
}

impl CacheInfo {
    /// Reads the text; keys that it does not know are passed over, as Nix does.
    ///
    /// # Errors
    /// A line without a colon, a malformed store directory or priority, or more than [`CACHE_INFO_MAX`] bytes.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        if text.len() > CACHE_INFO_MAX {
            return Err(FormatError::TooLarge(CACHE_INFO_MAX, "bytes"));
        }
        let mut info = Self { store_dir: StoreDir::default(), want_mass_query: false, priority: None };
        for (index, line) in text.lines().enumerate() {
            let (key, value) = line.split_once(':').ok_or(FormatError::Line(index + 1))?;
            let value = value.trim();
            match key {
                "StoreDir" => info.store_dir = StoreDir::new(value).map_err(|error| error.in_field("StoreDir"))?,
                "WantMassQuery" => info.want_mass_query = value == "1",
                "Priority" => {
                    let priority = value.parse().map_err(|_| FormatError::Number(quote(value)).in_field("Priority"))?;
                    info.priority = Some(priority);
                }
                _ => {}
            }
        }
        Ok(info)
    }

    /// Writes the text.
    #[must_use]
    pub fn render(&self) -> String {
        let mass_query = u8::from(self.want_mass_query);
        let mut text = format!("StoreDir: {}\nWantMassQuery: {mass_query}\n", self.store_dir);
        if let Some(priority) = self.priority {
            text.push_str(&format!("Priority: {priority}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let text = "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n";
        let info = CacheInfo::parse(text).unwrap();
        assert_eq!(info, CacheInfo { store_dir: StoreDir::default(), want_mass_query: true, priority: Some(40) });
        assert_eq!(info.render(), text);
    }

    #[test]
    fn odd_but_honest_texts() {
        // ncps writes no final newline; others add keys of their own.
        let info = CacheInfo::parse("StoreDir: /nix/store\nX: y\nWantMassQuery: 0\nPriority: 10").unwrap();
        assert_eq!((info.want_mass_query, info.priority), (false, Some(10)));
        assert_eq!(CacheInfo::parse("").unwrap().priority, None);
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(CacheInfo::parse("<html>").unwrap_err(), FormatError::Line(1));
        assert!(CacheInfo::parse("Priority: soon\n").is_err());
        assert!(CacheInfo::parse("StoreDir: relative\n").is_err());
        assert!(CacheInfo::parse(&"X: y\n".repeat(CACHE_INFO_MAX)).is_err());
    }
}
