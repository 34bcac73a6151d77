//! What every binary shares: TLS, logging, metrics, health endpoints, shutdown.
