//! The subcommands: one file each, with its arguments and its `run`. The only room that prints.

pub mod exit;
pub mod fakedb;
