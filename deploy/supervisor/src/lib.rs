//! Runs the systemd units of a node on a host without systemd.
