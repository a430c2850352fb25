//! A command's links: they run beside it, until it ends or a signal stops it.

use std::time::Duration;

use tokio::sync::watch;

use super::CliError;
use super::options::NetOptions;
use processes::handshake::Role;
use processes::net::{Net, Protection};

/// Runs `body` with socket tasks beside it, for links with `peers`, until it ends or a signal stops it.
pub(super) fn with_net<T>(
    options: &NetOptions,
    peers: &[Role],
    body: impl FnOnce(&Net) -> Result<T, CliError>,
) -> Result<T, CliError> {
    with_net_unless(options, peers, || false, body)
}

/// The same; `interrupted` is asked when a terminal's Ctrl-C comes whether that stops something else than the command.
pub(super) fn with_net_unless<T>(
    options: &NetOptions,
    peers: &[Role],
    interrupted: impl Fn() -> bool + Send + 'static,
    body: impl FnOnce(&Net) -> Result<T, CliError>,
) -> Result<T, CliError> {
    run(options.timeout, options.protection(peers)?, interrupted, body)
}

/// The same for links that are protected so. A second signal ends the process at once.
pub(super) fn with_links<T>(
    timeout: Duration,
    protection: Protection,
    body: impl FnOnce(&Net) -> Result<T, CliError>,
) -> Result<T, CliError> {
    run(timeout, protection, || false, body)
}

fn run<T>(
    timeout: Duration,
    protection: Protection,
    interrupted: impl Fn() -> bool + Send + 'static,
    body: impl FnOnce(&Net) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let failed =
        |e: std::io::Error| CliError::Usage { what: format!("no threads: {e}"), hint: "a larger process limit" };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(failed)?;
    let (stop, stopped) = watch::channel(false);
    runtime.spawn(async move {
        loop {
            if signal().await == Wish::Interrupt && interrupted() {
                continue;
            }
            if stop.send_replace(true) {
                std::process::exit(130);
            }
        }
    });
    let net = Net::new(runtime.handle().clone(), timeout, stopped, protection);
    let done = body(&net);
    // Connections that still close have had their time.
    runtime.shutdown_background();
    done
}

/// What asks for a stop.
#[derive(PartialEq, Eq)]
enum Wish {
    /// Ctrl-C.
    Interrupt,
    /// A signal of another process, or of a terminal that goes away.
    End,
}

/// Waits for a wish to stop; that the terminal went away is one, unless the process was started to outlive it (`nohup`).
#[cfg(unix)]
async fn signal() -> Wish {
    use tokio::signal::unix::{SignalKind, signal};
    let hangup = async {
        match hangup_is_ignored() {
            true => std::future::pending().await,
            false => match signal(SignalKind::hangup()) {
                Ok(mut hangup) => hangup.recv().await,
                Err(_) => std::future::pending().await,
            },
        }
    };
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(mut interrupt), Ok(mut terminate)) => tokio::select! {
            _ = interrupt.recv() => Wish::Interrupt,
            _ = terminate.recv() => Wish::End,
            _ = hangup => Wish::End,
        },
        _ => std::future::pending().await,
    }
}

/// Whether the signal was ignored when the process began, where the system says so. Handling it would end that.
#[cfg(unix)]
fn hangup_is_ignored() -> bool {
    static IGNORED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *IGNORED.get_or_init(|| std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hangup(&status)))
}

/// The first bit of the mask of ignored signals is SIGHUP's.
#[cfg(unix)]
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(not(unix))]
async fn signal() -> Wish {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
    Wish::Interrupt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn a_hangup_that_is_ignored_stays_ignored() {
        assert!(ignores_hangup("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"));
        assert!(!ignores_hangup("SigBlk:\t1\nSigIgn:\t0000000000001000\n") && !ignores_hangup(""));
    }
}
