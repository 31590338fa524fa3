//! The engine with edges that believe what they are told, and nothing between them.

mod budget;
mod former;
mod leases;
mod liar;
mod load;
mod operators;
mod outcasts;
mod places;
mod random;
mod registration;
mod world;
