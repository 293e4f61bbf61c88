//! Where on this machine a LAN is: which interfaces are fit to share on, when the membership of the group is renewed, and when a radio is
//! deaf though it is up. Decisions alone: the driver reads the facts and acts.

mod interface;
mod radio;
mod renewal;

pub(crate) use interface::{Addr, Facts, Hardware, Interface, Verdict, Wanted, choose};
pub(crate) use radio::{Radio, RadioCounts, Step};
pub(crate) use renewal::Renewal;
