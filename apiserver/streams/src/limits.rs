//! What a stream may cost.

use std::time::Duration;

/// Longest wait for a backend to take a connection and finish its handshake.
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for a backend's answer to an upgrade.
pub(crate) const UPGRADE_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest SPDY frame taken from a kubelet, in bytes.
pub(crate) const SPDY_FRAME_BYTES_MAX: usize = 1 << 20;
/// Largest WebSocket message taken from a client, in bytes.
pub(crate) const WEBSOCKET_MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Largest status a kubelet may send on the error stream, in bytes.
pub(crate) const ERROR_STREAM_BYTES_MAX: usize = 64 << 10;
/// Largest page whose links are rewritten, in bytes; larger ones pass as they are.
pub(crate) const HTML_BYTES_MAX: usize = 4 << 20;
/// Most of a backend's refusal that is shown, in bytes.
pub(crate) const REFUSAL_BYTES_MAX: usize = 64 << 10;
/// Bytes read at once when copying.
pub(crate) const COPY_BYTES: usize = 16 << 10;
