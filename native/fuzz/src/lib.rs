//! What is fuzzed, and how inputs are mutated. Two engines drive it: `greenroom-fuzz`, which mutates blindly and needs nothing
//! but the toolchain, and `greenroom-fuzz-guided`, which is led by coverage (libFuzzer).

pub mod mutate;
pub mod session;
pub mod targets;

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Bytes of a hex string; white space is allowed.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> =
        text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    digits.chunks(2).map(|pair| Some((pair[0] << 4 | *pair.get(1)?) as u8)).collect()
}
