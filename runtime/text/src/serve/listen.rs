//! The sockets: connections, their limits, and an orderly end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;

use super::handlers::router;
use super::{Endpoint, ServeError};

/// Connections at once; others wait to be accepted.
const CONNECTIONS: usize = 256;

/// Longest time for a request's head to arrive, on a connection that idles too.
const HEAD: Duration = Duration::from_secs(30);

/// Longest time that a write may stand still: a client that does not read holds its session no longer.
const WRITE: Duration = Duration::from_secs(30);

/// Longest time that answers in progress have at the end. They are told to end at once.
const LINGER: Duration = Duration::from_secs(2);

/// Listens on an address.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })
}

/// Answers requests until the endpoint is stopped.
pub async fn serve(listener: TcpListener, endpoint: Endpoint) {
    let mut stop = endpoint.stop.clone();
    let service = TowerToHyperService::new(router(Arc::new(endpoint)));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let accepting = async {
        loop {
            let place = connections.clone().acquire_owned().await.expect("the semaphore is never closed");
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Often too many open files: time heals that.
                    tracing::warn!("no connection: {error}");
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            // Pieces of text are small and wanted at once.
            let _ = stream.set_nodelay(true);
            let mut stream = TimeoutStream::new(stream);
            stream.set_write_timeout(Some(WRITE));
            let connection = http.serve_connection(TokioIo::new(Box::pin(stream)), service.clone());
            let connection = graceful.watch(connection);
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!("a connection ended: {error}");
                }
                drop(place);
            });
        }
    };
    tokio::select! {
        () = accepting => {}
        // Without anybody who could stop it, it goes on.
        () = async {
            if stop.wait_for(|stop| *stop).await.is_err() {
                std::future::pending::<()>().await;
            }
        } => {}
    }
    drop(listener);
    if timeout(LINGER, graceful.shutdown()).await.is_err() {
        tracing::info!("some connections were cut");
    }
}
