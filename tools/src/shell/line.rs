//! Where the shell's lines come from: a prompt with history on a terminal, else standard input as it is.

use std::io::{self, BufRead, IsTerminal as _, Read as _, StdinLock};

use rustyline::{DefaultEditor, error::ReadlineError};

use crate::exit::{Fail, Outcome};

/// Longest line taken from a pipe. Larger values go in by `put DIR KEY -`.
pub(super) const LINE_BYTES_MAX: u64 = 64 << 20;

/// One line, or why there is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Without its end.
    Text(Vec<u8>),
    /// Longer than [`LINE_BYTES_MAX`]; it was read to its end and dropped.
    TooLong,
    /// No more lines.
    End,
    /// Interrupted from the keyboard.
    Interrupted,
}

/// A source of lines.
pub(super) enum Lines {
    Prompt(Box<DefaultEditor>),
    Pipe(StdinLock<'static>),
}

impl Lines {
    /// A prompt if a person sits at both ends, else standard input.
    pub(super) fn standard() -> Outcome<Self> {
        if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
            return Ok(Self::Pipe(io::stdin().lock()));
        }
        let editor = DefaultEditor::new().map_err(terminal)?;
        Ok(Self::Prompt(Box::new(editor)))
    }

    pub(super) const fn is_prompt(&self) -> bool {
        matches!(self, Self::Prompt(_))
    }

    /// The next line.
    pub(super) fn next(&mut self, prompt: &str) -> Outcome<Line> {
        match self {
            Self::Pipe(input) => {
                read_line(input).map_err(|source| Fail::io("read standard input", source))
            }
            Self::Prompt(editor) => match editor.readline(prompt) {
                Ok(text) => {
                    // History is a comfort; a line that it does not take is run all the same.
                    let _ = editor.add_history_entry(text.as_str());
                    Ok(Line::Text(text.into_bytes()))
                }
                Err(ReadlineError::Eof) => Ok(Line::End),
                Err(ReadlineError::Interrupted) => Ok(Line::Interrupted),
                Err(error) => Err(terminal(error)),
            },
        }
    }
}

fn terminal(error: ReadlineError) -> Fail {
    let source = match error {
        ReadlineError::Io(source) => source,
        other => io::Error::other(other.to_string()),
    };
    Fail::io("read the terminal", source)
}

fn read_line(input: &mut impl BufRead) -> io::Result<Line> {
    let mut text = Vec::new();
    input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut text)?;
    if text.last() == Some(&b'\n') {
        text.pop();
        if text.last() == Some(&b'\r') {
            text.pop();
        }
        return Ok(Line::Text(text));
    }
    if text.len() as u64 == LINE_BYTES_MAX {
        drop(text);
        input.skip_until(b'\n')?;
        return Ok(Line::TooLong);
    }
    Ok(if text.is_empty() { Line::End } else { Line::Text(text) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(mut bytes: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        while lines.last() != Some(&Line::End) {
            lines.push(read_line(&mut bytes).unwrap());
        }
        lines
    }

    fn text(bytes: &[u8]) -> Line {
        Line::Text(bytes.to_vec())
    }

    /// Goal: both line ends, a last line without one, and bytes that are no text.
    #[test]
    fn ends() {
        assert_eq!(lines(b""), [Line::End]);
        assert_eq!(lines(b"a\r\n\nb\xff"), [text(b"a"), text(b""), text(b"b\xff"), Line::End]);
        assert_eq!(lines(b"a\rb\n"), [text(b"a\rb"), Line::End]);
    }

    /// Goal: a line without end takes bounded memory, and the line after it is whole.
    #[test]
    fn too_long() {
        let long = usize::try_from(LINE_BYTES_MAX).unwrap() + 10;
        let mut input = vec![b'x'; long];
        input.extend_from_slice(b"\nget k\n");
        assert_eq!(lines(&input), [Line::TooLong, text(b"get k"), Line::End]);
    }
}
