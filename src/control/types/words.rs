//! How the words of both interfaces are declared.

/// An enum whose values are words in both interfaces.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[doc = $help:literal])* $value:ident = $word:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[doc = $help])* #[serde(rename = $word)] $value,)*
        }

        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$value,)*];

            /// Its word.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$value => $word,)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::control::ControlError;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|value| value.as_str() == word).ok_or_else(|| {
                    let words: Vec<&str> = Self::ALL.iter().map(|value| value.as_str()).collect();
                    $crate::control::ControlError::new(
                        $crate::control::ErrorKind::InvalidArgument,
                        format!("'{}' is none of {}", word.escape_default(), words.join(", ")),
                    )
                })
            }
        }
    };
}
pub(super) use words;
