//! Built-in admission plugins.
