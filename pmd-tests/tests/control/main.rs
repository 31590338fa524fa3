//! Switches under a mapping authority: daemons with agreed keys, and what keeps, kills and outlives
//! them.

mod authority;
mod authority_blocked;
mod authority_clock;
mod authority_cluster;
mod authority_exception;
mod authority_full_load;
mod authority_killed;
mod authority_killed_moving;
mod authority_killed_revoking;
mod authority_limit;
mod authority_load;
mod authority_moves;
mod authority_scan;
mod authority_steps;
mod authority_strangers;
mod demand;
mod secrets;
