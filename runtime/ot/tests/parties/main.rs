//! Both parties against each other: algebra, costs, views and faults.

mod algebra;
mod common;
mod views;
