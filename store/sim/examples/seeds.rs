//! Runs a range of seeds and names those that do not hold: `seeds FIRST COUNT`.
//!
//! Ends with an error if there are any. For long runs in an optimised build; the tests run few. With `KEELSON_TRACE` set, what
//! members log is shown too.

use std::process::ExitCode;

use keelson_store_sim::world::run;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>());
    let (Some(Ok(first)), Some(Ok(count))) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: seeds FIRST COUNT");
        return ExitCode::from(2);
    };
    if std::env::var_os("KEELSON_TRACE").is_some() {
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
            .without_time()
            .with_writer(std::io::stderr)
            .init();
    }
    let mut failed = 0;
    for seed in first..first.saturating_add(count) {
        let outcome = std::panic::catch_unwind(|| run(seed, None));
        let error = match outcome {
            Ok(Ok(_)) => continue,
            Ok(Err(error)) => error,
            Err(_) => "a member panicked".to_owned(),
        };
        failed += 1;
        let line = error.lines().next().unwrap_or_default();
        println!("KEELSON_SEED={seed}: {line}");
    }
    println!(
        "{count} seeds from {first}: {} held, {failed} did not",
        count - failed
    );
    ExitCode::from(u8::from(failed > 0))
}
