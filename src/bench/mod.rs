//! `interlock bench`: measurements that the program makes of itself, and what they are made on.

pub mod fill;
pub mod lists;
pub mod routing;
