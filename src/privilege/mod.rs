//! Taking the one right that is needed, and giving it up.
