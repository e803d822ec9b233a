//! What happens in a simulation, a line each with its virtual time: printed with `MIROIR_SIM_TRACE=1`,
//! for whoever has to explain one seed.

use std::cell::Cell;

use tokio::time::Instant;

thread_local! {
    static BEGIN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Times of this thread are counted from now on.
pub fn begin() {
    let on = std::env::var_os("MIROIR_SIM_TRACE").is_some();
    BEGIN.set(on.then(Instant::now));
}

/// Prints a line, if anybody wants to read it.
pub fn line(what: impl FnOnce() -> String) {
    if let Some(begin) = BEGIN.get() {
        println!("{:9.3} s  {}", begin.elapsed().as_secs_f64(), what());
    }
}
