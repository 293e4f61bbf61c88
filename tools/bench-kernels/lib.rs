//! Nothing: the benches of this package are in `benches/kernels.rs`.
