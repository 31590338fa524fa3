//! Every backend that this machine can run, against the reference and against misuse.

mod common;
mod differential;
mod guard;
mod stack;
mod vectors;
