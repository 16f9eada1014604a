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

/// Inputs as they are kept in one file: each after its length in four bytes.
pub fn split(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut inputs = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk::<4>() {
        let (input, rest) = rest.split_at((u32::from_be_bytes(*len) as usize).min(rest.len()));
        inputs.push(input.to_vec());
        bytes = rest;
    }
    inputs
}

/// What [`split`] takes apart.
pub fn join<'a>(inputs: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for input in inputs {
        bytes.extend((input.len() as u32).to_be_bytes());
        bytes.extend_from_slice(input);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_split_where_they_were_joined() {
        let inputs: [&[u8]; 3] = [&[5, 6], &[], &[7]];
        assert_eq!(split(&join(inputs)), inputs);
        assert_eq!(split(&[0, 0, 0, 9, 7]), [[7]], "cut short");
    }
}
