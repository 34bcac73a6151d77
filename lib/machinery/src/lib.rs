//! API machinery without I/O: status errors, field errors, selectors, quantities, names, metadata.
