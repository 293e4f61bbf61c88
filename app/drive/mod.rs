//! (drive)
