//! A listening socket: who connects has a short time to say who it is, and costs no thread before it has.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc};
use tokio::task::AbortHandle;

use super::NetError;
use super::conn::{Conn, Net, Options};
use super::link::{End, Link, begin, title};
use crate::handshake::Role;

/// Connections that have not said who they are, at one time. When there are more, the oldest goes.
const STRANGERS: usize = 64;

/// Connections that have, and wait for their turn.
const KNOWN: usize = 8;

/// A listening socket.
pub struct Listener {
    net: Net,
    socket: TcpListener,
    address: SocketAddr,
    roles: Vec<Role>,
    options: Options,
    arrivals: Mutex<Arrivals>,
}

/// Those who connected.
struct Arrivals {
    strangers: VecDeque<AbortHandle>,
    known: mpsc::Receiver<Link>,
    /// For whoever says who it is.
    say: mpsc::Sender<Link>,
}

impl Listener {
    pub(super) fn open(net: Net, address: SocketAddr, roles: &[Role]) -> Result<Listener, NetError> {
        let failed = |source| NetError::Listen { address, source };
        let socket = net.handle().block_on(TcpListener::bind(address)).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        let (say, known) = mpsc::channel(KNOWN);
        let arrivals = Mutex::new(Arrivals { strangers: VecDeque::new(), known, say });
        Ok(Listener { net, socket, address, roles: roles.to_vec(), options: Options::default(), arrivals })
    }

    /// With other options for its connections.
    pub fn with(self, options: Options) -> Listener {
        Listener { options, ..self }
    }

    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection of one who has said who it is; no deadline. `None` when told to stop.
    pub fn accept(&self) -> Option<Conn> {
        let link = self.net.handle().block_on(async {
            tokio::select! {
                link = self.arrival() => Some(link),
                () = self.net.until_stopped() => None,
            }
        })?;
        Some(Conn::new(self.net.clone(), title(&self.roles), link, self.options))
    }

    async fn arrival(&self) -> Link {
        let mut arrivals = self.arrivals.lock().await;
        let Arrivals { strangers, known, say } = &mut *arrivals;
        loop {
            tokio::select! {
                biased;
                link = known.recv() => return link.expect("this side holds a sender, too"),
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, _)) => {
                        strangers.retain(|stranger| !stranger.is_finished());
                        if strangers.len() >= STRANGERS
                            && let Some(oldest) = strangers.pop_front()
                        {
                            tracing::info!("a connection was turned away: {STRANGERS} have not said who they are");
                            oldest.abort();
                        }
                        strangers.push_back(self.ask(stream, say.clone()));
                    }
                    Err(error) => {
                        // Out of descriptors, most likely: others must end before a new one can begin.
                        tracing::warn!("a connection was lost before it began: {error}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
    }

    /// Has a stranger say who it is, in the background.
    fn ask(&self, stream: TcpStream, say: mpsc::Sender<Link>) -> AbortHandle {
        let (net, roles) = (self.net.clone(), self.roles.clone());
        let asked = self.net.handle().spawn(async move {
            match begin(stream, End::Listens, net.protection(), &roles, net.short()).await {
                // The listener may be gone.
                Ok(link) => drop(say.send(link).await),
                Err(error) => match error {
                    // Of any port that the world can reach.
                    NetError::Closed { .. }
                    | NetError::Mute { .. }
                    | NetError::Foreign { .. }
                    | NetError::Io { .. } => {
                        tracing::info!("a connection was turned away: {error}");
                    }
                    _ => tracing::warn!("a connection was turned away: {}", crate::chain(&error)),
                },
            }
        });
        asked.abort_handle()
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.strangers.iter().for_each(AbortHandle::abort);
    }
}
