//! `interlock bench`: measurements that the program makes of itself.

pub mod routing;
