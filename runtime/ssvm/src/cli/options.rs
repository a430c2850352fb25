//! What several commands take: links, identities, directories, and what making stocks may cost.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use ir::Party;

use super::{CliError, run_error};
use processes::Allowance;
use processes::handshake::Role;
use processes::identity::Identity;
use processes::keys::MasterKey;
use processes::net::{NetError, Protection, addr};
use processes::pins::Pins;
use processes::vault::StorageKey;

#[derive(Args)]
pub(super) struct NetOptions {
    /// Longest silence of another process, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(super) timeout: Duration,
    #[command(flatten)]
    pub(super) identity: IdentityOptions,
    /// Neither encrypt links nor ask who is at their other end: whoever reads them can unmask secrets. To be given on all sides; for
    /// measurements, and networks that you trust.
    #[arg(long)]
    pub(super) insecure: bool,
}

/// Where this side's key and its pins are.
#[derive(Args)]
pub(super) struct IdentityOptions {
    /// Where this side's key and its pins are [default: `ssvm` in the user's configuration directory].
    #[arg(long, value_name = "DIR")]
    identity: Option<PathBuf>,
}

impl IdentityOptions {
    pub(super) fn directory(&self) -> Result<PathBuf, CliError> {
        directory(self.identity.as_deref(), "--identity", "XDG_CONFIG_HOME", ".config")
    }
}

impl NetOptions {
    /// The key that all is kept under.
    pub(super) fn storage(&self, state: &Path) -> Result<StorageKey, CliError> {
        storage(&self.identity, self.insecure, state)
    }

    /// How links with peers in these roles are protected. Says now what would let every link fail later.
    pub(super) fn protection(&self, peers: &[Role]) -> Result<Protection, CliError> {
        if self.insecure {
            tracing::warn!("`--insecure`: links are not encrypted, and nobody knows who is at their other end");
            return Ok(Protection::Insecure);
        }
        let directory = self.identity.directory()?;
        let identity = Identity::open(&directory).map_err(run_error)?;
        let pins = Pins::read(&directory).map_err(run_error)?;
        peers.iter().try_for_each(|&role| pins.need(role, &directory)).map_err(run_error)?;
        Ok(Protection::Pinned { identity, directory })
    }
}

/// The key that all is kept under: the identity's, or one that lies in the state directory.
pub(super) fn storage(identity: &IdentityOptions, insecure: bool, state: &Path) -> Result<StorageKey, CliError> {
    match insecure {
        true => MasterKey::storage(state).map_err(run_error),
        false => Ok(Identity::open(&identity.directory()?).map_err(run_error)?.storage()),
    }
}

/// Whom the client or the server has links with: the other party, and the dealer if there is one.
pub(super) fn peers(other: Party, dealer: bool) -> Vec<Role> {
    [Role::Party(other)].into_iter().chain(dealer.then_some(Role::Dealer)).collect()
}

/// What making stocks may take.
#[derive(Args)]
pub(super) struct MakingOptions {
    /// Most that making stocks sends, in Mbit/s [default: no limit].
    #[arg(long, value_name = "MBIT", value_parser = megabits)]
    pub(super) making_rate: Option<f64>,
    /// Threads that making a stock takes, but for short moments [default: one for each core].
    #[arg(long, value_name = "N")]
    pub(super) making_threads: Option<NonZeroUsize>,
    /// Days that a stock may be used at most; the lesser number of the two sides holds [default: 30].
    #[arg(long, value_name = "DAYS")]
    pub(super) stock_days: Option<NonZeroU32>,
}

impl MakingOptions {
    /// What is allowed, which a dealer does not know of.
    pub(super) fn allowance(&self, dealer: bool) -> Result<Allowance, CliError> {
        let given = self.given().filter(|_| dealer);
        if let Some(name) = given {
            let what = format!("`{name}` makes no sense with `--dealer`: the dealer makes what stocks have");
            return Err(CliError::Usage { what, hint: "without it, or without a dealer on both sides" });
        }
        Ok(Allowance::new(self.making_rate.map(|rate| rate * 1e6), self.making_threads))
    }

    /// An option that was given.
    fn given(&self) -> Option<&'static str> {
        let given =
            [("--making-rate", self.making_rate.is_some()), ("--making-threads", self.making_threads.is_some())];
        given.into_iter().find(|(_, given)| *given).map(|(name, _)| name)
    }

    /// These, if there is to be a stock; else none may be given.
    pub(super) fn of_stocks(&self, stock: Option<NonZeroUsize>) -> Result<Option<&MakingOptions>, CliError> {
        let given = self.given().or(self.stock_days.map(|_| "--stock-days"));
        match (stock, given) {
            (None, Some(name)) => Err(CliError::Usage {
                what: format!("`{name}` makes no sense without `--stock`: no stock is made"),
                hint: "`--stock TOKENS`",
            }),
            (stock, _) => Ok(stock.map(|_| self)),
        }
    }
}

/// A rate in Mbit/s that a frame passes at within a timeout.
fn megabits(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "a number of Mbit/s is needed".to_owned())?;
    match rate {
        rate if (0.5..=1e6).contains(&rate) => Ok(rate),
        _ => Err("between 0.5 and 1000000 Mbit/s".to_owned()),
    }
}

/// A positive number of seconds, at most a day.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds is needed".to_owned())?;
    match seconds {
        s if (0.01..=86_400.0).contains(&s) => Ok(Duration::from_secs_f64(s)),
        _ => Err("between 0.01 and 86400 seconds".to_owned()),
    }
}

/// Where the dealer listens, if there is one.
pub(super) fn dealer_address(given: Option<&str>, options: &NetOptions) -> Result<Option<SocketAddr>, CliError> {
    let Some(address) = given.map(resolve).transpose()? else { return Ok(None) };
    match options.insecure && !address.ip().is_loopback() {
        true => Err(run_error(NetError::SeedsInTheClear { address })),
        false => Ok(Some(address)),
    }
}

pub(super) fn resolve(address: &str) -> Result<SocketAddr, CliError> {
    addr::resolve(address).map_err(run_error)
}

pub(super) fn state_directory(given: Option<&Path>) -> Result<PathBuf, CliError> {
    directory(given, "--state", "XDG_STATE_HOME", ".local/state")
}

pub(super) fn cache_directory(given: Option<&Path>) -> Result<PathBuf, CliError> {
    directory(given, "--cache", "XDG_CACHE_HOME", ".cache")
}

/// The directory that was given, or the user's own by the XDG base directory rules.
fn directory(given: Option<&Path>, option: &str, variable: &str, below_home: &str) -> Result<PathBuf, CliError> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    given
        .map(Path::to_owned)
        .or_else(|| absolute(variable).map(|base| base.join("ssvm")))
        .or_else(|| absolute("HOME").map(|home| home.join(below_home).join("ssvm")))
        .ok_or_else(|| CliError::Usage {
            what: format!("neither {variable} nor HOME is set"),
            hint: match option {
                "--cache" => "`--cache DIR`",
                "--identity" => "`--identity DIR`",
                _ => "`--state DIR`",
            },
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_numbers() {
        assert_eq!(megabits("2.5"), Ok(2.5));
        for bad in ["0", "0.1", "-1", "nan", "inf", "2mbit"] {
            assert!(megabits(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn timeouts_are_positive() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["0", "-1", "nan", "inf", "1e9", "x"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
