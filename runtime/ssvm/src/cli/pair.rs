//! Who this side is and whom it trusts: `ssvm keygen` and `ssvm pair`.

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};

use super::{CliError, IdentityOptions, resolve, run_error, say, seconds, with_links};
use processes::handshake::Role;
use processes::identity::{Identity, PublicKey};
use processes::limits::{Limit, Limits};
use processes::net::{NetError, Protection};
use processes::pairing;
use processes::pins::{Pin, Pins};

/// Options of `ssvm keygen`.
#[derive(Args)]
pub(super) struct KeygenOptions {
    #[command(flatten)]
    identity: IdentityOptions,
}

/// Options of `ssvm pair`.
#[derive(Args)]
#[command(group = ArgGroup::new("way").required(true))]
pub(super) struct Options {
    /// Pin the key in this file, which the other side's `ssvm keygen` wrote and its owner handed over.
    #[arg(long, value_name = "PEER.pub", group = "way", requires = "role")]
    file: Option<PathBuf>,
    /// Wait here for the other side's `ssvm pair --connect`; both then show a code, and the key is pinned when you have said that they
    /// are equal.
    #[arg(long, value_name = "ADDR", group = "way", requires = "role")]
    listen: Option<String>,
    /// Meet the other side's `ssvm pair --listen` there.
    #[arg(long, value_name = "ADDR", group = "way", requires = "role")]
    connect: Option<String>,
    /// Show what is pinned, and this side's own fingerprint.
    #[arg(long, group = "way")]
    list: bool,
    /// Pin no more what has this name or fingerprint.
    #[arg(long, value_name = "NAME", group = "way")]
    remove: Option<String>,
    /// Limit what a client of this name or fingerprint may ask of the server here, from its next connection on; what is set in its pin goes
    /// before `ssvm run --limit`, whose help says which there are. `KEY=any` takes one away.
    #[arg(long, num_args = 2.., value_names = ["NAME", "KEY=VALUE"], group = "way")]
    limit: Option<Vec<String>>,
    /// What the other side is: its key is accepted in this role alone.
    #[arg(long = "as", value_name = "ROLE", id = "role", value_parser = role)]
    role: Option<Role>,
    /// What to call it [default: its role].
    #[arg(long, requires = "role")]
    name: Option<String>,
    /// Longest wait for the other side to be there with `--connect`, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    timeout: Duration,
    #[command(flatten)]
    identity: IdentityOptions,
}

/// `client`, `server` or `dealer`.
fn role(text: &str) -> Result<Role, String> {
    Role::from_name(text).ok_or_else(|| "`client`, `server` or `dealer`".to_owned())
}

/// Makes an identity.
pub(super) fn keygen(options: &KeygenOptions) -> Result<(), CliError> {
    let directory = options.identity.directory()?;
    let identity = Identity::generate(&directory).map_err(run_error)?;
    let (fingerprint, public) = (identity.public().fingerprint(), Identity::public_file(&directory));
    say(&format!(
        "fingerprint {fingerprint}\nto be pinned by the other sides, with `ssvm pair`: {}\n",
        public.display()
    ));
    Ok(())
}

/// Pins a key, or says what is pinned.
pub(super) fn pair(options: &Options) -> Result<(), CliError> {
    let directory = options.identity.directory()?;
    let identity = Identity::open(&directory).map_err(run_error)?;
    if let Some(name) = &options.remove {
        let count = Pins::remove(&directory, name).map_err(run_error)?;
        say(&format!("removed {count}\n"));
    }
    if let Some([name, limits @ ..]) = options.limit.as_deref() {
        let limits: Result<Vec<Limit>, String> = limits.iter().map(|limit| limit.parse()).collect();
        let limits =
            limits.map_err(|what| CliError::Usage { what, hint: "`ssvm run --help` says what can be limited" })?;
        let limits = Pins::limit(&directory, name, limits).map_err(run_error)?;
        let limits = if limits == Limits::default() { "no limits".to_owned() } else { limits.to_string() };
        say(&format!("{name}: {limits}\n"));
    }
    if let Some(role) = options.role {
        let key = match &options.file {
            Some(file) => PublicKey::read(file).map_err(run_error)?,
            None => met(options, role, &identity)?,
        };
        let name = options.name.clone().unwrap_or_else(|| role.name().to_owned());
        let said = format!("pinned as {}: {} ({name})\n", role.name(), key.fingerprint());
        Pins::add(&directory, &identity, Pin { role, key, name, limits: Limits::default() }).map_err(run_error)?;
        say(&said);
    }
    if options.list {
        say(&format!("this side  {}\n", identity.public().fingerprint()));
        for Pin { role, key, name, limits } in Pins::read(&directory).map_err(run_error)?.all() {
            let line = format!("{:<9}  {}  {name}  {limits}", role.name(), key.fingerprint());
            say(&format!("{}\n", line.trim_end()));
        }
    }
    Ok(())
}

/// The key of the other side, whom the user has compared a code with.
fn met(options: &Options, role: Role, identity: &Identity) -> Result<PublicKey, CliError> {
    with_links(options.timeout, Protection::Pairing(identity.clone()), |net| {
        let met = match (&options.connect, &options.listen) {
            (Some(address), _) => pairing::connect(net, resolve(address)?, role)?,
            (None, address) => {
                let address = address.as_deref().expect("one of the ways was given");
                let listener = net.listen(resolve(address)?, &[role]).map_err(run_error)?;
                say(&format!("listening on {}\n", listener.address()));
                pairing::listen(&listener).ok_or(NetError::Interrupted).map_err(run_error)?
            }
        };
        let (code, fingerprint, role) = (&met.code, met.key.fingerprint(), role.name());
        say(&format!("code {code}\nthe other side, a {role}: {fingerprint}\n"));
        let typed = std::io::stdin().is_terminal();
        say(if typed {
            "Does the other side show this code? Compare by voice or another way that you trust, then type `yes`: "
        } else {
            "waiting for the code that the other side shows, on stdin\n"
        });
        let mut line = String::new();
        // A stdin that ends or is no text confirms nothing.
        let _ = std::io::stdin().lock().read_line(&mut line);
        let line = line.trim();
        match if typed { line == "yes" } else { line == code } {
            true => Ok(met.key),
            false => Err(CliError::Usage {
                what: "the code was not confirmed; nothing is pinned".to_owned(),
                hint: "again, on both sides; codes that differ mean that somebody stands between the two",
            }),
        }
    })
}
