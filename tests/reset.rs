//! A reset of real processes. The simulator's chapter tells what a reset means for a swarm.

mod processes;
