//! The keys of others that this machine's user trusts, each in a role.
//!
//! The file `pins` in the identity's directory has a line for each: role, key, fingerprint, name, limits. A link comes about only with a
//! key that is pinned in the role that its other end has. The file is read for each connection, so that what is pinned or removed
//! counts at once; one that is damaged, or that others can write, admits nobody.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use ir::Party;

use crate::disk::sync_directory;
use crate::handshake::Role;
use crate::identity::{Identity, MAX_FILE, PublicKey};
use crate::limits::{Limit, Limits};
use crate::net::printable;

/// The file.
const PINS: &str = "pins";

/// Longest name, in characters.
const MAX_NAME: usize = 64;

/// Who has limits.
const CLIENT: Role = Role::Party(Party::Client);

/// A key that is trusted in a role.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pin {
    /// What it may be.
    pub role: Role,
    /// The key.
    pub key: PublicKey,
    /// What the user calls it.
    pub name: String,
    /// What it may ask for, if it is a client.
    pub limits: Limits,
}

/// All that are trusted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pins(Vec<Pin>);

/// Pins that cannot be used.
#[derive(thiserror::Error, Debug)]
#[allow(missing_docs)]
pub enum PinError {
    #[error("{}, line {line}, is damaged: it is no pin", path.display())]
    Damaged { path: PathBuf, line: usize },
    #[error("{} can be written by others (mode {mode:03o})", path.display())]
    Mode { path: PathBuf, mode: u32 },
    #[error("{}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("no {role} is pinned in {}", path.display())]
    Missing { role: &'static str, path: PathBuf },
    #[error("this is the identity's own key")]
    Own,
    #[error("nothing in {} is called `{name}`", path.display())]
    Unknown { name: String, path: PathBuf },
    #[error("no client in {} is called `{name}`", path.display())]
    NoClient { name: String, path: PathBuf },
    #[error("several clients are called `{name}`")]
    Ambiguous { name: String },
    #[error("`{name}` is no name: up to 64 letters, digits and `._-`")]
    Name { name: String },
}

impl PinError {
    /// A way out, for the user.
    pub fn hint(&self) -> String {
        match self {
            PinError::Damaged { .. } => "remove that line, or the file, and pair anew".to_owned(),
            PinError::Mode { .. } => "`chmod 600` on it after a look at `ssvm pair --list`".to_owned(),
            PinError::Io { .. } => "`--identity DIR` with a directory that can be read and written".to_owned(),
            PinError::Missing { role, .. } => {
                format!(
                    "`ssvm pair --file PEER.pub --as {role}`, with the {role}'s `identity.pub`; or `ssvm pair --help` for other ways"
                )
            }
            PinError::Own => "the other side's key: each side has an identity of its own".to_owned(),
            PinError::Unknown { .. } => "a name or fingerprint of `ssvm pair --list`".to_owned(),
            PinError::NoClient { .. } => "the name or fingerprint of a client of `ssvm pair --list`".to_owned(),
            PinError::Ambiguous { .. } => "the fingerprint that `ssvm pair --list` shows".to_owned(),
            PinError::Name { .. } => "a shorter, plainer `--name`".to_owned(),
        }
    }
}

impl Pins {
    /// Those of an identity's directory; none if it has no such file.
    pub fn read(directory: &Path) -> Result<Pins, PinError> {
        let path = Pins::file(directory);
        let failed = |source| PinError::Io { path: path.clone(), source };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Pins::default()),
            Err(source) => return Err(failed(source)),
        };
        if let Some(mode) = writable_by_others(&file).map_err(failed)? {
            return Err(PinError::Mode { path, mode });
        }
        let mut bytes = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut bytes).map_err(failed)?;
        let mut pins = Vec::new();
        for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let damaged = || PinError::Damaged { path: path.clone(), line: index + 1 };
            // A line that was cut short may have lost a part of its name.
            let line = line.strip_suffix(b"\n").ok_or_else(damaged)?;
            pins.push(std::str::from_utf8(line).ok().and_then(Pin::parse).ok_or_else(damaged)?);
        }
        Ok(Pins(pins))
    }

    /// Where they are.
    pub fn file(directory: &Path) -> PathBuf {
        directory.join(PINS)
    }

    /// All of them.
    pub fn all(&self) -> &[Pin] {
        &self.0
    }

    /// The roles in which a key is pinned.
    pub fn roles(&self, key: &PublicKey) -> Vec<Role> {
        self.0.iter().filter(|pin| pin.key == *key).map(|pin| pin.role).collect()
    }

    /// That somebody is pinned in a role, without which there is nobody to talk to.
    pub fn need(&self, role: Role, directory: &Path) -> Result<(), PinError> {
        match self.0.iter().any(|pin| pin.role == role) {
            true => Ok(()),
            false => Err(PinError::Missing { role: role.name(), path: Pins::file(directory) }),
        }
    }

    /// Adds a key to those of an identity's directory. Its role and its name are then its alone: what had them is replaced only if it is the
    /// same key, whose limits stay.
    pub fn add(directory: &Path, own: &Identity, pin: Pin) -> Result<(), PinError> {
        if pin.key == own.public() {
            return Err(PinError::Own);
        }
        if pin.name.is_empty() || pin.name.len() > MAX_NAME || !pin.name.chars().all(plain) {
            return Err(PinError::Name { name: printable(pin.name.as_bytes()) });
        }
        Pins::change(directory, |pins| {
            let same = |old: &Pin| (old.role, old.key) == (pin.role, pin.key);
            let limits = pins.iter().find(|old| same(old)).map_or(pin.limits.clone(), |old| old.limits.clone());
            pins.retain(|old| !same(old));
            pins.push(Pin { limits, ..pin });
            Ok(())
        })
    }

    /// Sets limits of the client that has this name or fingerprint; gives all that it has then.
    pub fn limit(directory: &Path, name: &str, limits: Vec<Limit>) -> Result<Limits, PinError> {
        let mut all = Limits::default();
        Pins::change(directory, |pins| {
            let called = |pin: &&mut Pin| pin.role == CLIENT && (pin.name == name || pin.key.fingerprint() == name);
            let mut found = pins.iter_mut().filter(called);
            let unknown = || PinError::NoClient { name: printable(name.as_bytes()), path: Pins::file(directory) };
            let pin = found.next().ok_or_else(unknown)?;
            if found.next().is_some() {
                return Err(PinError::Ambiguous { name: printable(name.as_bytes()) });
            }
            limits.into_iter().for_each(|limit| pin.limits.set(limit));
            all = pin.limits.clone();
            Ok(())
        })?;
        Ok(all)
    }

    /// Removes what has this name or fingerprint; says how many pins that were.
    pub fn remove(directory: &Path, name: &str) -> Result<usize, PinError> {
        let mut count = 0;
        Pins::change(directory, |pins| {
            let before = pins.len();
            pins.retain(|pin| pin.name != name && pin.key.fingerprint() != name);
            count = before - pins.len();
            match count {
                0 => Err(PinError::Unknown { name: printable(name.as_bytes()), path: Pins::file(directory) }),
                _ => Ok(()),
            }
        })?;
        Ok(count)
    }

    /// Writes them anew, whole or not at all, one process at a time.
    fn change(directory: &Path, by: impl FnOnce(&mut Vec<Pin>) -> Result<(), PinError>) -> Result<(), PinError> {
        let path = Pins::file(directory);
        let failed = |source| PinError::Io { path: path.clone(), source };
        let lock = File::create(directory.join("pins.lock")).map_err(failed)?;
        lock.lock().map_err(failed)?;
        let Pins(mut pins) = Pins::read(directory)?;
        by(&mut pins)?;
        let text: String = pins.iter().map(Pin::line).collect();
        let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
        file.persist(&path).map_err(|e| failed(e.error))?;
        sync_directory(directory).map_err(failed)
    }
}

impl Pin {
    fn line(&self) -> String {
        let Pin { role, key, name, limits } = self;
        let line = format!("{} {key} {} {name} {limits}", role.name(), key.fingerprint());
        format!("{}\n", line.trim_end())
    }

    fn parse(line: &str) -> Option<Pin> {
        let words = line.split(' ').collect::<Vec<_>>();
        let [role, key, fingerprint, name, limits @ ..] = &words[..] else { return None };
        let limits = limits.iter().map(|limit| limit.parse().ok()).collect::<Option<Vec<Limit>>>()?;
        let key: PublicKey = key.parse().ok()?;
        let named = !name.is_empty() && name.chars().all(plain);
        let pin = Pin { role: Role::from_name(role)?, key, name: (*name).to_owned(), limits: Limits::of(limits) };
        (named && key.fingerprint() == *fingerprint).then_some(pin)
    }
}

/// Characters of a name: it stands in a file of lines and on terminals.
fn plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._-".contains(c)
}

/// The mode of a file that others than its owner may write.
fn writable_by_others(file: &File) -> io::Result<Option<u32>> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = file.metadata()?.permissions().mode() & 0o777;
        Ok((mode & 0o022 != 0).then_some(mode))
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_last_and_go() {
        let directory = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| directory.path().join(name));
        let [own, other] = [&a, &b].map(|at| Identity::generate(at).unwrap());
        let server = Role::Party(Party::Server);
        let pin =
            |role, name: &str| Pin { role, key: other.public(), name: name.to_owned(), limits: Limits::default() };
        assert_eq!(Pins::read(&a).unwrap(), Pins::default());
        assert!(matches!(Pins::read(&a).unwrap().need(server, &a), Err(PinError::Missing { .. })));
        Pins::add(&a, &own, pin(server, "office")).unwrap();
        Pins::add(&a, &own, pin(Role::Dealer, "spare")).unwrap();
        // The same key in the same role has one name.
        Pins::add(&a, &own, pin(server, "cellar")).unwrap();
        let pins = Pins::read(&a).unwrap();
        assert_eq!(pins.all(), [pin(Role::Dealer, "spare"), pin(server, "cellar")]);
        assert_eq!(pins.roles(&other.public()), [Role::Dealer, server]);
        assert_eq!(pins.roles(&own.public()), []);
        pins.need(server, &a).unwrap();
        assert!(matches!(Pins::add(&b, &other, pin(server, "self")), Err(PinError::Own)));
        for bad in ["", "two words", "line\n", "\u{202e}", &"x".repeat(65)] {
            assert!(matches!(Pins::add(&a, &own, pin(server, bad)), Err(PinError::Name { .. })), "{bad:?}");
        }
        assert!(matches!(Pins::remove(&a, "office"), Err(PinError::Unknown { .. })));
        assert_eq!(Pins::remove(&a, "spare").unwrap(), 1);
        assert_eq!(Pins::remove(&a, &other.public().fingerprint()).unwrap(), 1);
        assert_eq!(Pins::read(&a).unwrap(), Pins::default());
    }

    #[test]
    fn limits_stand_with_a_clients_pin() {
        let directory = tempfile::tempdir().unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| directory.path().join(name));
        let [own, other, third] = [&a, &b, &c].map(|at| Identity::generate(at).unwrap());
        let limits = |text: &str| text.split(' ').map(|limit| limit.parse().unwrap()).collect::<Vec<Limit>>();
        let pin = |role, identity: &Identity| Pin {
            role,
            key: identity.public(),
            name: "office".to_owned(),
            limits: Limits::default(),
        };
        Pins::add(&a, &own, pin(Role::Dealer, &other)).unwrap();
        let limit = |name: &str, text: &str| Pins::limit(&a, name, limits(text)).map(|limits| limits.to_string());
        assert!(matches!(limit("office", "sessions=1"), Err(PinError::NoClient { .. })));
        Pins::add(&a, &own, pin(CLIENT, &other)).unwrap();
        assert_eq!(limit("office", "sessions=1 outputs=token").unwrap(), "sessions=1 outputs=token");
        assert_eq!(limit("office", "sessions=any tokens-a-day=5").unwrap(), "tokens-a-day=5 outputs=token");
        let read = Pins::read(&a).unwrap();
        assert_eq!(read.all()[1].limits.to_string(), "tokens-a-day=5 outputs=token");
        assert_eq!(read.all()[0].limits, Limits::default());
        // Who pairs anew keeps them, by another name, too.
        Pins::add(&a, &own, Pin { name: "cellar".to_owned(), ..pin(CLIENT, &other) }).unwrap();
        assert_eq!(Pins::read(&a).unwrap().all()[1].limits, read.all()[1].limits);
        Pins::add(&a, &own, Pin { name: "cellar".to_owned(), ..pin(CLIENT, &third) }).unwrap();
        assert!(matches!(limit("cellar", "sessions=1"), Err(PinError::Ambiguous { .. })));
        limit(&third.public().fingerprint(), "sessions=1").unwrap();
    }

    #[test]
    fn damaged_pins_admit_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| directory.path().join(name));
        let [own, other] = [&a, &b].map(|at| Identity::generate(at).unwrap());
        let key = other.public();
        Pins::add(&a, &own, Pin { role: Role::Dealer, key, name: "d".to_owned(), limits: Limits::default() }).unwrap();
        let path = Pins::file(&a);
        let good = std::fs::read(&path).unwrap();
        // All but the name, which is free.
        for bit in 0..8 * (good.len() - 2) {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bad).unwrap();
            match Pins::read(&a) {
                // The letter in the other case.
                Ok(pins) => assert_eq!(pins.roles(&key), [Role::Dealer], "bit {bit}"),
                Err(error) => assert!(matches!(error, PinError::Damaged { line: 1, .. }), "{error}"),
            }
        }
        for length in 1..good.len() {
            std::fs::write(&path, &good[..length]).unwrap();
            assert!(matches!(Pins::read(&a), Err(PinError::Damaged { .. })));
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::write(&path, &good).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o620)).unwrap();
            assert!(matches!(Pins::read(&a), Err(PinError::Mode { .. })));
        }
    }
}
