//! Starts what was built: its version, and one request.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::compile::Target;
use crate::contents::Program;

/// An emulator on a busy machine takes its time.
const POLLS_MAX: u32 = 1_200;
const POLL: Duration = Duration::from_millis(50);
/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(30);

/// What runs programs of a platform: itself, or an emulator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runner {
    Itself,
    Emulator(PathBuf),
}

/// Ends with its owner.
struct Running(Child);

// === impl Runner ===

impl Runner {
    /// The one for `target` on this machine, if there is one; an error says which would do.
    pub fn find(target: Target) -> Result<Self, String> {
        let (machine, _) = target.triple.split_once('-').unwrap_or_default();
        if (env::consts::OS, env::consts::ARCH) == ("linux", machine) {
            return Ok(Self::Itself);
        }
        let names = [format!("qemu-{machine}-static"), format!("qemu-{machine}")];
        let path = env::var_os("PATH").unwrap_or_default();
        let mut files =
            env::split_paths(&path).flat_map(|folder| names.clone().map(|name| folder.join(name)));
        let found = files.find(|file| file.is_file());
        found.map(Self::Emulator).ok_or(format!(
            "no {} on PATH (Debian's package qemu-user-static)",
            names[0]
        ))
    }

    fn command(&self, program: &Path) -> Command {
        match self {
            Self::Itself => Command::new(program),
            Self::Emulator(emulator) => {
                let mut command = Command::new(emulator);
                command.arg(program);
                command
            }
        }
    }

    /// Asks the program at `path` for its version, then starts it and asks for its metrics.
    pub fn try_out(&self, program: Program, path: &Path, version: &str) -> Result<()> {
        let said = self.command(path).arg("--version").env_clear().output()?;
        let wanted = format!("{} {version}\n", program.file);
        ensure!(
            said.stdout == wanted.as_bytes(),
            "--version says {:?}: {}",
            String::from_utf8_lossy(&said.stdout),
            String::from_utf8_lossy(&said.stderr)
        );
        let folder = tempfile::tempdir()?;
        let mut command = self.command(path);
        command.args(serve(program, folder.path()));
        command
            .env_clear()
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut running = Running(command.spawn().context("start it")?);
        let address = running.admin(&folder.path().join(ADDRESSES))?;
        let answer = get(&address, "/metrics")?;
        ensure!(
            answer.starts_with("HTTP/1.1 200 "),
            "/metrics answers {answer}"
        );
        ensure!(
            answer.contains("\nmeshmeter_"),
            "/metrics holds nothing of ours"
        );
        Ok(())
    }
}

const ADDRESSES: &str = "addresses.json";

/// Flags under which a program serves without a cluster, on ports that are free.
fn serve(program: Program, folder: &Path) -> Vec<String> {
    let (subcommand, listeners) = match program.package {
        "aggregator" => (
            vec!["serve".to_owned(), "--standalone".to_owned()],
            &["ingest-listen", "api-listen", "admin-listen"][..],
        ),
        _ => (
            vec![
                "control-plane".to_owned(),
                format!("--manifests={}", folder.display()),
            ],
            &["listen", "admin-listen"][..],
        ),
    };
    let listeners = listeners.iter().map(|flag| format!("--{flag}=127.0.0.1:0"));
    let addresses = format!("--addresses-file={}", folder.join(ADDRESSES).display());
    subcommand
        .into_iter()
        .chain(listeners)
        .chain([addresses])
        .collect()
}

fn get(address: &str, path: &str) -> Result<String> {
    let mut connection = TcpStream::connect(address).context("connect")?;
    connection.set_read_timeout(Some(ANSWER))?;
    write!(
        connection,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer)
}

// === impl Running ===

impl Running {
    /// Waits until it has written where its metrics are.
    fn admin(&mut self, file: &Path) -> Result<String> {
        for _ in 0..POLLS_MAX {
            if let Some(status) = self.0.try_wait()? {
                bail!("it ended: {status}");
            }
            if let Ok(text) = fs::read(file) {
                let addresses: Value = serde_json::from_slice(&text)?;
                let admin = addresses["admin"].as_str();
                return admin
                    .map(str::to_owned)
                    .context("it names no address for metrics");
            }
            thread::park_timeout(POLL);
        }
        bail!("it does not listen")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;
    use std::{fs, thread};

    use super::Runner;
    use crate::contents::Program;

    const PROGRAM: Program = Program {
        package: "aggregator",
        file: "meshmeter",
    };

    /// What became of a shell script in the place of the program. `ADMIN` in it is an address where
    /// one request is answered by `answer`.
    fn tried(script: &str, answer: &'static str) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // Left alone if nobody asks.
        let _server = thread::spawn(move || {
            let (connection, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(&connection).lines();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            (&connection).write_all(answer.as_bytes()).unwrap();
        });
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("program");
        fs::write(&file, script.replace("ADMIN", &address.to_string())).unwrap();
        let runner = Runner::Emulator("/bin/sh".into());
        let tried = runner.try_out(PROGRAM, &file, "0.1.0");
        tried.map_err(|error| format!("{error:#}"))
    }

    const SERVES: &str = r#"
case $1 in --version) echo "meshmeter 0.1.0"; exit ;; esac
for flag; do case $flag in --addresses-file=*) file=${flag#*=} ;; esac; done
echo '{"admin": "ADMIN"}' > "$file.new"
mv "$file.new" "$file"
exec sleep 60
"#;

    /// A program passes if it says its version, serves, and answers with metrics of ours; each of
    /// these that it does not is said.
    #[test]
    fn a_program_has_to_start_and_answer() {
        let good = "HTTP/1.1 200 OK\r\n\r\n# EOF\nmeshmeter_pods 0\n";
        assert_eq!(tried(SERVES, good), Ok(()));
        let ends = "case $1 in --version) echo meshmeter 0.1.0 ;; *) exit 3 ;; esac";
        for (script, answer, wanted) in [
            ("echo meshmeter 0.0.9", good, "0.0.9"),
            (ends, good, "it ended: exit status: 3"),
            (
                SERVES,
                "HTTP/1.1 503 No\r\n\r\n",
                "/metrics answers HTTP/1.1 503",
            ),
            (
                SERVES,
                "HTTP/1.1 200 OK\r\n\r\nother 1\n",
                "nothing of ours",
            ),
        ] {
            let said = tried(script, answer).unwrap_err();
            assert!(said.contains(wanted), "{said}");
        }
    }
}
