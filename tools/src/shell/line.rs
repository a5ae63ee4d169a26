//! Input lines of the shell: a prompt with history on a terminal, else standard input as it is.
//!
//! Lines are read on a thread of their own, because a read does not end when a signal arrives. The shell itself waits
//! with a timeout and sees a signal within a moment, between two commands as well as while no input comes.

use std::{
    collections::VecDeque,
    io::{self, BufRead, BufReader, IsTerminal as _, Read as _},
    sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    thread,
    time::Duration,
};

use rustyline::{DefaultEditor, error::ReadlineError};

use crate::{
    exit::{Fail, Outcome},
    interrupt,
    text_start::remove_mark,
};

/// Longest line taken from a pipe. Larger values go in by `put DIR KEY -`.
pub(super) const LINE_BYTES_MAX: u64 = 64 << 20;
/// Lines that have come already are handed over together, up to this many bytes.
const TOGETHER_BYTES: usize = 64 << 10;
/// How often the shell looks for a signal while no line comes.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// One line, or why there is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Without its end.
    Text(Vec<u8>),
    /// Longer than [`LINE_BYTES_MAX`]; it was read to its end and dropped.
    TooLong,
    /// No more lines.
    End,
    /// Interrupted by a signal or from the keyboard.
    Interrupted,
}

/// What the reading thread hands over.
type Read = Outcome<Vec<Line>>;

/// A source of lines.
pub(super) struct Lines {
    /// Asks a prompt for its next line; a pipe needs no asking.
    prompts: Option<SyncSender<&'static str>>,
    read: Receiver<Read>,
    /// Lines that were handed over and not taken yet.
    waiting: VecDeque<Line>,
    /// How many lines were taken.
    pub(super) taken: u64,
}

impl Lines {
    /// Opens a prompt if a person sits at both ends, else standard input.
    pub(super) fn standard() -> Outcome<Self> {
        let (sender, read) = mpsc::sync_channel(1);
        let mut prompts = None;
        let spawned = if io::stdin().is_terminal() && io::stdout().is_terminal() {
            let editor = DefaultEditor::new().map_err(terminal)?;
            let (ask, asked) = mpsc::sync_channel(1);
            prompts = Some(ask);
            spawn(move || prompt(editor, &asked, &sender))
        } else {
            spawn(move || pipe(BufReader::with_capacity(TOGETHER_BYTES, io::stdin()), &sender))
        };
        spawned.map_err(|source| Fail::io("start a thread", source))?;
        Ok(Self { prompts, read, waiting: VecDeque::new(), taken: 0 })
    }

    /// Lines that are all there.
    #[cfg(feature = "fuzzing")]
    pub(super) fn of(script: &[u8]) -> Outcome<Self> {
        let (mut input, mut is_first) = (BufReader::new(script), true);
        let (sender, read) = mpsc::channel();
        let mut waiting = VecDeque::new();
        while waiting.back() != Some(&Line::End) {
            waiting.extend(read_together(&mut input, &mut is_first)?);
        }
        drop::<mpsc::Sender<Read>>(sender);
        Ok(Self { prompts: None, read, waiting, taken: 0 })
    }

    pub(super) const fn is_prompt(&self) -> bool {
        self.prompts.is_some()
    }

    /// The next line. A signal comes before any line that was not taken yet.
    pub(super) fn next(&mut self, prompt: &'static str) -> Outcome<Line> {
        if self.waiting.is_empty()
            && let Some(prompts) = &self.prompts
        {
            // If the thread is gone, it has handed over why.
            let _ = prompts.send(prompt);
        }
        loop {
            if interrupt::is_asked() {
                return Ok(Line::Interrupted);
            }
            if let Some(line) = self.waiting.pop_front() {
                self.taken += 1;
                return Ok(line);
            }
            match self.read.recv_timeout(LOOK_EVERY) {
                Ok(lines) => self.waiting.extend(lines?),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(Line::End),
            }
        }
    }
}

fn spawn(read: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name("lines".to_owned()).spawn(read).map(drop)
}

/// Reads a line whenever one is asked for.
fn prompt(mut editor: DefaultEditor, asked: &Receiver<&'static str>, sender: &SyncSender<Read>) {
    while let Ok(prompt) = asked.recv() {
        let read = match editor.readline(prompt) {
            Ok(text) => {
                // History is a comfort; a line that it does not take is run all the same.
                let _ = editor.add_history_entry(text.as_str());
                Ok(Line::Text(text.into_bytes()))
            }
            Err(ReadlineError::Eof) => Ok(Line::End),
            Err(ReadlineError::Interrupted) => Ok(Line::Interrupted),
            Err(error) => Err(terminal(error)),
        };
        if sender.send(read.map(|line| vec![line])).is_err() {
            return;
        }
    }
}

/// Reads to the end of the input, ahead of the shell by at most two batches of lines.
fn pipe(mut input: BufReader<impl io::Read>, sender: &SyncSender<Read>) {
    let mut is_first = true;
    loop {
        let read = read_together(&mut input, &mut is_first);
        let is_over = !matches!(&read, Ok(lines) if lines.last() != Some(&Line::End));
        if sender.send(read).is_err() || is_over {
            return;
        }
    }
}

/// The next line, and those after it that need no waiting.
fn read_together(input: &mut BufReader<impl io::Read>, is_first: &mut bool) -> Read {
    let failed = |source| Fail::io("read standard input", source);
    let (mut lines, mut bytes) = (Vec::new(), 0);
    loop {
        let mut line = read_line(input).map_err(failed)?;
        if let Line::Text(text) = &mut line {
            if std::mem::take(is_first) {
                remove_mark(text)
                    .map_err(|what| Fail::Input(format!("standard input line 1: {what}")))?;
            }
            bytes += text.len();
        }
        let is_over = line == Line::End;
        lines.push(line);
        if is_over || bytes >= TOGETHER_BYTES || !input.buffer().contains(&b'\n') {
            return Ok(lines);
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

    /// All lines of an input, by the batches in which they are handed over.
    fn batches(bytes: &[u8]) -> Outcome<Vec<Vec<Line>>> {
        let (mut input, mut is_first, mut batches) = (BufReader::new(bytes), true, Vec::new());
        while batches.last().is_none_or(|batch: &Vec<Line>| batch.last() != Some(&Line::End)) {
            batches.push(read_together(&mut input, &mut is_first)?);
        }
        Ok(batches)
    }

    fn lines(bytes: &[u8]) -> Vec<Line> {
        batches(bytes).unwrap().into_iter().flatten().collect()
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

    /// Goal: what is read ahead is bounded, and a line is never kept back for the next one.
    #[test]
    fn together() {
        let many = b"get some-key\n".repeat(50_000);
        let found = batches(&many).unwrap();
        assert_eq!(found.iter().flatten().count(), 50_001);
        assert!(found.len() > 5 && found[0].len() > 100, "{} batches", found.len());
        let half = batches(b"get a\nget b").unwrap();
        assert_eq!(half, [vec![text(b"get a")], vec![text(b"get b")], vec![Line::End]]);
    }

    /// Goal: a UTF-8 mark before the first line is no part of a command; other encodings are refused.
    #[test]
    fn marks() {
        assert_eq!(lines(b"\xef\xbb\xbfget k\r\n"), [text(b"get k"), Line::End]);
        assert_eq!(lines(b"a\n\xef\xbb\xbfb\n"), [text(b"a"), text(b"\xef\xbb\xbfb"), Line::End]);
        assert!(matches!(batches(b"\xff\xfeg\0e\0t\0\n\0"), Err(Fail::Input(_))));
    }
}
