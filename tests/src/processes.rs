//! Starting the project's own binaries as separate processes, and identities for them.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use ir::Party;
use processes::RunError;
use processes::handshake::Role;
use processes::identity::Identity;
use processes::limits::Limits;
use processes::net::Protection;
use processes::pins::{Pin, Pins};
use tempfile::TempDir;

/// Builds `sscc` and `ssvm` in the profile that this crate was built in, and gives the folder that holds them.
pub fn build_binaries() -> Result<PathBuf, String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--package", "sscc", "--package", "ssvm", "--bins"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    cargo.current_dir(repository());
    let status = cargo.status().map_err(|e| format!("cargo cannot be started: {e}"))?;
    if !status.success() {
        return Err(format!("building sscc and ssvm failed ({status})"));
    }
    let own = std::env::current_exe().map_err(|e| format!("no path of this program: {e}"))?;
    let folder = own.parent().expect("a program lies in a folder");
    // Test programs lie one folder deeper than binaries.
    Ok(if folder.ends_with("deps") {
        folder.parent().expect("deps has a parent").to_owned()
    } else {
        folder.to_owned()
    })
}

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lies in the repository")
}

/// Keys of a client, a server and a dealer, who have pinned each other.
pub struct Identities(TempDir);

impl Identities {
    /// Makes them, in a temporary folder.
    pub fn make() -> Result<Identities, String> {
        let made = Identities(tempfile::tempdir().map_err(|e| e.to_string())?);
        let roles = [Role::Party(Party::Client), Role::Party(Party::Server), Role::Dealer];
        let pin = || -> Result<(), RunError> {
            let mut all = Vec::new();
            for role in roles {
                all.push((role, Identity::generate(&made.of(role))?));
            }
            for (role, own) in &all {
                for (other, identity) in all.iter().filter(|(other, _)| other != role) {
                    let (key, name, limits) = (identity.public(), other.name().to_owned(), Limits::default());
                    let pin = Pin { role: *other, key, name, limits };
                    Pins::add(&made.of(*role), own, pin)?;
                }
            }
            Ok(())
        };
        pin().map_err(|e| e.to_string())?;
        Ok(made)
    }

    /// The directory of one of them, for `--identity`.
    pub fn of(&self, role: Role) -> PathBuf {
        self.0.path().join(role.name())
    }

    /// How its links are protected.
    pub fn protection(&self, role: Role) -> Result<Protection, String> {
        let directory = self.of(role);
        let identity = Identity::open(&directory).map_err(|e| e.to_string())?;
        Ok(Protection::Pinned { identity, directory })
    }
}

/// A process that is stopped when this is dropped.
pub struct Server {
    child: Child,
    /// The address that it listens on.
    pub address: String,
    // Kept open: a server that prints to a closed pipe would fail.
    _stdout: BufReader<ChildStdout>,
}

impl Server {
    /// Starts a command that prints `listening on ADDRESS` and then serves.
    pub fn start(command: &mut Command) -> Result<Server, String> {
        let mut child = command.stdout(Stdio::piped()).spawn().map_err(|e| format!("{command:?}: {e}"))?;
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut line = String::new();
        loop {
            line.clear();
            match stdout.read_line(&mut line) {
                Ok(n) if n > 0 => {}
                _ => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(format!("{command:?} ended before it listened"));
                }
            }
            if let Some(address) = line.trim().strip_prefix("listening on ") {
                let address = address.split_whitespace().next().unwrap_or_default().to_owned();
                return Ok(Server { child, address, _stdout: stdout });
            }
        }
    }

    /// Ends it by a signal; gives its exit code.
    pub fn stop(mut self, signal: &str) -> Result<Option<i32>, String> {
        let mut kill = Command::new("kill");
        output(kill.args([&format!("-{signal}"), &self.child.id().to_string()]))?;
        Ok(self.child.wait().map_err(|e| e.to_string())?.code())
    }

    /// Its greatest resident memory so far, where the system tells.
    pub fn peak_rss_bytes(&self) -> Option<u64> {
        self.status_bytes("VmHWM:")
    }

    /// Its resident memory, where the system tells.
    pub fn rss_bytes(&self) -> Option<u64> {
        self.status_bytes("VmRSS:")
    }

    fn status_bytes(&self, key: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end; its stdout, or what it said on stderr.
pub fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim_end().to_owned())
    }
}
