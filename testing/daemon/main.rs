//! The daemon from outside: the built program, over real sockets.

#[path = "../support/api.rs"]
mod api;
#[path = "../support/server.rs"]
mod server;

mod access;
mod backends;
mod cleaning;
mod clients;
mod create;
mod domains;
mod download;
mod files;
mod interruptions;
mod memory;
mod one_shot;
mod routing;
mod start;
mod tls;
