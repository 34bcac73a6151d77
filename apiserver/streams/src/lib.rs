//! Streaming and proxy subresources: exec, attach, portforward, log, proxy.
