//! plikd: a temporary file sharing server that can move, at any time, from one set of backends to
//! another.
//!
//! The rooms of the house, from the ground up; an arrow between them may only point down:
//!
//! - [`model`]: uploads, files, ids and times; no I/O
//! - [`files`]: files that a person names
//! - [`logging`], [`lifecycle`]: log lines, and signals that ask the process to end
//! - [`config`]: `plikd.cfg` and `PLIKD_*`
//! - [`data`]: the bytes of files, in a directory or an S3 bucket
//! - [`metadata`]: the rows, in SQLite or PostgreSQL
//! - [`clean`]: removes what has expired
//! - [`migrate`]: moves a server from one set of backends to another
//! - [`fakedb`]: makes up a server, to try things on
//! - [`http`]: the API
//! - [`cmd`]: the subcommands

pub mod clean;
pub mod cmd;
pub mod config;
pub mod data;
pub mod fakedb;
pub mod files;
pub mod http;
pub mod lifecycle;
pub mod logging;
pub mod metadata;
pub mod migrate;
pub mod model;
