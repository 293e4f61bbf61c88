//! Everything that a mixed run may do to a swarm, and how it heals.

use super::cast::{Mischief, Raid};
use super::heap::{Dice, MS, Micros, SECOND};
use super::net::Weather;
use super::world::{Power, Sim};

/// Every kind of event that a long run must count at least once.
pub const KINDS: [&str; 35] = [
    "bytes vanished",
    "card full",
    "clock drifts",
    "connect hangs",
    "connect refused",
    "connection cut within a stream",
    "datagram across a cut network",
    "datagram damaged",
    "datagram late",
    "datagram lost",
    "datagram twice",
    "engine slows down",
    "line slows down",
    "network cut: bridge",
    "network cut: halves",
    "network cut: one alone",
    "network cut: one way",
    "network cut: ring",
    "node killed",
    "node left",
    "node paused",
    "node restarted",
    "node with another key",
    "node with another model",
    "peer breaks rules",
    "peer declines",
    "peer falls silent",
    "peer lies in content",
    "power cut",
    "raid",
    "reset",
    "segment resent",
    "stream across a cut network",
    "stream damaged",
    "stream stalls",
];

/// What nodes must have done in a long run; otherwise the faults kept them from working.
pub const DEEDS: [&str; 12] = [
    "drafts from peers right",
    "drafts from peers wrong",
    "drafts from peers' habits right",
    "drafts from peers' habits wrong",
    "drafts from the own slab right",
    "drafts from the own slab wrong",
    "own state used",
    "peers' state used",
    "peers' state used and more computed",
    "prompt answered",
    "prompt stopped",
    "wrong bytes owned up to",
];

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    Kill,
    CutPower,
    Leave,
    Restart,
    ForgetEpoch,
    Pause,
    SlowEngine,
    SlowLine,
    Divide,
    CutStream,
    StallStream,
    VanishStream,
    Reset,
    FillCard,
    Corrupt,
    Raid,
    Weather,
    Reconcile,
}

impl Fault {
    pub const ALL: [Fault; 18] = [
        Fault::Kill,
        Fault::CutPower,
        Fault::Leave,
        Fault::Restart,
        Fault::ForgetEpoch,
        Fault::Pause,
        Fault::SlowEngine,
        Fault::SlowLine,
        Fault::Divide,
        Fault::CutStream,
        Fault::StallStream,
        Fault::VanishStream,
        Fault::Reset,
        Fault::FillCard,
        Fault::Corrupt,
        Fault::Raid,
        Fault::Weather,
        Fault::Reconcile,
    ];
}

/// A bad period of a network.
pub fn bad_weather(dice: &mut Dice) -> Weather {
    let mut rate = |most: u64| if dice.chance(500) { dice.between(1, most) } else { 0 };
    Weather {
        lose: rate(500),
        duplicate: rate(200),
        late: rate(300),
        delay: rate(2_000) * MS,
        flip: rate(100),
        resend: rate(50),
        retransmission: 200 * MS + rate(800) * MS,
        damage: rate(2_000),
        refuse: rate(200),
        hang: rate(200),
        latency: 100 + rate(20) * MS,
    }
}

impl Sim {
    /// Inflicts `fault` on stations that the dice choose.
    pub fn inflict(&mut self, fault: Fault, dice: &mut Dice, lies: bool) {
        let who = dice.index(self.stations.len());
        if self.trace {
            eprintln!("{:>12} fault {fault:?} of node {who}", self.now);
        }
        let on = self.stations[who].power == Power::On;
        match fault {
            Fault::Kill if on => self.kill(who),
            Fault::CutPower if on => self.cut_power(who),
            Fault::Leave if on => self.leave(who),
            Fault::Restart => self.restart(who),
            Fault::ForgetEpoch => {
                self.stations[who].saved = Default::default();
                self.restart(who);
            }
            Fault::Pause if on => self.pause(who, dice.between(10, 20_000)),
            Fault::SlowEngine => {
                self.count("engine slows down");
                let station = &mut self.stations[who];
                station.engine.micros_per_token = dice.between(1, 60) * MS;
                station.ledger.disturb();
                station.rate_changed = Some((self.now, 0));
            }
            Fault::SlowLine => {
                self.count("line slows down");
                let rate = dice.between(1, 2_000);
                self.set_rate(who, rate);
                self.net.air.bytes_per_ms = 2 * rate;
            }
            Fault::Divide => self.divide(dice),
            Fault::CutStream | Fault::StallStream | Fault::VanishStream => {
                self.hurt_stream(fault, dice)
            }
            Fault::Reset if on => self.reset(who, dice.chance(500)),
            Fault::FillCard => {
                self.count("card full");
                let card = &mut self.stations[who].card_full;
                *card = !*card;
            }
            Fault::Corrupt => {
                let mischief = Mischief::ALL[dice.index(Mischief::ALL.len())];
                if lies || !mischief.lies_in_content() {
                    self.corrupt(who, mischief);
                }
            }
            Fault::Raid => {
                let victim = dice.index(self.stations.len());
                let raid = &[Raid::Mute, Raid::Idle, Raid::Wants, Raid::Garbage][dice.index(4)];
                let count = dice.between(1, 40) as usize;
                // Two hostile nodes promise each other nothing, and their connection need not end.
                let honest = victim != who && self.stations[victim].mischief.is_none();
                if honest
                    && self.stations[victim].power == Power::On
                    && self.stations[who].power == Power::On
                {
                    self.raid(who, victim, raid, count);
                }
            }
            Fault::Weather => self.net.weather = bad_weather(dice),
            Fault::Reconcile => self.net.cuts.clear(),
            _ => {}
        }
    }

    /// Cuts the network in a shape typical of real networks.
    fn divide(&mut self, dice: &mut Dice) {
        let count = self.stations.len();
        let mut cut = |one: usize, other: usize| {
            if one != other {
                self.net.cuts.insert((one, other));
            }
        };
        let shape = dice.index(5);
        let who = dice.index(count);
        for one in 0..count {
            for other in 0..count {
                let parted = match shape {
                    0 => (one < count / 2) != (other < count / 2),
                    1 => (one == who) != (other == who),
                    // Nobody hears `who`.
                    2 => one == who,
                    // All others hear only `who`.
                    3 => one != who && other != who,
                    _ => one.abs_diff(other) > 1 && one.abs_diff(other) < count - 1,
                };
                if parted {
                    cut(one, other);
                }
            }
        }
        let names = ["halves", "one alone", "one way", "bridge", "ring"];
        self.count(match names[shape] {
            "halves" => "network cut: halves",
            "one alone" => "network cut: one alone",
            "one way" => "network cut: one way",
            "bridge" => "network cut: bridge",
            _ => "network cut: ring",
        });
    }

    fn hurt_stream(&mut self, fault: Fault, dice: &mut Dice) {
        if self.net.pipes.is_empty() {
            return;
        }
        let at = dice.index(self.net.pipes.len());
        let until: Micros = self.now + dice.between(1, 20_000) * MS;
        let Some(pipe) = self.net.pipes.values_mut().nth(at) else { return };
        let stream = &mut pipe.to[dice.index(2)];
        match fault {
            Fault::CutStream => stream.cut_at = Some(stream.carried + dice.below(20_000)),
            Fault::VanishStream => stream.vanishes = true,
            _ => {
                stream.stalled_until = until;
                self.count("stream stalls");
            }
        }
    }

    /// Ends all faults.
    pub fn heal(&mut self) {
        self.net.weather = Weather::default();
        self.net.cuts.clear();
        self.net.air.bytes_per_ms = 20_000;
        let hurt = |pipe: &super::net::Pipe| pipe.to.iter().any(|stream| stream.vanishes);
        let hurt: Vec<u64> =
            self.net.pipes.iter().filter(|(_, pipe)| hurt(pipe)).map(|(id, _)| *id).collect();
        for id in hurt {
            self.break_pipe(id);
        }
        for who in 0..self.stations.len() {
            self.set_rate(who, 20_000);
            self.stations[who].card_full = false;
            self.stations[who].paused_until = 0;
            let flaw = self.stations[who].engine.flaw.take();
            if self.stations[who].mischief.take().is_some()
                || flaw.is_some()
                || self.stations[who].power != Power::On
            {
                self.restart(who);
            }
            self.handle(who, super::host::Happening::Tick);
            self.resumes(who);
        }
        // Ends all raids.
        let raids: Vec<u64> =
            self.net.pipes.iter().filter(|(_, pipe)| is_cast(pipe)).map(|(id, _)| *id).collect();
        for id in raids {
            self.break_pipe(id);
        }
        self.pass(SECOND / MS);
    }
}

fn is_cast(pipe: &super::net::Pipe) -> bool {
    pipe.ends.iter().any(|end| matches!(end.handle, super::net::Handle::Cast(_)))
}
