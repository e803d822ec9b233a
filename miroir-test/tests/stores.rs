//! The in-memory stores keep the contract of the store traits.

miroir_test::store_suite!(memory, async || miroir::store::memory::open());
