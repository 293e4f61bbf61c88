//! Both sides of a connection against each other, in memory.

mod damage;
mod drafts;
mod locked;
mod pair;
mod rules;
mod talk;

pub(super) use pair::cases;
