//! The copy of Claude Code's output: bytes through first, meaning beside them.

use std::io::{self, ErrorKind, Read, Write};

use super::event::{StreamEvent, read_line};
use super::lines::{Line, Lines};

/// The longest line that is read for events. Lines of several MB are usual; the SDK's limit of
/// 1 MiB was its users' first complaint.
const MAX_LINE_BYTES: usize = 64 * 1024 * 1024;
/// How much is read at once: what a pipe holds.
const CHUNK_BYTES: usize = 64 * 1024;

/// How a copy ended.
#[derive(Debug, Default)]
pub struct TeeEnd {
    /// How many bytes came in.
    pub bytes: u64,
    /// Why the output was given up; everything after that was still read.
    pub output: Option<io::Error>,
    /// Why the input ended early, if it did not end by itself.
    pub input: Option<io::Error>,
}

/// Copies `input` to `output` until it ends, byte for byte and as it arrives, and hands on what
/// the lines say about tools.
///
/// A closed output does not stop the reading: the events still count. `on_event` must not block,
/// because the copy waits for it.
pub fn tee(input: impl Read, output: impl Write, on_event: impl FnMut(StreamEvent)) -> TeeEnd {
    tee_with_limit(MAX_LINE_BYTES, input, output, on_event)
}

/// [`tee`] that also hands on each line; whether an empty one is told depends on how the input is
/// cut. `on_line` must not block either.
pub fn tee_lines(
    input: impl Read,
    output: impl Write,
    mut on_event: impl FnMut(StreamEvent),
    mut on_line: impl FnMut(Line<'_>),
) -> TeeEnd {
    copy_lines(MAX_LINE_BYTES, input, output, |line| {
        on_line(line);
        read_events(line, &mut on_event);
    })
}

fn tee_with_limit(
    limit: usize,
    input: impl Read,
    output: impl Write,
    mut on_event: impl FnMut(StreamEvent),
) -> TeeEnd {
    copy_lines(limit, input, output, |line| {
        read_events(line, &mut on_event);
    })
}

fn read_events(line: Line<'_>, mut on_event: impl FnMut(StreamEvent)) {
    match line {
        Line::Whole(line) => read_line(line, &mut on_event),
        Line::TooLong(bytes) => on_event(StreamEvent::LineTooLong { bytes }),
    }
}

fn copy_lines(
    limit: usize,
    mut input: impl Read,
    output: impl Write,
    mut on_line: impl FnMut(Line<'_>),
) -> TeeEnd {
    let mut end = TeeEnd::default();
    let mut output = Some(output);
    let mut lines = Lines::new(limit);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = match input.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => &chunk[..read],
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => {
                end.input = Some(error);
                break;
            }
        };
        end.bytes += read.len() as u64;
        if let Some(open) = &mut output
            && let Err(error) = open.write_all(read).and_then(|()| open.flush())
        {
            end.output = Some(error);
            output = None;
        }
        lines.feed(read, &mut on_line);
    }
    lines.finish(on_line);
    end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives its bytes in pieces of the given lengths, over and over; interrupted before each.
    struct Pieces<'a> {
        bytes: &'a [u8],
        lengths: std::iter::Cycle<std::slice::Iter<'a, usize>>,
        interrupt: bool,
    }

    impl<'a> Pieces<'a> {
        fn new(bytes: &'a [u8], lengths: &'a [usize]) -> Self {
            Self {
                bytes,
                lengths: lengths.iter().cycle(),
                interrupt: false,
            }
        }
    }

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.interrupt = !self.interrupt;
            if self.interrupt {
                return Err(ErrorKind::Interrupted.into());
            }
            let length = self.lengths.next().map_or(1, |&n| n);
            (&mut self.bytes).take(length as u64).read(buffer)
        }
    }

    /// Takes `room` bytes, then says that its reader is gone.
    struct Closing {
        taken: Vec<u8>,
        room: usize,
    }

    impl Write for Closing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let fits = bytes.len().min(self.room - self.taken.len());
            if fits == 0 {
                return Err(ErrorKind::BrokenPipe.into());
            }
            self.taken.extend_from_slice(&bytes[..fits]);
            Ok(fits)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn tool_line(id: &str) -> String {
        format!(
            r#"{{"type":"assistant","message":{{"content":[{{"type":"tool_use","id":"{id}","name":"Bash"}}]}}}}"#
        )
    }

    fn ids(events: &[StreamEvent]) -> Vec<&str> {
        let started = events.iter().filter_map(|event| match event {
            StreamEvent::ToolStarted { id, .. } => Some(id.as_str()),
            _ => None,
        });
        started.collect()
    }

    /// A piece of a stream: noise, a line that means something, an end of line, invalid UTF-8.
    fn fragment() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..50),
            "[a-z0-9]{1,8}".prop_map(|id| format!("\n{}\n", tool_line(&id)).into_bytes()),
            Just(b"\r\n".to_vec()),
            Just(b"{\"type\":\"user\",\"message\":{\"content\":[".to_vec()),
            Just(vec![0xff, 0xfe, b'"']),
            (0_usize..3000).prop_map(|n| vec![b'x'; n]),
        ]
    }

    proptest! {
        #[test]
        fn every_stream_cut_anywhere_comes_out_identical(
            fragments in prop::collection::vec(fragment(), 0..20),
            lengths in prop::collection::vec(1_usize..300, 1..20),
            limit in 1_usize..2000,
        ) {
            let stream = fragments.concat();
            let mut copy = Vec::new();
            let end = tee_with_limit(limit, Pieces::new(&stream, &lengths), &mut copy, |_| {});
            prop_assert!(copy == stream);
            prop_assert_eq!(end.bytes, stream.len() as u64);
            prop_assert!(end.input.is_none() && end.output.is_none());
        }
    }

    #[test]
    fn events_come_in_order_and_the_last_line_needs_no_newline() {
        let stream = [
            tool_line("a"),
            "noise".into(),
            tool_line("b"),
            tool_line("c"),
        ]
        .join("\r\n");
        for length in [1, 7, 64, 100_000] {
            let mut events = Vec::new();
            tee(
                Pieces::new(stream.as_bytes(), &[length]),
                io::sink(),
                |event| events.push(event),
            );
            assert_eq!(ids(&events), ["a", "b", "c"], "in pieces of {length}");
        }
    }

    #[test]
    fn a_line_over_the_limit_passes_through_and_the_next_is_read() {
        let long = "x".repeat(5000);
        let stream = format!("{long}\n{}\n", tool_line("a"));
        let (mut copy, mut events) = (Vec::new(), Vec::new());
        tee_with_limit(1000, stream.as_bytes(), &mut copy, |event| {
            events.push(event)
        });
        assert_eq!(copy, stream.as_bytes());
        assert_eq!(events[0], StreamEvent::LineTooLong { bytes: 5000 });
        assert_eq!(ids(&events), ["a"]);
    }

    #[test]
    fn a_tool_call_of_50_mb_is_copied_and_read() {
        let content = "x".repeat(50 << 20);
        let stream = format!(
            r#"{{"type":"assistant","message":{{"content":[{{"type":"tool_use","id":"big","name":"Write","input":{{"content":"{content}","file_path":"/w/a"}}}}]}}}}"#
        );
        let (mut copy, mut events) = (Vec::with_capacity(stream.len()), Vec::new());
        tee(stream.as_bytes(), &mut copy, |event| events.push(event));
        assert!(copy == stream.as_bytes());
        assert_eq!(
            events,
            [StreamEvent::ToolStarted {
                id: "big".into(),
                name: "Write".into(),
                paths: vec!["/w/a".into()],
            }]
        );
    }

    #[test]
    fn a_closed_output_does_not_stop_the_reading() {
        let stream = format!("{}\n{}\n", "x".repeat(200_000), tool_line("late"));
        let mut output = Closing {
            taken: Vec::new(),
            room: 70_000,
        };
        let mut events = Vec::new();
        let end = tee(stream.as_bytes(), &mut output, |event| events.push(event));
        assert_eq!(output.taken, stream.as_bytes()[..70_000]);
        assert_eq!(end.output.unwrap().kind(), ErrorKind::BrokenPipe);
        assert_eq!(end.bytes, stream.len() as u64);
        assert_eq!(ids(&events), ["late"]);
    }

    #[test]
    fn a_failing_input_ends_the_copy_and_is_told() {
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(ErrorKind::ConnectionReset.into())
            }
        }
        let mut copy = Vec::new();
        let end = tee((&b"begun"[..]).chain(Failing), &mut copy, |_| {});
        assert_eq!(copy, b"begun");
        assert_eq!(end.input.unwrap().kind(), ErrorKind::ConnectionReset);
    }
}
