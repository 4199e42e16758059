//! The command `rao`: see [`cli`].

mod cli;

/// Counts what cells of Python take: see [`rao_trainer::language::Sandbox::memory`].
#[cfg(feature = "code")]
#[global_allocator]
static ALLOCATOR: monty_alloc::LimitedAllocator = monty_alloc::LimitedAllocator;

fn main() -> std::process::ExitCode {
    cli::main()
}
