//! Enums whose variants are words.

/// `Display` and `FromStr` of an enum without fields: each variant is a word. Reading does not mind capitals.
macro_rules! words {
    ($type:ident, $what:literal: $($variant:ident $word:literal),+) => {
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(match self {
                    $(Self::$variant => $word,)+
                })
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::error::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text.trim().to_ascii_lowercase().as_str() {
                    $($word => Ok(Self::$variant),)+
                    _ => {
                        let words = [$($word),+].join(", ");
                        Err($crate::error::Error::invalid($what, format!("`{text}`; it is one of {words}")))
                    }
                }
            }
        }

        #[cfg(test)]
        impl $type {
            /// All of them, for a test.
            pub(crate) const WORDS: &[Self] = &[$(Self::$variant),+];
        }
    };
}

pub(crate) use words;
