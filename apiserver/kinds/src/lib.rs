//! Every built-in kind: defaults, validation, strategies, columns. Pure.
