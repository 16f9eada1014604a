//! The rules of the oracle, by name.

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Which rules hold. All, unless a test suspends one because it breaks it itself, or because it looks for others.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Rules {
            $($(#[$doc])* pub $name: bool,)*
        }

        impl Default for Rules {
            fn default() -> Self {
                Rules { $($name: true,)* }
            }
        }

        impl Rules {
            /// Names of all rules.
            pub const NAMES: &[&str] = &[$(stringify!($name)),*];

            /// All but these, with commas between them. The error is a name that no rule has.
            pub fn without(names: &str) -> Result<Self, String> {
                let mut rules = Rules::default();
                for name in names.split(',').filter(|name| !name.is_empty()) {
                    match name {
                        $(stringify!($name) => rules.$name = false,)*
                        _ => return Err(name.to_owned()),
                    }
                }
                Ok(rules)
            }
        }
    };
}

rules! {
    /// One index, one ciphertext.
    ciphertext,
    /// No gaps of our own making.
    numbers,
    /// Timestamps go forward.
    time,
    /// VP8 pictures step by one.
    pictures,
    /// Sent again is what was sent.
    repeats,
    /// RTP datagrams are bounded.
    size,
    /// Retransmissions are bounded.
    budget,
    /// RTCP is bounded.
    feedback,
    /// Of the fuzzer: others are not disturbed.
    isolation,
    /// Of the fuzzer: who behaves again is served again.
    recovery,
}
