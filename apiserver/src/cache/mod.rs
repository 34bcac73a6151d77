//! The watch cache: every object as the bytes that are served, every change of late, and whom to tell.
//!
//! One feed reads and watches the whole key space of the server, so all resources stand at one revision: a read that
//! waits for it sees every write acknowledged before, whatever the resource. Readers take shared bytes; memory does
//! not grow with their number.

pub mod entry;
pub mod feed;
pub mod progress;
pub mod reader;
pub mod resource;
pub mod selection;

pub use entry::{Entry, Event};
pub use progress::Progress;
pub use resource::{ResourceCache, Subscription};
pub use selection::Selection;
