//! Transfers planes over loopback TCP between a serving and a fetching side, alternately with and
//! without Noise. Prints MB/s and their ratio. `cargo bench --bench transfer -- MEGABYTES` sets the
//! size of each transfer.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use potluck::id::{BlockKey, BootId, Epoch, Fingerprint, Millis, NodeId, TokenId};
use potluck::keyring::Keyring;
use potluck::kv::{Page, Plane};
use potluck::transfer::{Channel, Expected, FetchEvent, Fetcher, Hello, ServeEvent, Server, Tokens};

/// Bytes of a block's sliding plane of Gemma-3 270M.
const PLANE_BYTES: usize = 130_560;

/// Bytes that a side reads at once: the same as the node's driver.
const READ_BYTES: usize = 16 << 10;

const PARENT: BlockKey = BlockKey([9; 16]);
const ROUNDS: usize = 5;

fn main() {
    let megabytes = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(200);
    let planes = (megabytes * 1_000_000_usize).div_ceil(PLANE_BYTES);
    let keys = [Keyring::open(), Keyring::new(b"a key", [])];
    let mut best = [0.0_f64; 2];
    for round in 0..ROUNDS {
        for (best, keys) in best.iter_mut().zip(&keys) {
            let rate = megabytes_per_s(keys, planes as u32);
            *best = best.max(rate);
            println!("round {round}, {}: {rate:.0} MB/s", if keys.current().is_open() { "plain" } else { "Noise" });
        }
    }
    println!("best: Noise {:.0} MB/s, plain {:.0} MB/s, ratio {:.2}", best[1], best[0], best[1] / best[0]);
}

fn hello(node: u64) -> Hello {
    Hello::new(NodeId(node), BootId(node), Epoch(0), Fingerprint([7; 16]))
}

fn tokens() -> Tokens {
    (0..16).map(TokenId).collect()
}

/// Moves that many planes over one connection, with one thread for each side.
fn megabytes_per_s(keys: &Keyring, planes: u32) -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let to = listener.local_addr().expect("an address");
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| serve(listener.accept().expect("a caller").0, keys));
        fetch(TcpStream::connect(to).expect("the listener"), keys, planes);
    });
    f64::from(planes) * PLANE_BYTES as f64 / 1e6 / began.elapsed().as_secs_f64()
}

fn serve(mut socket: TcpStream, keys: &Keyring) {
    socket.set_nodelay(true).expect("a socket");
    let page = Page::new(PLANE_BYTES);
    page.write().iter_mut().enumerate().for_each(|(at, byte)| *byte = (at * 31) as u8);
    let (mut channel, mut server) = (Channel::responder(keys, [2; 32]), Server::new(hello(1), Millis(0)));
    let mut buffer = vec![0; READ_BYTES];
    channel.writable();
    loop {
        let count = socket.read(&mut buffer).unwrap_or(0);
        if count == 0 {
            return;
        }
        let mut frames = channel.received(&buffer[..count]);
        while let Some((frame, _)) = frames.next_frame().expect("a friend") {
            if let ServeEvent::Want { id, .. } = server.on_frame(frame, Millis(0)).expect("a friend") {
                assert!(server.found(id, PARENT, tokens(), page.clone(), PLANE_BYTES));
            }
        }
        while let Some(bytes) = channel.send(|out| server.poll_send(Millis(0), out)) {
            if socket.write_all(&bytes).is_err() {
                return;
            }
            channel.writable();
            while server.poll_finished().is_some() {}
        }
    }
}

fn fetch(mut socket: TcpStream, keys: &Keyring, planes: u32) {
    socket.set_nodelay(true).expect("a socket");
    let (mut channel, mut fetcher) = (Channel::initiator(keys.current(), [1; 32]), Fetcher::new(hello(2)));
    let page = Page::new(PLANE_BYTES);
    let mut buffer = vec![0; READ_BYTES];
    let (mut asked, mut done) = (0, 0);
    channel.writable();
    while done < planes {
        while asked < planes && fetcher.room() > 8 {
            let expected =
                Expected { key: BlockKey([1; 16]), parent: PARENT, tokens: tokens(), plane: Plane::Sliding, bytes: PLANE_BYTES };
            fetcher.want(asked, expected, page.clone()).expect("room");
            asked += 1;
        }
        while let Some(bytes) = channel.send(|out| fetcher.poll_send(Millis(0), out)) {
            socket.write_all(&bytes).expect("the serving side");
            channel.writable();
        }
        let count = socket.read(&mut buffer).expect("the serving side");
        assert!(count > 0, "the serving side is there");
        let mut frames = channel.received(&buffer[..count]);
        while let Some((frame, payload)) = frames.next_frame().expect("a friend") {
            done += u32::from(matches!(fetcher.on_frame(frame, payload, Millis(0)), Ok(FetchEvent::Done { .. })));
        }
        while fetcher.poll_sample().is_some() {}
    }
}
