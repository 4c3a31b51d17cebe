//! How Claude Code is started without a terminal.

/// The program, found on `PATH`.
pub const PROGRAM: &str = "claude";

/// Its arguments. The prompt is not among them: it goes to standard input, because arguments are
/// seen by every process and a prompt that begins with `-` would be a flag.
pub const ARGUMENTS: [&str; 5] = [
    "-p",
    "--output-format",
    "stream-json",
    "--verbose",
    "--dangerously-skip-permissions",
];

/// Tells Claude Code that it may skip permissions although it is root, since it is contained. As
/// any other user it needs no telling.
pub const CONTAINED: (&str, &str) = ("IS_SANDBOX", "1");
