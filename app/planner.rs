//! (planner)
