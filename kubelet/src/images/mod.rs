//! Images: names, pull policy, back-off, pulls.

pub mod collect;
pub mod credentials;
pub mod name;
pub mod puller;

pub use puller::{Ensured, ImageError, Images};
