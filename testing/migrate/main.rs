//! `plikd migrate`, the built program between real backends: what the manual promises, and what
//! must not happen to anyone.

#[path = "../support/dump/blobs.rs"]
mod blobs;
#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/dump/rows.rs"]
mod rows;

mod places;
mod plain;
mod scene;

mod certificates;
mod checks;
mod clients;
mod continuations;
mod dialect;
mod differences;
mod directions;
mod dry_run;
mod encryption;
mod events;
mod fault_table;
mod faults;
mod file_states;
mod following;
mod fresh;
mod hostile;
mod interlocks;
mod kills;
mod live;
mod loading;
mod locks;
mod manual;
mod moved;
mod named_rows;
mod network;
mod others_rows;
mod outage;
mod outputs;
mod own_postgres;
mod own_s3;
mod parts;
mod plans;
mod privileged;
mod proofs;
mod properties;
mod rejects;
mod reports;
mod resume;
mod retries;
mod same_place;
mod server_copy;
mod settings;
mod shards;
mod strangers;
mod sync;
mod sync_kills;
mod tables;
mod trial;
mod unusable_sources;
mod unusable_targets;
mod uploads;
mod values;
mod verify;
mod verify_reports;
mod versions;
