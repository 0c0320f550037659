//! The metadata backend: users, tokens, uploads, files and settings, as rows of SQLite or
//! PostgreSQL. Each statement is written once, for both engines.

pub mod table;
