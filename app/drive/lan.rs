//! The driver on its LAN: follows interfaces as they come and go, renews memberships, and tries
//! remedies for a deaf radio.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use smol::Timer;

use crate::console::{self, Level};
use crate::id::Millis;
use crate::lan::{Interface, Radio, RadioCounts, Renewal, Step, Verdict};
use crate::node::Input;

use super::net::CatalogSocket;
use super::{Driver, DriverEvent, interfaces, say};

/// How often to check the interfaces: a plugged-in cable is noticed while its owner is
/// still watching.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Number of checks, starting with the one that found another network, at which a node announces
/// that it is there.
const ANEW: u8 = 3;

/// Time without a LAN before it is reported: a radio takes some ten seconds to find its network,
/// and a DHCP server takes as long.
const LAN_TIMEOUT: Duration = Duration::from_secs(30);

/// The script that resets a board's radio; a PC has none.
const RADIO_SCRIPT: &str = "/usr/libexec/potluck/radio";

/// Time after which the script is killed: loading a driver takes a board several seconds.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(60);

/// A port that nobody answers on (discard): a datagram sent there makes the kernel resolve the
/// neighbour's address.
const DISCARD: u16 = 9;

/// When datagrams were heard on an interface.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LastHeard {
    /// The last datagram from another machine through the group.
    group: Option<Millis>,
    /// The last datagram of any kind, and whether one belonged to the swarm.
    any: Option<Millis>,
    swarm: bool,
}

/// The state of the network, as the driver knows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct LanReport {
    /// Every interface, and how it is used.
    pub interfaces: Vec<Interface>,
    /// Milliseconds since another machine was last heard through the group, by interface.
    pub heard_ms: BTreeMap<u32, u64>,
    /// Number of membership renewals.
    pub renewals: u64,
    /// Steps tried on radios.
    pub radio: RadioCounts,
}

#[derive(Default)]
struct Lan {
    renewals: BTreeMap<u32, Renewal>,
    /// By name: reloading a driver gives its interface another index.
    radios: BTreeMap<String, Radio>,
    /// Since when there has been no LAN, and whether that was reported.
    without: Option<Instant>,
    reported: bool,
    /// Number of further checks at which the node announces itself again: an IPv6 address is
    /// unusable for its first seconds.
    again: u8,
}

impl Driver {
    /// What is known about the network.
    pub(crate) fn lan(&self) -> LanReport {
        let now = self.now();
        let heard = self.heard.borrow();
        let heard_ms = heard
            .iter()
            .filter_map(|(index, heard)| Some((*index, (now - heard.group?).0)))
            .collect();
        let interfaces = self.socket.as_ref().map_or(Vec::new(), CatalogSocket::interfaces);
        let (renewals, radio) = self.recoveries.get();
        LanReport { interfaces, heard_ms, renewals, radio }
    }

    /// Records a datagram from another machine, under the interface that it came through
    /// the group on.
    pub(super) fn note_heard(&self, from: IpAddr, index: Option<u32>, swarm: bool) {
        if self.socket.as_ref().is_none_or(|socket| socket.is_own(from)) {
            return;
        }
        let now = self.now();
        let mut heard = self.heard.borrow_mut();
        // A datagram sent to this node's address may have come in on any interface.
        let known = heard.iter_mut().filter(|(of, _)| index.is_none_or(|index| index == **of));
        for (_, heard) in known {
            heard.any = Some(now);
            heard.swarm |= swarm;
            if index.is_some() && swarm {
                heard.group = Some(now);
            }
        }
    }

    /// Follows the interfaces as long as the node runs.
    pub(super) async fn follow(self: Rc<Self>) {
        let Some(socket) = &self.socket else { return };
        let mut lan = Lan::default();
        loop {
            // If the interfaces cannot be listed, the next check tries again.
            let changed = socket.follow().unwrap_or(false);
            let interfaces = socket.interfaces();
            self.tell_lan(&mut lan, &interfaces);
            self.renew(&mut lan, &interfaces, changed);
            self.shake(&mut lan, &interfaces).await;
            lan.again = if changed { ANEW } else { lan.again.saturating_sub(1) };
            if lan.again > 0 {
                self.handle(Input::NetworkChanged);
            }
            Timer::after(LOOK_INTERVAL).await;
        }
    }

    /// Reports that there is no LAN once that has lasted a while, and that there is one again.
    fn tell_lan(&self, lan: &mut Lan, interfaces: &[Interface]) {
        let leads_out = |interface: &Interface| {
            interface.is_used() && !interface.v4.is_some_and(|ip| ip.is_loopback())
        };
        let named = interfaces.iter().any(|interface| interface.verdict == Verdict::NotNamed);
        if interfaces.iter().any(leads_out) || named && interfaces.iter().any(Interface::is_used) {
            if core::mem::take(&mut lan.reported) {
                say(
                    &self.words,
                    DriverEvent::Note(
                        Level::Info,
                        "there is a LAN now: looking for peers".to_string(),
                    ),
                );
            }
            lan.without = None;
            return;
        }
        let since = *lan.without.get_or_insert_with(Instant::now);
        if !lan.reported && since.elapsed() >= LAN_TIMEOUT {
            lan.reported = true;
            let names_peers = self.socket.as_ref().is_some_and(CatalogSocket::names_peers);
            say(
                &self.words,
                DriverEvent::Note(Level::Warn, console::no_lan(interfaces, names_peers)),
            );
        }
    }

    /// Renews the memberships that deliver nothing.
    fn renew(&self, lan: &mut Lan, interfaces: &[Interface], changed: bool) {
        let (Some(socket), now) = (&self.socket, self.now()) else { return };
        let used = |interface: &&Interface| {
            interface.is_used() && !interface.v4.is_some_and(|ip| ip.is_loopback())
        };
        let used: Vec<u32> =
            interfaces.iter().filter(used).map(|interface| interface.index).collect();
        lan.renewals.retain(|index, _| used.contains(index));
        self.heard.borrow_mut().retain(|index, _| used.contains(index));
        let (mut count, radio) = self.recoveries.get();
        for index in used {
            let heard = self.heard.borrow_mut().entry(index).or_default().group;
            let renewal = lan
                .renewals
                .entry(index)
                .or_insert_with(|| Renewal::new(socket.interval_ms(), now));
            if changed {
                *renewal = Renewal::new(socket.interval_ms(), now);
            }
            heard.filter(|at| *at > self.looked.get()).iter().for_each(|at| renewal.heard(*at));
            if renewal.is_due(now) {
                socket.renew(index);
                count += 1;
            }
        }
        self.looked.set(now);
        self.recoveries.set((count, radio));
    }

    /// Checks whether a radio is deaf, and tries remedies.
    async fn shake(&self, lan: &mut Lan, interfaces: &[Interface]) {
        let Some(socket) = &self.socket else { return };
        let radios =
            interfaces.iter().filter(|interface| interface.wireless && interface.is_used());
        for interface in radios {
            let (now, index) = (self.now(), interface.index);
            let radio = lan
                .radios
                .entry(interface.name.clone())
                .or_insert_with(|| Radio::new(socket.may_reboot(), now));
            let heard = self.heard.borrow().get(&index).copied().unwrap_or_default();
            if let Some(at) =
                heard.any.filter(|at| (now - *at).0 <= 2 * LOOK_INTERVAL.as_millis() as u64)
            {
                radio.heard(heard.swarm, at);
            } else if radio.is_quiet(now)
                && let Some(gateway) = interfaces::gateway(Path::new("/"), &interface.name)
            {
                if interfaces::answers(Path::new("/"), gateway) && radio.has_asked() {
                    radio.gateway_answers(now);
                }
                radio.asked();
                socket.send_to(&[], (gateway, DISCARD).into()).await;
            }
            let Some(step) = radio.poll(now) else { continue };
            let (silent_s, counts) = (radio.silent_ms(now) / 1_000, radio.counts());
            self.recoveries.set((self.recoveries.get().0, counts));
            self.try_step(step, interface, silent_s).await;
        }
    }

    /// Tries one remedy for deafness. Beyond rejoining the group, only boards do that.
    async fn try_step(&self, step: Step, interface: &Interface, silent_s: u64) {
        let name = interface.name.clone();
        let is_board = Path::new(RADIO_SCRIPT).exists();
        let done = match step {
            Step::Rejoin => {
                self.socket.iter().for_each(|socket| socket.renew(interface.index));
                Ok(())
            }
            _ if !is_board => Err("that is left to this machine's owner".to_string()),
            Step::Bounce => smol::unblock(move || script("bounce", &name)).await,
            Step::Reload => smol::unblock(move || script("reload", &name)).await,
            Step::Reboot => {
                say(&self.words, DriverEvent::Reboot);
                Ok(())
            }
        };
        let line = console::deaf_radio(
            &interface.name,
            silent_s,
            step,
            done.as_ref().err().map(String::as_str),
        );
        say(&self.words, DriverEvent::Note(Level::Warn, line));
    }
}

/// Runs the board's script; returns why it failed.
#[expect(clippy::disallowed_methods, reason = "a thread of its own waits for the script")]
fn script(what: &str, interface: &str) -> Result<(), String> {
    let mut command = Command::new(RADIO_SCRIPT);
    command
        .args([what, interface])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("{RADIO_SCRIPT} {what}: {status}")),
            Ok(None) if start.elapsed() < SCRIPT_TIMEOUT => {
                std::thread::sleep(Duration::from_millis(100))
            }
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{RADIO_SCRIPT} {what} did not end in time"));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}
