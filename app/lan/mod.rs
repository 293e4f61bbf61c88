//! The LANs of this machine: which interfaces can be shared on, when the group membership is
//! renewed, and when a radio is deaf though it is up. This module only decides; the driver reads
//! the facts and acts.

mod interface;
mod radio;
mod renewal;

pub(crate) use interface::{Addr, Facts, Hardware, Interface, Verdict, Wanted, choose};
pub(crate) use radio::{Radio, RadioCounts, Step};
pub(crate) use renewal::Renewal;
