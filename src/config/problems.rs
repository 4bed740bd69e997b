//! Mistakes and their places.
