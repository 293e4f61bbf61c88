//! (sampler)
