//! A strict reader of the text format of Prometheus, for tests.
