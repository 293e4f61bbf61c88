//! A reset of real processes; what a reset is to a swarm is told by the simulator's chapter.

mod processes;
