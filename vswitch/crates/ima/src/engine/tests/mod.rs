//! The engine with edges that believe what they are told, and nothing between them.

mod liar;
mod load;
mod operators;
mod random;
mod registration;
mod world;
