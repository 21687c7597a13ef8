//! The program as people and scripts meet it: real processes, real folders, a real service and node.

mod modes;
mod up;
mod words;
mod world;
