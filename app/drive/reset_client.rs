//! A computer that orders a reset without being a node: runs the `ResetClient` of `catalog` with a
//! socket and a clock.

use std::time::{Duration, Instant};

use smol::Timer;
use smol::future::{self, FutureExt};
use thiserror::Error;

use crate::catalog::{ResetClient, ResetClientConfig, ResetClientEvent};
use crate::console;
use crate::id::Millis;
use crate::lan::Interface;
use crate::limits::MAX_DATAGRAM_BYTES;

use super::net::{CatalogSocket, NetError, NetSettings};

/// Why the order cannot be sent.
#[derive(Debug, Error)]
pub(crate) enum ResetClientError {
    #[error(transparent)]
    Net(#[from] NetError),
    #[error("{0}")]
    NoLan(String),
}

/// Repeats the order until every node heard has obeyed, or `wait` is over. Meanwhile reports news
/// through `on_event`.
pub(crate) fn order(
    net: &NetSettings,
    config: ResetClientConfig,
    wait: Duration,
    on_event: impl FnMut(ResetClientEvent),
) -> Result<ResetClient, ResetClientError> {
    let socket = CatalogSocket::open(net)?;
    let interfaces = socket.interfaces();
    if !interfaces.iter().any(Interface::is_used) {
        return Err(ResetClientError::NoLan(console::no_lan(&interfaces, false)));
    }
    let mut client = ResetClient::new(config, Millis(0));
    future::block_on(talk(&mut client, &socket, wait, on_event));
    Ok(client)
}

async fn talk(
    client: &mut ResetClient,
    socket: &CatalogSocket,
    wait: Duration,
    mut on_event: impl FnMut(ResetClientEvent),
) {
    let start = Instant::now();
    let mut buffer = [0; MAX_DATAGRAM_BYTES + 1];
    loop {
        let now = start.elapsed();
        while let Some(datagram) = client.poll_datagram(Millis(now.as_millis() as u64)) {
            socket.send(&datagram).await;
        }
        while let Some(event) = client.poll_news() {
            on_event(event);
        }
        if client.is_done() || now >= wait {
            return;
        }
        // The client's clock drops fractions of a millisecond, so wait one millisecond longer.
        let due = Duration::from_millis(client.deadline().0 + 1).min(wait);
        let heard = async { socket.receive(&mut buffer).await.ok().map(|arrival| arrival.len) };
        let timer = async {
            Timer::at(start + due).await;
            None
        };
        if let Some(len) = heard.or(timer).await {
            // The client counts datagrams that are of no use.
            let _ = client.handle(&buffer[..len]);
        }
    }
}
