//! From the text to the [`super::Config`].
