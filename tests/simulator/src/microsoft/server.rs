//! The listener: HTTP/1 and HTTP/2, plain or over TLS, on a runtime of its own.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Limited};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use super::body::Transfer;

/// More than any form of a token request.
const BODY_LIMIT: usize = 1 << 20;

/// A listener that answers until it is dropped.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) connections: Arc<AtomicUsize>,
    runtime: Option<Runtime>,
}

/// What a handler makes of a request: an answer, or none and the connection is reset.
pub(super) type Outcome = Option<Response<Transfer>>;

impl Server {
    /// Binds the address; requests wait until [`Self::serve`].
    pub(super) fn bind(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    }

    pub(super) fn serve<H, F>(
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
        handler: H,
    ) -> io::Result<Self>
    where
        H: Fn(Parts, Bytes) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Outcome> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("simulator")
            .enable_all()
            .build()?;
        let connections = Arc::new(AtomicUsize::new(0));
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let count = Arc::clone(&connections);
        let tls = tls.map(TlsAcceptor::from);
        runtime.spawn(async move {
            loop {
                // A client that gave up in the queue, or no file descriptor left for now.
                let Ok((stream, _)) = listener.accept().await else {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                };
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(connection(stream, tls.clone(), handler.clone()));
            }
        });
        Ok(Self {
            connections,
            runtime: Some(runtime),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn connection<H, F>(stream: TcpStream, tls: Option<TlsAcceptor>, handler: H)
where
    H: Fn(Parts, Bytes) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Outcome> + Send + 'static,
{
    // A refusal only makes it slower.
    drop(stream.set_nodelay(true));
    let Ok(socket) = stream.as_fd().try_clone_to_owned() else {
        return;
    };
    match tls {
        None => talk(stream, socket, handler).await,
        Some(acceptor) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                talk(stream, socket, handler).await;
            }
        }
    }
}

async fn talk<S, H, F>(stream: S, socket: OwnedFd, handler: H)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Parts, Bytes) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Outcome> + Send + 'static,
{
    let reset = Arc::new(Notify::new());
    let wanted = Arc::clone(&reset);
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let (handler, wanted) = (handler.clone(), Arc::clone(&wanted));
        async move {
            let (parts, body) = request.into_parts();
            let body = Limited::new(body, BODY_LIMIT).collect().await;
            let body = body.map_or_else(|_| Bytes::new(), Collected::to_bytes);
            if let Some(response) = handler(parts, body).await {
                return Ok::<_, Infallible>(response);
            }
            wanted.notify_one();
            pending().await
        }
    });
    let builder = Builder::new(TokioExecutor::new());
    let conversation = builder.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // However the client leaves, there is nobody to tell.
        over = conversation => drop(over),
        () = reset.notified() => {
            // Closing without lingering sends RST, once the last descriptor is gone.
            rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).ok();
        }
    }
    drop(socket);
}
