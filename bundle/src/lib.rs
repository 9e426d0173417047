//! hz-bundle
