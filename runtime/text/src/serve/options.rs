//! The options of `ssvm serve` that concern the endpoint.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::sync::watch;

use super::{Caps, Endpoint, ServeError, Token, TokenSource};
use crate::{LanguageOptions, Model};
use processes::net::addr;

/// Where the endpoint listens unless told otherwise.
const ADDRESS: &str = "127.0.0.1:7700";

/// Longest body, in bytes.
const BODY_BYTES: usize = 1 << 20;

/// How to serve.
#[derive(Args, Clone)]
pub struct ServeOptions {
    /// Where to listen for HTTP; port 0 picks a free port.
    #[arg(long, value_name = "ADDR", default_value = ADDRESS)]
    listen: String,
    /// Admit an address other than loopback for `--listen`: prompts and answers then cross the network unencrypted.
    #[arg(long)]
    expose: bool,
    /// A file with the bearer token [default: the variable SSVM_TOKEN, else a token that is made once and kept in the
    /// state directory].
    #[arg(long, value_name = "FILE")]
    token: Option<PathBuf>,
    /// The model's name in requests [default: the program's name].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Requests that are answered at once; others are told to come again.
    #[arg(long, value_name = "N", default_value = "2")]
    requests: NonZeroUsize,
    /// Most tokens of an answer [default: as many as the context holds].
    #[arg(long, value_name = "N")]
    max_tokens: Option<NonZeroUsize>,
    /// Go on to the most tokens of a request when its answer has ended, so that the server does not learn where it ended. Takes the time and
    /// material of all of them.
    #[arg(long)]
    fixed_length: bool,
    /// Longest time for an answer, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    deadline: u32,
    /// Let pages of this origin, as in `http://localhost:3000`, read answers in a browser; `*` is any. They need the token, too. May
    /// be given several times.
    #[arg(long, value_name = "ORIGIN", value_parser = origin)]
    allow_origin: Vec<String>,
    #[command(flatten)]
    language: LanguageOptions,
}

/// An origin as browsers write it: scheme, host and port, and no path.
fn origin(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let sound = |host: &str| !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
    match text == "*" || host.is_some_and(sound) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err("an origin such as `http://localhost:3000`, without a path, or `*`".to_owned()),
    }
}

impl ServeOptions {
    /// The address to listen on.
    pub fn address(&self) -> Result<SocketAddr, ServeError> {
        let address = addr::resolve(&self.listen).map_err(ServeError::Address)?;
        if !address.ip().is_loopback() {
            if !self.expose {
                return Err(ServeError::NotLoopback { address });
            }
            tracing::warn!("{address} is not a loopback address: prompts and answers are not encrypted");
        }
        Ok(address)
    }

    /// Most tokens of an answer.
    pub fn most_tokens(&self) -> NonZeroUsize {
        self.max_tokens.unwrap_or(NonZeroUsize::MAX)
    }

    /// An endpoint for a model, with the files that belong to its program, and where its token is.
    pub fn endpoint(
        &self,
        program: &Path,
        state: &Path,
        model: Arc<dyn Model>,
        stop: watch::Receiver<bool>,
    ) -> Result<(Endpoint, TokenSource), ServeError> {
        let stem = || Some(program.file_stem()?.to_str()?.to_owned());
        let name = self.name.clone().or_else(stem).ok_or_else(|| ServeError::Name { program: program.to_owned() })?;
        let language = self.language.load(program, model.limits())?;
        let (token, source) = Token::find(self.token.as_deref(), state)?;
        let caps = Caps {
            requests: self.requests.get(),
            tokens: self.most_tokens(),
            body_bytes: BODY_BYTES,
            deadline: Duration::from_secs(self.deadline.into()),
        };
        let endpoint = Endpoint::new(model, language, name, token, caps, stop);
        let endpoint = endpoint.with_origins(self.allow_origin.clone());
        Ok((endpoint.with_fixed_length(self.fixed_length), source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: ServeOptions,
    }

    fn address(arguments: &[&str]) -> Result<SocketAddr, ServeError> {
        Cli::parse_from([&["serve"], arguments].concat()).options.address()
    }

    #[test]
    fn origins_are_what_browsers_say() {
        assert_eq!(origin("http://LOCALHOST:3000"), Ok("http://localhost:3000".to_owned()));
        assert!(origin("*").is_ok() && origin("https://a.example").is_ok());
        for bad in ["", "localhost", "http://", "http://a/b", "http://a/", "ftp://a", "http://a b", "http://a\r\nx: y"]
        {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_loopback_without_a_flag() {
        assert_eq!(address(&[]).unwrap(), ADDRESS.parse().unwrap());
        assert!(address(&["--listen", "[::1]:0"]).is_ok());
        assert!(matches!(address(&["--listen", "192.0.2.1:80"]), Err(ServeError::NotLoopback { .. })));
        assert!(matches!(address(&["--listen", "0.0.0.0:80"]), Err(ServeError::NotLoopback { .. })));
        assert_eq!(address(&["--listen", "192.0.2.1:80", "--expose"]).unwrap(), "192.0.2.1:80".parse().unwrap());
        assert!(matches!(address(&["--listen", "nonsense"]), Err(ServeError::Address(_))));
    }
}
