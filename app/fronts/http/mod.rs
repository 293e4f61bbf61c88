//! The HTTP front: sockets and connections. The module `http` defines requests and replies; the
//! host's node answers them.
//!
//! Promises: bounds on connections, in total and per address, on a request's head and body, and on
//! the time that a client may take to send or read. When a client goes away, its answer stops.

mod answer;
mod fair_queue;
mod feed;
mod routes;

use core::net::{IpAddr, SocketAddr};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use async_net::{TcpListener, TcpStream};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use smol::{LocalExecutor, Timer, future};
use smol_hyper::rt::{FuturesIo, SmolTimer};
use socket2::SockRef;
use thiserror::Error;

use crate::answers::Recall;
use crate::config;
use crate::http::Gate;
use crate::limits::{
    HTTP_READ_TIMEOUT_MS, HTTP_WRITE_TIMEOUT_MS, MAX_HTTP_AT_NODE, MAX_HTTP_CONNECTIONS,
    MAX_HTTP_CONNECTIONS_PER_ADDRESS, MAX_HTTP_HEAD_BYTES,
};
use crate::start::entropy;

use super::host::Host;
use fair_queue::FairQueue;

/// The wait after a failed accept, most likely for lack of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The API cannot be served at this address.
#[derive(Debug, Error)]
#[error(
    "HTTP cannot be served on {addr} ({error}): give another address or port as listen in [http] (--http)"
)]
pub(crate) struct HttpError {
    addr: SocketAddr,
    error: std::io::Error,
}

/// State shared by all requests.
struct State {
    host: Rc<Host>,
    /// Weak, because the tasks that it runs hold this state.
    executor: Weak<LocalExecutor<'static>>,
    gate: Gate,
    /// Turns at the node; requests without one wait.
    queue: FairQueue,
    recall: RefCell<Recall>,
    /// Bytes held by bodies being read.
    reading: Cell<usize>,
    /// Answers given so far.
    answers: Cell<u64>,
    /// Connections by address.
    connections: RefCell<BTreeMap<IpAddr, usize>>,
}

/// The API, ready to be served.
pub(crate) struct Server {
    listener: TcpListener,
    state: Rc<State>,
}

impl Server {
    /// Listens on the configured address; none if there is none.
    ///
    /// # Errors
    /// [`HttpError`].
    pub(crate) async fn open(
        settings: &config::Http,
        name: Option<&str>,
        host: Rc<Host>,
        executor: &Rc<LocalExecutor<'static>>,
    ) -> Result<Option<Server>, HttpError> {
        let Some(listen) = settings.listen else { return Ok(None) };
        let addr = listen.addr();
        let listener = TcpListener::bind(addr).await.map_err(|error| HttpError { addr, error })?;
        let key = settings.api_key.as_ref().map(config::ApiKey::reveal);
        let state = State {
            host,
            executor: Rc::downgrade(executor),
            gate: Gate::new(key, settings.origins.names(), name),
            queue: FairQueue::new(MAX_HTTP_AT_NODE),
            recall: RefCell::new(Recall::new(entropy().0)),
            reading: Cell::new(0),
            answers: Cell::new(0),
            connections: RefCell::default(),
        };
        Ok(Some(Server { listener, state: Rc::new(state) }))
    }

    /// Where it is served, as text for a person.
    pub(crate) fn words(&self) -> String {
        let addr =
            self.listener.local_addr().map_or("this machine".to_string(), |addr| addr.to_string());
        format!("HTTP API and page on http://{addr}/")
    }

    /// Serves connections forever.
    pub(crate) async fn serve(self) {
        loop {
            match self.listener.accept().await {
                Ok((stream, from)) => {
                    let Some(executor) = self.state.executor.upgrade() else { return };
                    if let Some(place) = ConnectionPermit::take(&self.state, from.ip()) {
                        executor.spawn(converse(place, stream)).detach();
                    }
                    // A flood of connections must not starve the other tasks.
                    future::yield_now().await;
                }
                Err(_) => drop(Timer::after(PAUSE).await),
            }
        }
    }
}

/// One connection's place within the limits.
struct ConnectionPermit {
    state: Rc<State>,
    address: IpAddr,
}

impl ConnectionPermit {
    fn take(state: &Rc<State>, address: IpAddr) -> Option<ConnectionPermit> {
        let mut connections = state.connections.borrow_mut();
        let own = connections.get(&address).copied().unwrap_or(0);
        let is_full = connections.values().sum::<usize>() >= MAX_HTTP_CONNECTIONS;
        if is_full || own >= MAX_HTTP_CONNECTIONS_PER_ADDRESS {
            return None;
        }
        connections.insert(address, own + 1);
        Some(ConnectionPermit { state: state.clone(), address })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut connections = self.state.connections.borrow_mut();
        let left = connections.get(&self.address).map_or(0, |own| own - 1);
        if left == 0 {
            connections.remove(&self.address);
        } else {
            connections.insert(self.address, left);
        }
    }
}

/// Answers the requests of one connection until either side closes it.
async fn converse(place: ConnectionPermit, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    // The system drops a client that does not read what was sent.
    let _ = SockRef::from(&stream)
        .set_tcp_user_timeout(Some(Duration::from_millis(HTTP_WRITE_TIMEOUT_MS)));
    let service = service_fn(|request| routes::answer(place.state.clone(), request));
    let _ = http1::Builder::new()
        .timer(SmolTimer::new())
        .header_read_timeout(Duration::from_millis(HTTP_READ_TIMEOUT_MS))
        .max_buf_size(MAX_HTTP_HEAD_BYTES)
        .serve_connection(FuturesIo::new(stream), service)
        .await;
}
