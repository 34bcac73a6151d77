//! Who asks, and whether they may: authentication and authorization of the API server.
//!
//! Every decision is a synchronous function over values: the credentials of a request or its [`Attributes`], the
//! objects in the server's watch cache ([`keelson_machinery::ObjectReader`]) and the time the caller passes. Nothing
//! here opens a socket or reads a clock. Webhook authentication and authorization are not here: they wait on the
//! network, and take their places in the tables of [`authn::union`] and [`authz::modes`].

pub mod authn;
pub mod authz;
pub mod bootstrap;
pub mod build;
pub mod impersonation;
pub mod limits;
pub mod pod_references;
pub mod review;
pub mod token;
pub mod token_request;
pub mod user;

pub use authn::{AuthError, Authenticator, Credentials};
pub use authz::{Attributes, Authorizer, Decision};
pub use bootstrap::objects as bootstrap_objects;
pub use build::{Auth, BuildError, Config, build};
pub use user::UserInfo;
