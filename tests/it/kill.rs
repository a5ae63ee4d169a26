//! Kills the real tool from outside, again and again, and asks what is left.
//!
//! A shell is fed through a pipe by a thread that never waits; its answers are read here. At a random moment it
//! gets SIGKILL. What it had answered must be there, what it had deleted must be gone, batches are whole; only
//! the one command after the last answer may have been done or not. Then the same directory goes on, so that
//! recovery meets what recovery left, and now and then recovery itself is killed.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read as _, Write as _},
    path::PathBuf,
    process::{ChildStdin, Stdio},
    sync::{Arc, Mutex, mpsc::Receiver},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tierce_engine::{
    Engine, Options,
    check::check_store,
    io::{Disk, OsDisk},
};
use tierce_kit::{rng::Rng, seed};

use crate::tool::{command, whole_lines};

/// Kills of one directory, and directories for each mode: twice 5 times 22 is 220 kills.
const KILLS: u64 = 22;
const DIRECTORIES: u64 = 5;

/// A value, and whether it has an expiry (hours away, so it never comes).
type Stored = (String, bool);
/// What a store holds, key to value. Keys and values here are words without anything to escape.
type State = BTreeMap<String, Stored>;

/// A line for the shell.
#[derive(Clone, Debug)]
enum Line {
    Put { key: String, value: String, expires: bool },
    Del { key: String },
    Touch { key: String, expires: bool },
    Incr { key: String, by: i64 },
    Batch,
    Commit,
    Abort,
    Sync,
}

impl Line {
    fn text(&self) -> String {
        match self {
            Self::Put { key, value, expires: false } => format!("put {key} {value}"),
            Self::Put { key, value, expires: true } => format!("put {key} {value} ttl=9h"),
            Self::Del { key } => format!("del {key}"),
            Self::Touch { key, expires: true } => format!("touch {key} ttl=9h"),
            Self::Touch { key, expires: false } => format!("touch {key} ttl=never"),
            Self::Incr { key, by } => format!("incr {key} {by}"),
            Self::Batch => "batch".to_owned(),
            Self::Commit => "commit".to_owned(),
            Self::Abort => "abort".to_owned(),
            Self::Sync => "sync".to_owned(),
        }
    }
}

/// What the store must hold, and the batch that is being collected.
#[derive(Clone, Debug, Default)]
struct Model {
    state: State,
    batch: Option<Vec<Line>>,
}

impl Model {
    /// Does what the line says; the answer that the shell must give.
    fn apply(&mut self, line: &Line) -> String {
        if let (Some(batch), Line::Put { .. } | Line::Del { .. }) = (&mut self.batch, line) {
            batch.push(line.clone());
            return "QUEUED".to_owned();
        }
        match line {
            Line::Put { key, value, expires } => {
                self.state.insert(key.clone(), (value.clone(), *expires));
            }
            Line::Del { key } => return u8::from(self.state.remove(key).is_some()).to_string(),
            Line::Touch { key, expires } => {
                let entry = self.state.get_mut(key);
                return u8::from(entry.map(|entry| entry.1 = *expires).is_some()).to_string();
            }
            Line::Incr { key, by } => {
                let (old, expires) =
                    self.state.get(key).cloned().unwrap_or(("0".to_owned(), false));
                let sum = (old.parse::<i64>().expect("counters hold numbers") + by).to_string();
                self.state.insert(key.clone(), (sum.clone(), expires));
                return sum;
            }
            Line::Batch => self.batch = Some(Vec::new()),
            Line::Commit => {
                for line in self.batch.take().into_iter().flatten() {
                    self.apply(&line);
                }
            }
            Line::Abort => self.batch = None,
            Line::Sync => {}
        }
        "OK".to_owned()
    }
}

/// Lines that overwrite and delete each other, with values from nothing to more than a segment.
fn lines(rng: &mut Rng, count: u64) -> Vec<Line> {
    let mut lines = Vec::new();
    while (lines.len() as u64) < count {
        match rng.below(100) {
            0..50 => lines.push(put(rng)),
            50..70 => lines.push(Line::Del { key: key(rng) }),
            70..80 => {
                let key = format!("n{}", rng.below(4));
                lines.push(Line::Incr { key, by: rng.below(9).cast_signed() - 4 });
            }
            80..86 => lines.push(Line::Touch { key: key(rng), expires: rng.one_in(2) }),
            86..89 => lines.push(Line::Sync),
            _ => {
                lines.push(Line::Batch);
                for _ in 0..rng.between(1, 6) {
                    lines.push(if rng.one_in(3) { Line::Del { key: key(rng) } } else { put(rng) });
                }
                lines.push(if rng.one_in(6) { Line::Abort } else { Line::Commit });
            }
        }
    }
    lines
}

fn key(rng: &mut Rng) -> String {
    format!("key-{}", rng.below(40))
}

fn put(rng: &mut Rng) -> Line {
    let bytes = match rng.below(40) {
        0 => rng.between(9_000, 20_000),
        1..4 => rng.between(1_000, 6_000),
        _ => rng.between(0, 300),
    };
    let mut value = format!("{:016x}", rng.next_u64());
    let filler = char::from(b'a' + u8::try_from(rng.below(26)).expect("a letter"));
    value.extend((0..bytes).map(|_| filler));
    Line::Put { key: key(rng), value, expires: rng.one_in(8) }
}

/// A running shell: lines go in from a thread of their own, answers come out of another.
struct Shell {
    child: std::process::Child,
    answers: Receiver<String>,
    feeder: thread::JoinHandle<ChildStdin>,
    /// What it says on standard error.
    talk: Arc<Mutex<String>>,
}

impl Shell {
    fn start(campaign: &Campaign, lines: &[String]) -> Self {
        let mut child = command(["shell"])
            .arg(&campaign.store)
            .args([
                "--durability",
                campaign.mode,
                "--segment-bytes",
                &campaign.segment_bytes.to_string(),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the shell starts");
        let talk = Arc::new(Mutex::new(String::new()));
        let (mut stderr, heard) = (child.stderr.take().expect("a pipe"), talk.clone());
        thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            *heard.lock().expect("nobody panics with it") = text;
        });
        let mut input = child.stdin.take().expect("a pipe");
        let output = child.stdout.take().expect("a pipe");
        let text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
        let feeder = thread::spawn(move || {
            // The pipe breaks when the shell is killed. It stays open until then, whatever happens.
            let _ = input.write_all(text.as_bytes());
            input
        });
        let answers = whole_lines(output);
        Self { child, answers, feeder, talk }
    }

    /// The next answer. Nobody has killed the shell yet, so there must be one.
    fn hear(&self) -> String {
        self.answers.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|error| {
            // If the shell has ended, what it had to say about that comes at once.
            thread::sleep(Duration::from_millis(100));
            panic!("no answer ({error}); the shell said: {:?}", self.talk.lock())
        })
    }

    /// SIGKILL, and the answers that it had given before and that nobody had read.
    fn kill(mut self) -> Vec<String> {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
        drop(self.feeder.join().expect("the feeder ends"));
        self.answers.into_iter().collect()
    }
}

/// One directory and its history.
struct Campaign {
    _root: TempDir,
    store: PathBuf,
    mode: &'static str,
    segment_bytes: u64,
    rng: Rng,
    /// What the store may hold: one state, or two while the last command is in doubt.
    possible: Vec<State>,
    tally: Tally,
}

/// What a campaign saw, so that it cannot pass by seeing nothing.
#[derive(Debug, Default)]
struct Tally {
    kills: u64,
    /// Kills while commands were waiting to be done.
    in_the_middle: u64,
    /// Kills before or while the store was opened and read.
    at_the_start: u64,
    acknowledged: u64,
}

impl Campaign {
    fn new(seed: u64, mode: &'static str) -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        let store = root.path().join("store");
        let mut rng = Rng::new(seed);
        let segment_bytes = rng.weighted(&[(3, 8 << 10), (2, 32 << 10), (1, 256 << 10)]);
        let possible = vec![State::new()];
        Self { _root: root, store, mode, segment_bytes, rng, possible, tally: Tally::default() }
    }

    fn run(mut self) -> Tally {
        while self.tally.kills < KILLS {
            if self.rng.one_in(5) {
                self.kill_at_the_start();
            } else if self.rng.one_in(2) {
                self.verify_inside();
                self.kill_while_writing(false);
            } else {
                self.kill_while_writing(true);
            }
        }
        self.verify_inside();
        let disk: Arc<dyn Disk> = Arc::new(OsDisk);
        let report = check_store(&disk, &self.store).expect("the store can be checked");
        let findings = report.findings.iter();
        let codes: Vec<_> = findings.map(|found| (found.code, found.message.clone())).collect();
        assert!(report.is_healthy(), "{codes:?}");
        self.tally
    }

    /// Opens the store here and compares everything in it with what it may hold.
    fn verify_inside(&mut self) {
        let engine = Options::new().segment_bytes(self.segment_bytes).open(&self.store);
        let engine =
            engine.unwrap_or_else(|error| panic!("after kill {}: {error}", self.tally.kills));
        let report = engine.recovery_report();
        assert!(report.damaged.is_empty(), "after kill {}: {report:?}", self.tally.kills);
        let found = contents(&engine);
        self.settle(&found, true);
        engine.close().expect("it closes");
    }

    /// The store holds `found`: that must be possible, and from now on nothing else is.
    fn settle(&mut self, found: &State, with_expiry: bool) {
        let same = |state: &State| {
            state.len() == found.len()
                && state.iter().zip(found).all(|((key, (value, expires)), (found_key, found))| {
                    (key, value) == (found_key, &found.0) && (!with_expiry || *expires == found.1)
                })
        };
        if !self.possible.iter().any(same) {
            let differences =
                self.possible.iter().map(|state| difference(state, found, with_expiry));
            let differences: Vec<String> = differences.collect();
            panic!(
                "after kill {} ({}): {}",
                self.tally.kills,
                self.mode,
                differences.join("\nor ")
            );
        }
        self.possible.retain(same);
    }

    /// Kills a shell that is opening the store or answering its first questions.
    fn kill_at_the_start(&mut self) {
        let shell = Shell::start(self, &["keys".to_owned(), "stats".to_owned()]);
        spin(self.rng.below(12_000));
        shell.kill();
        self.tally.kills += 1;
        self.tally.at_the_start += 1;
    }

    /// Feeds a shell and kills it after some answers, while it works on the next command. With `verify`, the
    /// shell is first asked what it holds: no clean close comes between two kills then.
    fn kill_while_writing(&mut self, verify: bool) {
        let answers_before = self.rng.between(0, if self.mode == "sync" { 60 } else { 400 });
        let count = answers_before + 300;
        let lines = lines(&mut self.rng, count);
        let questions = if verify { self.questions() } else { Vec::new() };
        let texts: Vec<String> =
            questions.iter().cloned().chain(lines.iter().map(Line::text)).collect();
        let shell = Shell::start(self, &texts);
        if verify {
            let found = answers_about(&shell, &questions);
            self.settle(&found, false);
        }
        let mut answers = Vec::new();
        while (answers.len() as u64) < answers_before {
            answers.push(shell.hear());
        }
        spin(self.rng.below(if self.mode == "sync" { 3_000 } else { 400 }));
        answers.extend(shell.kill());
        self.tally.kills += 1;
        self.tally.in_the_middle += u64::from(answers.len() < lines.len());
        self.tally.acknowledged += answers.len() as u64;
        self.learn(&lines, &answers);
    }

    /// Every key that there may be, and the list of those that are there.
    fn questions(&self) -> Vec<String> {
        let mut keys: Vec<String> = (0..40).map(|n| format!("key-{n}")).collect();
        keys.extend((0..4).map(|n| format!("n{n}")));
        keys.iter().map(|key| format!("get {key}")).chain(["keys".to_owned()]).collect()
    }

    /// From the answers follows what the store holds now, but for the command that came next.
    fn learn(&mut self, lines: &[Line], answers: &[String]) {
        let mut after = Vec::new();
        let mut complaints = Vec::new();
        for state in &self.possible {
            let mut model = Model { state: state.clone(), batch: None };
            let wrong =
                lines.iter().zip(answers).enumerate().find_map(|(number, (line, answer))| {
                    let expected = model.apply(line);
                    (expected != *answer)
                        .then(|| format!("{number} {line:?}: {answer}, not {expected}"))
                });
            if let Some(wrong) = wrong {
                complaints.push(wrong);
                continue;
            }
            let mut next = model.clone();
            if let Some(line) = lines.get(answers.len()) {
                next.apply(line);
            }
            after.extend([model.state, next.state]);
        }
        assert!(!after.is_empty(), "wrong answers: {complaints:?}");
        after.dedup();
        self.possible = after;
    }
}

/// Everything in the store, by walking and by asking.
fn contents(engine: &Engine) -> State {
    let mut state = State::new();
    for entry in engine.iter().expect("a walk begins") {
        let (key, entry) = entry.expect("an entry is read");
        let asked = engine.get(&key).expect("it is read again").expect("it is there");
        assert_eq!(*asked, *entry.value, "walking and asking agree");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        state.insert(text(&key), (text(&entry.value), entry.expires_at.is_some()));
    }
    state
}

/// What the shell says it holds, by asking for every key and by the list.
fn answers_about(shell: &Shell, questions: &[String]) -> State {
    let mut state = State::new();
    for question in questions {
        let answer = shell.hear();
        match question.strip_prefix("get ") {
            Some(_) if answer == "(nil)" => {}
            Some(key) => {
                state.insert(key.to_owned(), (answer, false));
            }
            None => {
                let count: usize = answer.parse().expect("a count");
                let listed: Vec<String> = (0..count).map(|_| shell.hear()).collect();
                let mut asked: Vec<String> = state.keys().cloned().collect();
                asked.sort();
                assert_eq!(listed, asked, "the list and the answers agree");
            }
        }
    }
    state
}

/// Where two states differ, as far as it helps.
fn difference(expected: &State, found: &State, with_expiry: bool) -> String {
    let seen = |stored: Option<&Stored>| {
        stored.map(|(value, expires)| (value.clone(), with_expiry && *expires))
    };
    let tell = |stored: Option<Stored>| {
        stored.map_or("nothing".to_owned(), |(value, expires)| {
            let start = &value[..value.len().min(16)];
            format!("{start} ({} bytes, expires: {expires})", value.len())
        })
    };
    let keys: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
    let different = keys.into_iter().filter_map(|key| {
        let (expected, found) = (seen(expected.get(key)), seen(found.get(key)));
        (expected != found)
            .then(|| format!("{key}: {} found, {} expected", tell(found), tell(expected)))
    });
    let different: Vec<String> = different.collect();
    let some = different.iter().take(6).map(String::as_str).collect::<Vec<_>>().join("; ");
    format!("{} keys differ: {some}", different.len())
}

/// Waits exactly that long; sleeping would be too coarse to hit the middle of a write.
fn spin(microseconds: u64) {
    let start = Instant::now();
    while start.elapsed() < Duration::from_micros(microseconds) {
        std::hint::spin_loop();
    }
}

fn campaigns(name: &str, mode: &'static str) {
    let mut total = Tally::default();
    let mut directories = 0;
    seed::cases(name, DIRECTORIES, |seed| {
        let tally = Campaign::new(seed, mode).run();
        total.kills += tally.kills;
        total.in_the_middle += tally.in_the_middle;
        total.at_the_start += tally.at_the_start;
        total.acknowledged += tally.acknowledged;
        directories += 1;
    });
    eprintln!("{mode}: {total:?} in {directories} directories");
    assert_eq!(total.kills, directories * KILLS);
    assert!(total.in_the_middle > total.kills / 2, "most kills interrupt something: {total:?}");
    assert!(total.acknowledged > total.kills, "{total:?}");
}

/// Goal: what was acknowledged with `Os` survives the death of the process at any moment.
#[test]
fn acknowledged_by_the_system() {
    campaigns("kill::acknowledged_by_the_system", "os");
}

/// Goal: the same with `Sync`, whose log is written in another way (turns, preallocation, one flush for many).
#[test]
fn acknowledged_by_the_device() {
    campaigns("kill::acknowledged_by_the_device", "sync");
}
