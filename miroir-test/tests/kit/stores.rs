//! The in-memory stores keep the contract of the store traits.

miroir_test::store_suite!(memory, async || miroir_store::memory::open());

#[tokio::test]
async fn leases_end_by_the_callers_clock() {
    let stores = miroir_store::memory::open();
    miroir_test::stores::leases::ends_follow_the_callers_clock(&stores).await;
}
