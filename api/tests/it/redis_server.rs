//! A real server of Redis or Valkey for a test: on a free port of the loopback, keeping nothing, gone with its handle.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

/// Programs that are such a server, the first that is there is taken.
const PROGRAMS: [&str; 2] = ["redis-server", "valkey-server"];
/// Attempts at 10 ms each to reach a server that was started.
const ATTEMPTS: u32 = 1_000;

/// A running server. Killed when dropped.
pub(crate) struct RedisServer {
    program: &'static str,
    child: Option<Child>,
    port: u16,
    dir: tempfile::TempDir,
}

impl RedisServer {
    /// A server, or `None` with a printed reason if no program for one is installed.
    pub(crate) fn start() -> Option<Self> {
        let is_there = |program: &&&str| {
            let mut command = Command::new(program);
            command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        let Some(program) = PROGRAMS.iter().find(is_there) else {
            let mut out = std::io::stderr();
            let _ = writeln!(out, "skipped: none of {PROGRAMS:?} is installed");
            return None;
        };
        // Another process may take the port between the question and the server's start.
        for _ in 0..20 {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let port = listener.local_addr().expect("its address").port();
            drop(listener);
            let dir = tempfile::tempdir().expect("a directory");
            let mut server = Self { program, child: None, port, dir };
            if server.spawn() {
                return Some(server);
            }
        }
        panic!("no server could be started");
    }

    fn spawn(&mut self) -> bool {
        let log = fs::File::create(self.dir.path().join("log")).expect("a log");
        let child = Command::new(self.program)
            .args(["--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--port"])
            .arg(self.port.to_string())
            .arg("--dir")
            .arg(self.dir.path())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .expect("the program is there");
        self.child = Some(child);
        for _ in 0..ATTEMPTS {
            let child = self.child.as_mut().expect("just started");
            if child.try_wait().expect("its state").is_some() {
                return false;
            }
            // The port may be another server's: ours says in which directory it runs.
            if self.is_ours().unwrap_or(false) {
                return true;
            }
            thread::sleep(Duration::from_millis(10));
        }
        false
    }

    fn is_ours(&self) -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"CONFIG GET dir\r\n")?;
        let mut answer = vec![0; 4_096];
        let length = stream.read(&mut answer)?;
        let dir = fs::canonicalize(self.dir.path())?;
        Ok(String::from_utf8_lossy(&answer[..length]).contains(&*dir.to_string_lossy()))
    }

    /// Where to find it.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Kills it; what was in it is gone.
    #[allow(dead_code, reason = "not every user of this file wants it dead")]
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again, empty, on the same port.
    #[allow(dead_code, reason = "not every user of this file kills it")]
    pub(crate) fn restart(&mut self) {
        self.kill();
        assert!(self.spawn(), "the port was taken meanwhile");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
