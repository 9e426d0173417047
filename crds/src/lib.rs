//! hz-crds
