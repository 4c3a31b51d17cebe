//! The recorded bytes.

const RECORDED: &str = include_str!("../recorded/bytes.txt");

/// Every recording: its name and its bytes.
pub fn all() -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    let lines = RECORDED.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| {
        let (name, hex) = line.split_once(' ').expect("a name and hex digits");
        (name, from_hex(hex))
    })
}

/// Reads hex digits.
pub fn from_hex(hex: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex digits");
    (0..hex.len()).step_by(2).map(byte).collect()
}
