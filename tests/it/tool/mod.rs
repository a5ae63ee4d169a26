//! The real tool, run as its users run it: processes, pipes, exit codes.

mod backup;
mod check;
mod codes;
mod docs;
mod foreign;
mod keep;
mod limits;
mod look;
mod matrix;
mod mend;
mod moving;
mod operator;
mod output;
mod replay;
mod report;
mod shell;
mod signals;
mod spaces;
mod tour;

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Output, Stdio},
    sync::{
        OnceLock,
        mpsc::{self, Receiver},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tempfile::TempDir;

/// The tool's binary, built if need be with the profile and into the target directory of this test.
pub(crate) fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let this = env::current_exe().expect("this test has a path");
        let profile_dir = this.ancestors().nth(2).expect("target/PROFILE/deps/it");
        let profile = match profile_dir.file_name().and_then(OsStr::to_str) {
            None | Some("debug") => "dev",
            Some(name) => name,
        };
        let binary = profile_dir.join(format!("tierce{}", env::consts::EXE_SUFFIX));
        // An old binary would test yesterday's tool, so cargo decides whether it is fresh.
        let built = Command::new(env!("CARGO"))
            .args([
                "build",
                "--quiet",
                "--package",
                "tierce-tool",
                "--profile",
                profile,
                "--target-dir",
            ])
            .arg(profile_dir.parent().expect("target"))
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .output();
        match built {
            Ok(built) if built.status.success() => {}
            Ok(built) => {
                panic!("the tool does not build: {}", String::from_utf8_lossy(&built.stderr))
            }
            Err(error) => {
                assert!(binary.exists(), "no cargo ({error}) and no {}", binary.display())
            }
        }
        binary
    })
}

/// The tool with these arguments, nothing on its standard input.
pub(crate) fn command(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Arguments of different kinds in one list.
macro_rules! arguments {
    ($($argument:expr),* $(,)?) => {
        [$(std::ffi::OsString::from($argument)),*]
    };
}
use arguments;

/// What a finished process left.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: &Output) -> Self {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Checks the exit code, with everything there is to know if it is another one.
    #[track_caller]
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "out: {}\nerr: {}", self.out, self.err);
        self
    }
}

fn run(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ran {
    Ran::of(&command(arguments).output().expect("the tool starts"))
}

/// Runs the tool with `input` on its standard input.
fn run_with_input(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>, input: &[u8]) -> Ran {
    let mut child = command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the tool starts");
    let mut pipe = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    // The tool may stop reading, that is its right.
    let feeder = thread::spawn(move || drop(pipe.write_all(&input)));
    let output = child.wait_with_output().expect("the tool ends");
    feeder.join().expect("the feeder ends");
    Ran::of(&output)
}

/// A store directory that is not there yet, in a place of its own.
fn place() -> (TempDir, PathBuf) {
    let root = tempfile::tempdir().expect("a temporary directory");
    let store = root.path().join("store");
    (root, store)
}

/// A store with `count` entries, `key-00000` and on.
fn filled(count: u32) -> (TempDir, PathBuf) {
    let (root, store) = place();
    let lines: String = (0..count).map(|n| format!("put key-{n:05} value-{n}\n")).collect();
    let ran = run_with_input(arguments!["shell", &store], lines.as_bytes()).expect(0);
    assert_eq!(ran.out, "OK\n".repeat(count as usize));
    (root, store)
}

/// Every file below `dir` with its bytes.
fn files(dir: &Path) -> Vec<(OsString, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .expect("the directory is there")
        .map(|entry| {
            let entry = entry.expect("an entry");
            (entry.file_name(), fs::read(entry.path()).unwrap_or_default())
        })
        .collect();
    files.sort();
    files
}

/// Lines as they come, on a thread of their own. One without its end is no line.
pub(crate) fn whole_lines(output: ChildStdout) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut line = String::new();
        while output.read_line(&mut line).is_ok_and(|bytes| bytes > 0) && line.pop() == Some('\n') {
            if sender.send(std::mem::take(&mut line)).is_err() {
                break;
            }
        }
    });
    lines
}

/// A shell that is talked to line by line: each answer is read before the next question.
struct Dialogue {
    child: Child,
    input: Option<ChildStdin>,
    answers: Receiver<String>,
    talk: Option<JoinHandle<String>>,
}

impl Dialogue {
    fn open(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let mut shell = command(["shell"]);
        shell.args(arguments);
        Self::start(shell)
    }

    fn start(mut shell: Command) -> Self {
        let mut child = shell
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the shell starts");
        let input = child.stdin.take();
        let answers = whole_lines(child.stdout.take().expect("a pipe"));
        let mut stderr = child.stderr.take().expect("a pipe");
        let talk = thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).map(|_| text).unwrap_or_default()
        });
        Self { child, input, answers, talk: Some(talk) }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn say(&mut self, line: &str) {
        let input = self.input.as_mut().expect("the shell still listens");
        input.write_all(format!("{line}\n").as_bytes()).expect("the shell takes a line");
    }

    /// The next answer. A shell that keeps it to itself is as bad as one that is gone.
    fn hear(&mut self) -> String {
        let answer = self.answers.recv_timeout(Duration::from_secs(20));
        answer.unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    /// Asks, and reads one line of answer.
    fn ask(&mut self, line: &str) -> String {
        self.say(line);
        self.hear()
    }

    /// Asks for the keys.
    fn keys(&mut self, prefix: &str) -> Vec<String> {
        let count: usize = self.ask(&format!("keys {prefix}")).parse().expect("a count");
        (0..count).map(|_| self.hear()).collect()
    }

    /// Ends the input and waits; what was left to read, what it said to the person, and its code.
    fn end(mut self) -> Ran {
        drop(self.input.take());
        let out = self.answers.iter().flat_map(|answer| [answer, "\n".to_owned()]).collect();
        let status = self.child.wait().expect("the shell ends");
        let err = self.talk.take().map(|talk| talk.join().unwrap_or_default());
        Ran { code: status.code(), out, err: err.unwrap_or_default() }
    }

    /// SIGKILL.
    fn kill(mut self) -> ExitStatus {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends")
    }
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        // Only after a failed test is the shell still there.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
