//! Harnesses: agents that speak, run by the real engine. Only the words of the policy are written down.

#[cfg(feature = "code")]
mod code;
mod desk;
mod hostile;
mod judge;
mod tool_calls;
#[cfg(feature = "code")]
mod work;

/// As in `rao`: it counts what cells take.
#[cfg(feature = "code")]
#[global_allocator]
static ALLOCATOR: monty_alloc::LimitedAllocator = monty_alloc::LimitedAllocator;
