//! Bytes on their way along the connections of the LAN.

use potluck::node::{ConnId, Input};

use super::World;

impl World {
    /// Moves bytes along every connection, as many as a millisecond allows.
    pub(super) fn carry(&mut self) {
        if self.weather.stall_at.is_some_and(|at| self.now >= at) {
            return;
        }
        let conns: Vec<[(usize, ConnId); 2]> = self.wires.iter().map(|wire| wire.ends).collect();
        for ends in conns {
            for to in 0..2 {
                self.carry_to(ends, to);
            }
        }
    }

    fn carry_to(&mut self, ends: [(usize, ConnId); 2], to: usize) {
        let (source, conn) = ends[1 - to];
        let mut out = Vec::new();
        let room = self.weather.bytes_per_ms;
        let waiting = |world: &World| world.wires.iter().find(|wire| wire.ends == ends).map(|wire| wire.flying[to].len());
        while waiting(self).is_some_and(|flying| flying < room) {
            out.clear();
            if !self.poll_send(source, conn, &mut out) {
                break;
            }
            if let Some(wire) = self.wires.iter_mut().find(|wire| wire.ends == ends) {
                wire.flying[to].extend(&out);
            }
        }
        let Some(wire) = self.wires.iter_mut().find(|wire| wire.ends == ends) else { return self.drain(source) };
        let count = room.min(wire.flying[to].len());
        let mut bytes: Vec<u8> = wire.flying[to].drain(..count).collect();
        if let Some(at) = self.weather.damage_byte
            && (self.carried..self.carried + bytes.len() as u64).contains(&at)
        {
            bytes[(at - self.carried) as usize] ^= 0x10;
        }
        self.carried += bytes.len() as u64;
        self.drain(source);
        let (target, conn) = ends[to];
        if let Some(impostor) = self.members[target].impostors.get_mut(&conn) {
            impostor.hear(&bytes, |key| self.truths.get(key).cloned().flatten(), self.now);
        } else if !bytes.is_empty() {
            self.handle(target, Input::Bytes { conn, bytes: &bytes });
        }
    }
}
