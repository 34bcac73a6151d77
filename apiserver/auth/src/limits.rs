//! Bounds of what authentication keeps in memory.

/// Tokens whose verified claims are kept; about 500 bytes each. When full, all are forgotten and verified anew.
pub const VERIFIED_TOKENS_MAX: usize = 4096;
/// Client certificates whose verified identity is kept; as above.
pub const VERIFIED_CERTIFICATES_MAX: usize = 1024;
/// How long a certificate chain counts as verified.
pub const VERIFIED_CERTIFICATE_S: i64 = 300;
/// The longest bearer token looked at, in bytes.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
